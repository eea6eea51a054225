import type { Answer, Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import {
	type Asked,
	addedUp,
	type Merged,
	mergedList,
	type Row,
} from "./treatment.ts";

/**
 * Sees to it that a host has the image that a create names.
 * @throws HttpError what the engines said while it was copied
 */
export type BringImage = (image: string, host: string) => Promise<void>;

/** `images/…` and what makes images: one looks the same from everywhere. */
export function images(engines: Engines, bringImage: BringImage): Row[] {
	const { cluster, local } = engines;

	async function holder(ref: string): Promise<EnginePool> {
		const [first] = await holders(engines, ref);
		return first ? engines.pool(first.host) : local;
	}

	/**
	 * Removes an image from everywhere, or from nowhere: hosts where containers use it are asked first, one after the
	 * other, and the first that refuses ends it.
	 */
	async function remove({
		ref,
		path,
		query,
	}: Asked): Promise<EnginePool | Merged> {
		const has = await holders(engines, ref);
		if (has.length < 2) return has[0] ? engines.pool(has[0].host) : local;
		const users = await engines.ask("/containers/json?all=1");
		const used = has.filter((image) => {
			const rows = users.find(({ host }) => host === image.host)?.answer;
			return ((rows ?? []) as { ImageID: string }[]).some(
				({ ImageID }) => ImageID === idOf(image),
			);
		});
		const removed = ({ host }: Answer) =>
			cluster.ask(host, (engine) => engine.remove<object[]>(path + query));
		const said: object[] = [];
		for (const each of used) said.push(...(await removed(each)));
		const others = has.filter((each) => !used.includes(each));
		for (const each of await Promise.allSettled(others.map(removed))) {
			if (each.status === "fulfilled") said.push(...each.value);
		}
		const lines = new Set(said.map((line) => JSON.stringify(line)));
		return { status: 200, body: [...lines].map((line) => JSON.parse(line)) };
	}

	/** `GET /images/json` of all hosts: each image once, newest first, with the names that mean it. */
	async function merge(answers: Answer[]): Promise<unknown> {
		const images = new Map<string, Image>();
		const meanings = new Map<string, Set<string>>();
		for (const { answer } of answers) {
			for (const image of answer as Image[]) {
				const known = images.get(image.Id) ?? image;
				known.RepoTags = union(known.RepoTags, image.RepoTags);
				known.RepoDigests = union(known.RepoDigests, image.RepoDigests);
				images.set(image.Id, known);
				for (const tag of image.RepoTags ?? []) {
					meanings.set(tag, (meanings.get(tag) ?? new Set()).add(image.Id));
				}
			}
		}
		for (const [tag, ids] of meanings) {
			if (ids.size === 1 || tag === UNTAGGED) continue;
			const [meant] = await holders(engines, tag);
			for (const id of ids) {
				const image = images.get(id);
				if (!meant || !image || id === idOf(meant)) continue;
				const others = image.RepoTags?.filter((each) => each !== tag) ?? [];
				image.RepoTags = others.length > 0 ? others : [UNTAGGED];
			}
		}
		return [...images.values()].sort((a, b) => b.Created - a.Created);
	}

	/** An image is made where its container is. */
	async function commit({ query }: Asked): Promise<EnginePool> {
		const ref = new URLSearchParams(query).get("container");
		const found = ref ? await cluster.find(ref) : undefined;
		return found ? engines.pool(found.host) : local;
	}

	return [
		[/^GET$/, /^\/images\/json$/, mergedList(engines, merge)],
		[/^POST$/, /^\/(?:images|build)\/prune$/, addedUp(engines)],
		[/^POST$/, /^\/commit$/, commit],
		[
			/^POST$/,
			/^\/(?:build|session|grpc|images\/create|images\/load)$/,
			async () => engines.pool(await maker(engines)),
		],
		[
			/^GET$/,
			/^\/images\/get$/,
			async ({ query }) => {
				const made = await maker(engines);
				for (const name of new URLSearchParams(query).getAll("names")) {
					await bringImage(name, made);
				}
				return engines.pool(made);
			},
		],
		[/^DELETE$/, /^\/images\/(.+)$/, remove],
		[
			/^/,
			/^\/images\/(.+)\/(?:json|history|get|tag|push)$/,
			({ ref }) => holder(ref),
		],
	];
}

/**
 * A host that lacks an image, or has an older one of that name, gets it from where it was named
 * last; if none has it, its engine says so.
 */
export function imageCarrier(engines: Engines): BringImage {
	/** Images that are on their way, by name and host: creates at once share one copy. */
	const copying = new Map<string, Promise<void>>();
	const { cluster } = engines;

	return async (image, host) => {
		const path = `/images/${image}/json`;
		let told = await engines.ask(path);
		const none = told.every(({ answer }) => answer === undefined);
		if (none && told.some(({ error }) => error)) {
			told = await engines.askPatiently(path); // before it is said that there is none
		}
		const answers = byName(told);
		const [source] = answers;
		const target = answers.find((each) => each.host === host);
		if (!source || idOf(source) === (target && idOf(target))) return;
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

/** Images are built and pulled on one host, the same for every gateway, so that one build finds what another made. */
async function maker({ cluster }: Engines): Promise<string> {
	const names = (await cluster.reachable()).map(({ name }) => name);
	return names.sort()[0] as string;
}

interface Inspected {
	Id: string;
	/** RFC 3339, as the next. */
	Created: string;
	Metadata: { LastTagTime: string };
}

/**
 * The hosts that have an image, the one that was given the name last before others: what the name means there, it means.
 * @param ref a name, or an id
 */
async function holders(engines: Engines, ref: string): Promise<Answer[]> {
	return byName(await engines.ask(`/images/${ref}/json`));
}

/** The answers of those that have an image, the one that was given its name last before others. */
function byName(answers: Answer[]): Answer[] {
	const named = ({ answer }: Answer) => {
		const { Created, Metadata } = answer as Inspected;
		const times = [Created, Metadata.LastTagTime].map((time) =>
			Date.parse(time),
		);
		return Math.max(...times.filter((time) => !Number.isNaN(time)));
	};
	return answers
		.filter(({ answer }) => answer !== undefined)
		.sort((a, b) => named(b) - named(a));
}

function idOf({ answer }: Answer): string {
	return (answer as { Id: string }).Id;
}

interface Image {
	Id: string;
	Created: number;
	RepoTags: string[] | null;
	RepoDigests: string[] | null;
}

/** What an image is called that has no name. */
const UNTAGGED = "<none>:<none>";

function union(a: string[] | null, b: string[] | null): string[] | null {
	return a && b ? [...new Set([...a, ...b])] : (a ?? b);
}
