import type { Answer, Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { mergedList, type Row } from "./treatment.ts";

/**
 * Sees to it that a host has the image that a create names.
 * @throws HttpError what the engines said while it was copied
 */
export type BringImage = (image: string, host: string) => Promise<void>;

/** A create does better to wait for an engine that is busy than to go without its image. */
const COPY_PATIENCE_MS = 30_000;

/** `images/…` and what makes images: one looks the same from everywhere. */
export function images(engines: Engines): Row[] {
	/** Gone from everywhere: the copies first, then where the client reads what was removed. */
	async function remove(ref: string, request: string): Promise<EnginePool> {
		const has = (await engines.ask(`/images/${ref}/json`)).filter(
			({ answer }) => answer !== undefined,
		);
		const [first, ...copies] = has;
		await Promise.allSettled(
			copies.map(async ({ host }) =>
				(await engines.cluster.engine(host)).remove(request),
			),
		);
		return first ? engines.pool(first.host) : engines.local;
	}

	return [
		[/^GET$/, /^\/images\/json$/, mergedList(engines, mergeImages)],
		[
			/^POST$/,
			/^\/(?:build|session|grpc|images\/create|images\/load)$/,
			async () => engines.pool(await maker(engines)),
		],
		[
			/^DELETE$/,
			/^\/images\/(.+)$/,
			({ ref, path, query }) => remove(ref, path + query),
		],
		[
			/^/,
			/^\/images\/(.+)\/(?:json|history|get|tag|push)$/,
			({ ref }) => engines.holderOf(`/images/${ref}/json`),
		],
	];
}

/**
 * A host that lacks an image, or has an older one of that name, gets it from where images are
 * made, else from any that has it; if none has, its engine says so.
 */
export function imageCarrier(engines: Engines): BringImage {
	/** Images that are on their way, by name and host: creates at once share one copy. */
	const copying = new Map<string, Promise<void>>();
	const { cluster } = engines;

	return async (image, host) => {
		const path = `/images/${image}/json`;
		const answers = (await engines.ask(path, COPY_PATIENCE_MS)).filter(
			({ answer }) => answer !== undefined,
		);
		const made = await maker(engines);
		const source = answers.find((each) => each.host === made) ?? answers[0];
		const target = answers.find((each) => each.host === host);
		if (!source || idOf(source) === (target && idOf(target))) return;
		if (target && source.host !== made) return; // none is newer for certain
		const key = `${image} ${host}`;
		const copy = async () => {
			const to = await cluster.engine(host);
			await to.copyImage(image, await cluster.engine(source.host));
		};
		const running = copying.get(key) ?? copy();
		copying.set(key, running);
		try {
			await running;
		} finally {
			copying.delete(key);
		}
	};
}

/** Images are made on one host, the same for every gateway, so that one build finds what another made. */
async function maker({ cluster }: Engines): Promise<string> {
	const names = (await cluster.reachable()).map(({ name }) => name);
	return names.sort()[0] as string;
}

function idOf({ answer }: Answer): string {
	return (answer as { Id: string }).Id;
}

interface Image {
	Id: string;
	Created: number;
}

/** `GET /images/json` of all hosts: each image once, newest first. */
function mergeImages(answers: Answer[]): unknown {
	const images = new Map<string, Image>();
	for (const { answer } of answers) {
		for (const image of answer as Image[]) {
			if (!images.has(image.Id)) images.set(image.Id, image);
		}
	}
	return [...images.values()].sort((a, b) => b.Created - a.Created);
}
