import type { Operation } from "./operations.ts";
import type { Entry, Store } from "./store.ts";

/** Where stands what the names of images mean. */
export const IMAGES = "arpanet/images/";
/** Where requests under way stand that may give names to images. */
export const TAGGING = "arpanet/tagging/";
/** A name with or without a tag. An id reads like one, and is not on record; a digest does not. */
const NAME = /^[\w][\w.-]*(:\d+(?=\/))?(\/[\w][\w.-]*)*(:[\w][\w.-]*)?$/;

/** What an image's name means, under `arpanet/images/<name>:<tag>`. */
export interface ImageRecord {
	/** The host that said so, and has the image. */
	host: string;
	id: string;
	/** By which a copy is known whose engine has another id for it: not all have one kind of image store. */
	content?: string;
	/** Milliseconds since 1970 at which the image was given the name, as far as the host knows. */
	at: number;
}

/** A request under way that may give names to images, under `arpanet/tagging/<host>/<id of the request>`. */
export interface Tagging {
	/** Whose engine does it. */
	host: string;
	/** When this was last written, for people. */
	at: string;
	/** Keys of the names that it gives, as of `imageKey`; any, without it. */
	names?: string[];
	/** What it names goes to where images are built, and a build waits for that. */
	carried?: true;
}

/** The Consul key of what a name means; undefined for what is none. Docker's own registry need not be named. */
export function imageKey(ref: string): string | undefined {
	if (!NAME.test(ref)) return undefined;
	const name = ref
		.replace(/^(index\.)?docker\.io\//, "")
		.replace(/^library\/(?=[^/]+$)/, "");
	return IMAGES + (/:[^/]+$/.test(name) ? name : `${name}:latest`);
}

/** What Consul knows of the names of images, and of those that are just being given. */
export class ImageRecords {
	readonly #store: Store;

	constructor(store: Store) {
		this.#store = store;
	}

	/** What a name means, if that is on record. */
	async get(ref: string): Promise<Entry<ImageRecord> | undefined> {
		const key = imageKey(ref);
		return key ? this.#store.get(key) : undefined;
	}

	/** What is on record of a name, and the hosts where just now it is being given, or any may be. */
	async look(ref: string): Promise<{
		record: Entry<ImageRecord> | undefined;
		given: Set<string>;
		perhaps: Set<string>;
	}> {
		// in this order: what is no longer under way is on record
		const requests = await this.tagging();
		const record = await this.get(ref);
		const key = imageKey(ref) ?? "";
		const hosts = (which: (names: string[] | undefined) => boolean) =>
			new Set(
				requests
					.filter(({ value }) => which(value.names))
					.map(({ value }) => value.host),
			);
		return {
			record,
			given: hosts((names) => names?.includes(key) === true),
			perhaps: hosts((names) => names === undefined),
		};
	}

	/** All that is on record. */
	list(): Promise<Entry<ImageRecord>[]> {
		return this.#store.list(IMAGES);
	}

	/** All requests under way that may give names. */
	tagging(): Promise<Entry<Tagging>[]> {
		return this.#store.list(TAGGING);
	}

	/** The operation that says that a request is under way at a host's engine. */
	begin(request: string, what: Omit<Tagging, "at">): Operation {
		const value: Tagging = { ...what, at: new Date().toISOString() };
		return { verb: "set", key: `${TAGGING}${what.host}/${request}`, value };
	}

	/** The operation that says that it is no longer. */
	end(host: string, request: string): Operation {
		return { verb: "delete", key: `${TAGGING}${host}/${request}` };
	}
}
