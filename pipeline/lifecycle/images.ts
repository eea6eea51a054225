import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { imagePath } from "../docker.ts";
import type { Services } from "../plugin.ts";
import {
	type ImageRecord,
	ImageRecords,
	imageKey,
	type Tagging,
} from "../state/images.ts";
import { Conflict, ignoreConflict, replacing } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";

/** How often a running request renews its key; the leader deletes keys that are not renewed. */
const BEAT_MS = 8_000;

/** How long one waits for what was named on other hosts to be carried to where images are built. */
const CARRY_MS = 20_000;
const LOOK_MS = 50;

/** What is known of a request that may give names to images. */
interface Giving {
	/** Those names, as far as they are known before. */
	names?: string[] | undefined;
	/** Carries one of them to where images are built, if that is another host. */
	carry?: ((name: string) => Promise<void>) | undefined;
	/** A tag or commit: builds wait for it from its beginning. */
	brief?: boolean;
}

/** What is read of an engine's answer to `GET /images/{name}/json`. */
export interface ImageInspect {
	Id: string;
	RepoTags?: string[] | null;
	RepoDigests?: string[] | null;
	/** RFC 3339, as the next. */
	Created: string;
	Metadata: { LastTagTime: string };
	Config?: Record<string, unknown> | null;
	RootFS?: { Layers?: string[] | null };
}

/** One row of `GET /images/json`. */
interface ImageSummary {
	Id: string;
	RepoTags: string[] | null;
}

/**
 * When an image was given a name last, in milliseconds since 1970: engines note no more than that, and not for what was loaded. With the
 * containerd image store they do, so that a copy of ours would count as newer than what it is a copy of; there only its creation counts.
 */
export function namedAt(image: ImageInspect): number {
	const { Created, Metadata } = image;
	const told = isByManifest(image)
		? [Created]
		: [Created, Metadata.LastTagTime];
	const times = told.map((time) => Date.parse(time));
	return Math.max(0, ...times.filter((time) => !Number.isNaN(time)));
}

/** The containerd image store calls an image by its manifest, as registries do; the older ones by its configuration. */
function isByManifest({ Id, RepoDigests }: ImageInspect): boolean {
	return RepoDigests?.some((digest) => digest.endsWith(`@${Id}`)) ?? false;
}

/** What of a configuration makes a difference to containers; the rest each engine writes in its own way. */
const TELLING = [
	...["Env", "Cmd", "Entrypoint", "WorkingDir", "User", "Labels", "Volumes"],
	...["ExposedPorts", "StopSignal", "Healthcheck", "OnBuild", "Shell"],
];

/** The same for two engines' copies of one image, whatever they call it, and for no other image. */
export function contentOf({ Created, Config, RootFS }: ImageInspect): string {
	const telling = TELLING.map((key) => {
		const value = Config?.[key];
		const isEmpty = typeof value === "object" && !Object.keys(value ?? {})[0];
		return isEmpty ? null : value || null;
	});
	// without a date some engines say nothing, and some the year 1
	const made = Math.max(0, Date.parse(Created) || 0);
	const content = [made, RootFS?.Layers, telling];
	const hash = createHash("sha256").update(JSON.stringify(content));
	return hash.digest("base64url");
}

/** An image as a host has it. */
export interface Held {
	host: string;
	/** As in its record. */
	at: number;
	image: ImageInspect;
}

/** What is put on record of an image. */
export function recordOf({ host, at, image }: Held): ImageRecord {
	return { host, id: image.Id, at, content: contentOf(image) };
}

/** Whether an engine's image is the one that is on record. */
export function isOnRecord(
	image: ImageInspect,
	record: ImageRecord | undefined,
): boolean {
	if (!record) return false;
	return image.Id === record.id || contentOf(image) === record.content;
}

/**
 * Keeps on record what the names of images mean, so that a host's older image of a name is known for what it is and
 * nobody needs to ask all engines. Each agent tells what its engine says; whoever sends a request that may give names
 * says so before, and tells afterwards, so that there is no moment in which what was built is not known.
 */
export class Images {
	readonly records: ImageRecords;
	readonly #services: Pick<Services, "cluster" | "store">;

	constructor(services: Pick<Services, "cluster" | "store">) {
		this.#services = services;
		this.records = new ImageRecords(services.store);
	}

