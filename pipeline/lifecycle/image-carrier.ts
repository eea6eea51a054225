import { setTimeout } from "node:timers/promises";
import { type HostAnswer, isUnheard, whoHas } from "../answers.ts";
import type { Cluster } from "../cluster.ts";
import { imagePath } from "../docker.ts";
import type { Engine } from "../engine.ts";
import { HttpError } from "../errors.ts";
import { IMAGES, type ImageRecord, imageKey } from "../state/images.ts";
import type { Entry } from "../state/store.ts";
import {
	contentOf,
	type Held,
	type ImageInspect,
	type Images,
	isOnRecord,
	namedAt,
} from "./images.ts";

/** How long a host may stay silent that an image is copied to or from, or that named it last: it may have much to do. */
const PATIENCE_MS = 10_000;
/** Between two looks whether a name is given. */
const LOOK_MS = 50;

/** As long as a client waits for a create. */
const CREATE_MS = 30_000;

/**
 * Sees to it that a host has the image that a create names.
 * @throws HttpError what the engines said while it was copied
 */
export type BringImage = (image: string, host: string) => Promise<void>;

/** Where an image is copied from. */
interface Source {
	host: string;
	/** Whether a request under way may just have given the name to what the host has of it: a copy would undo that. */
	undoes: boolean;
}

/**
 * A host that lacks an image, or has an older one of that name, gets it from where it was named last; if none has it, its
 * engine says so. Consul knows what a name means, so the host itself is asked, and those where images are just being
 * named; all are only where nothing is on record, or not what there is.
 */
export function imageCarrier(cluster: Cluster, images: Images): BringImage {
	const asking = { patience: PATIENCE_MS };
	/** Images that are on their way, by name and host: creates at once share one copy. */
	const copying = new Map<string, Promise<void>>();

	/**
	 * What to copy an image from; undefined where the host has it already, or nobody has.
	 * @throws HttpError 502 if the host itself does not answer
	 */
	async function sourceFor(
		image: string,
		host: string,
	): Promise<Source | undefined> {
		const path = imagePath(image);
		const [answer, known] = await Promise.all([
			cluster.ask(host, (engine) => engine.get<ImageInspect>(path), asking),
			images.records.look(image).catch(() => undefined), // without Consul, the engines must do
		]);
		const own: HostAnswer<ImageInspect>[] = [{ host, answer }];
		const [here] = byName(image, own, known?.record);
		const undoes = Boolean(known?.given.has(host) || known?.perhaps.has(host));
		const from = (source: Held | undefined): Source | undefined => {
			if (!source) return undefined;
			if (!here) return { host: source.host, undoes: false };
			if (contentOf(source.image) === contentOf(here.image)) return undefined;
			return { host: source.host, undoes };
		};
		if (known) {
			const { record, given, perhaps } = known;
			const elsewhere = [...perhaps].filter((each) => each !== host);
			const there = [...given].filter((each) => each !== host);
			const told = [
				...own,
				...(await cluster.answers<ImageInspect>(path, elsewhere)),
				...(await Promise.all(there.map((each) => atHome(each, image, path)))),
			];
			const [newest] = byName(image, told, record);
			const isNewest = newest && newest.at >= (record?.value.at ?? 0);
			if (isNewest) return from(newest);
			if (record) {
				const { host: home, id } = record.value;
				const found = await atHome(home, image, path);
				const [there] = byName(image, [found], record);
				if (there?.image.Id === id) return from(there);
			}
		}
		return from(await anywhere(image, path, known?.record));
	}

	/** The same, once the host gives no names any more; a build may do so for long, and is not waited for to its end. */
	async function settledSourceFor(
		image: string,
		host: string,
	): Promise<string | undefined> {
		const until = performance.now() + PATIENCE_MS;
		for (;;) {
			const source = await sourceFor(image, host);
			if (!source?.undoes || performance.now() > until) return source?.host;
			await setTimeout(LOOK_MS);
		}
	}

	/**
	 * What a host has that named the image last, or is doing so. One that lives is waited for: what the others have of
	 * that name is older.
	 * @throws HttpError 503 if it does not answer
	 */
	async function atHome(
		home: string,
		image: string,
		path: string,
	): Promise<HostAnswer<ImageInspect>> {
		if (!(await cluster.reachable()).includes(home)) {
			return { host: home, answer: undefined };
		}
		try {
			const answer = await cluster.ask(
				home,
				(engine) => engine.get<ImageInspect>(path),
				asking,
			);
			return { host: home, answer };
		} catch (error) {
			if (!isUnheard(error)) throw error;
			throw new HttpError(
				503,
				`image ${image} may be a newer one on host ${home}, which does not answer; try again`,
			);
		}
	}

	/** The image as any host has it, whatever is on record. */
	async function anywhere(
		image: string,
		path: string,
		record: Entry<ImageRecord> | undefined,
	): Promise<Held | undefined> {
		const told = await cluster.surelyAnswers<ImageInspect>(path, CREATE_MS);
		const [source] = byName(image, told, record);
		if (record) void images.correct(record, source).catch(() => {});
		return source;
	}

	return async function bring(image, host): Promise<void> {
		const source = await settledSourceFor(image, host);
		if (source === undefined) return;
		const key = `${image} ${host}`;
		const running = copying.get(key);
		if (running) {
			await running;
			return bring(image, host); // it may have been named anew since that copy began
		}
		const copy = async () => {
			const to = await cluster.engine(host);
			// one that dies says nothing more
			await cluster.ask(
				source,
				async (from) => to.copyImage(await exactly(image, from), from),
				asking,
			);
		};
		const own = copy();
		copying.set(key, own);
		try {
			await own;
		} finally {
			copying.delete(key);
		}
	};
}

/**
 * One name of one image: of a name without a tag engines save all tags, and those would go over newer ones where they
 * are loaded.
 */
async function exactly(image: string, from: Engine): Promise<string> {
	const tagged = imageKey(image)?.slice(IMAGES.length);
	const found = await from.get<{ RepoTags?: string[] | null }>(
		imagePath(image),
	);
	return tagged && found?.RepoTags?.includes(tagged) ? tagged : image;
}

/** Whether any host has an image. */
export async function isAnywhere(
	image: string,
	cluster: Cluster,
): Promise<boolean> {
	const told = await cluster.surelyAnswers(imagePath(image), CREATE_MS);
	return whoHas(told).length > 0;
}

/**
 * The hosts that have an image, the one that was given its name last before others: what the name means there, it means.
 * Where a name reads like the start of an id, an engine without that name means an id by it: its answer is another image.
 * @param answers to `GET /images/{name}/json`
 * @param record what is on record of the name: an engine that got the image as a copy does not know when it was named
 */
export function byName(
	name: string,
	answers: readonly HostAnswer<ImageInspect>[],
	record?: Entry<ImageRecord>,
): Held[] {
	const tag = /^[0-9a-f]+$/.test(name)
		? imageKey(name)?.slice(IMAGES.length)
		: undefined;
	const isNamed = ({ image }: Held) =>
		tag !== undefined && image.RepoTags?.includes(tag) === true;
	// of copies with several ids that is the one that clients are told
	const idOnRecord = ({ image }: Held) => Number(image.Id === record?.value.id);
	const all = whoHas(answers)
		.map(({ host, answer: image }) => {
			const known = isOnRecord(image, record?.value) ? record?.value.at : 0;
			return { host, at: Math.max(namedAt(image), known ?? 0), image };
		})
		.sort((a, b) => b.at - a.at || idOnRecord(b) - idOnRecord(a));
	const meansName = tag && (record || all.some(isNamed));
	return meansName ? all.filter(isNamed) : all;
}