	/**
	 * A request is about to be sent to a host's engine that may give names to images.
	 * @returns is to be called when it is answered
	 * @throws HttpError 503 when Consul does not answer
	 */
	async begin(
		host: string,
		{ names, carry, brief }: Giving,
	): Promise<() => Promise<void>> {
		const { store } = this.#services;
		const request = crypto.randomUUID();
		const keys = names?.map(imageKey).filter((key) => key !== undefined);
		const what: Omit<Tagging, "at"> = keys ? { host, names: keys } : { host };
		if (carry && brief) what.carried = true; // a build may be asked for as soon as this is answered
		const say = () => store.commit([this.records.begin(request, what)]);
		const [before] = await Promise.all([
			this.#namesOn(host).catch(() => undefined),
			say(),
		]);
		let said = Promise.resolve();
		const beat = setInterval(() => {
			said = say().catch(() => {});
		}, BEAT_MS).unref();
		return async () => {
			try {
				if (carry && !what.carried) {
					what.carried = true;
					await say();
				}
				const telling = this.tell(host, before);
				await telling.catch(() => {}); // it can be carried all the same
				// a build says what it misses
				for (const name of names ?? []) await carry?.(name).catch(() => {});
				await telling;
			} catch (error) {
				// creates look there until the leader takes the key away
				delete what.carried;
				await say();
				throw error;
			} finally {
				clearInterval(beat);
			}
			await said; // two commits that are under way at once may change places
			await store.commit([this.records.end(host, request)]);
		};
	}

	/**
	 * Waits for what was named on other hosts to be carried to where images are built, for some seconds; then one takes what
	 * is there.
	 * @param ref the name that is waited for; any without it
	 */
	async carried(ref?: string): Promise<void> {
		const until = performance.now() + CARRY_MS;
		const key = ref && imageKey(ref);
		while (performance.now() < until) {
			const requests = await this.records.tagging();
			const coming = requests.filter(({ value }) => value.carried);
			const isOver = coming.every(
				({ value }) => key && !value.names?.includes(key),
			);
			if (isOver) return;
			await setTimeout(LOOK_MS);
		}
	}

	/**
	 * Compares what is on record with what a host's engine says, and writes what is newer there.
	 * @param before what names meant there before a request that has just given some: those count, however old their images are
	 */
	async tell(host: string, before?: Map<string, string>): Promise<void> {
		const known = new Map(
			(await this.records.list()).map((entry) => [entry.key, entry]),
		);
		const names = await this.#namesOn(host); // after: what went on record meanwhile must not seem gone
		for (const [key, id] of names) {
			const entry = known.get(key);
			if (entry?.value.id === id) continue;
			const image = await this.#inspect(host, id);
			if (!image) continue; // removed meanwhile
			// who said so itself and says otherwise now knows best
			const own = entry?.value.host === host;
			if (!own && isOnRecord(image, entry?.value)) continue;
			const given = own || (before !== undefined && before.get(key) !== id);
			const since = given ? (entry?.value.at ?? 0) + 1 : 0;
			const at = Math.max(namedAt(image), since);
			await this.#write(key, recordOf({ host, at, image }), entry);
		}
		for (const [key, entry] of known) {
			if (entry.value.host !== host || names.has(key)) continue;
			await this.#forget(entry); // who has it still tells of it
		}
	}

	/** @param entry what is on record, if anything: of two that tell at once the newer one counts */
	async #write(
		key: string,
		value: ImageRecord,
		entry: Entry<ImageRecord> | undefined,
	): Promise<void> {
		const { store } = this.#services;
		if (entry && entry.value.at >= value.at) return;
		try {
			await store.commit([replacing(key, entry, value)]);
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
			await this.#write(key, value, await store.get(key));
		}
	}

	/** Puts right what is on record of a name: the host that was to have the image does not. */
	async correct(
		entry: Entry<ImageRecord>,
		found: Held | undefined,
	): Promise<void> {
		const { store } = this.#services;
		if (!found) return this.#forget(entry);
		const { key } = entry;
		await ignoreConflict(
			store.commit([replacing(key, entry, recordOf(found))]),
		);
	}

	/** Ids of a host's images, by the keys of their names. */
	async #namesOn(host: string): Promise<Map<string, string>> {
		const images = await this.#services.cluster.ask(host, (engine) =>
			engine.get<ImageSummary[]>("/images/json"),
		);
		const names = new Map<string, string>();
		for (const { Id, RepoTags } of images ?? []) {
			for (const tag of RepoTags ?? []) {
				const key = imageKey(tag); // none for <none>:<none>
				if (key) names.set(key, Id);
			}
		}
		return names;
	}

	#inspect(host: string, id: string): Promise<ImageInspect | undefined> {
		return this.#services.cluster.ask(host, (engine) =>
			engine.get<ImageInspect>(imagePath(id)),
		);
	}

	async #forget({ key, index }: Entry<ImageRecord>): Promise<void> {
		const { store } = this.#services;
		await ignoreConflict(store.commit([{ verb: "delete", key, index }]));
	}
}
