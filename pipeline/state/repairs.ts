import { commitOverflow, type Operation } from "./operations.ts";
import type { Entry, Store } from "./store.ts";

const PREFIX = "arpanet/repairs/";
/** Older ones go when there are more. */
const MAX_KEPT = 500;

/** Something that was put right without anybody asking, under `arpanet/repairs/<time>-<id>`. */
export interface Repair {
	/** For people: `2026-11-23T16:00:00.123Z`. */
	at: string;
	/** Host whose agent did it. */
	by: string;
	/** What was done, as a kind that can be counted: `lease given back`. */
	what: string;
	/** Key or name of what it was done to. */
	to: string;
	why: string;
	/** Name of the container that it concerns, if it is one. */
	container?: string;
}

/** All that are kept, oldest first. */
export function listRepairs(store: Store): Promise<Entry<Repair>[]> {
	return store.list(PREFIX);
}

/** What was repaired, kept for `arpanet explain` and `arpanet leader`. */
export class Repairs {
	readonly #store: Store;
	readonly #host: string;

	/** @param host name of this host */
	constructor(store: Store, host: string) {
		this.#store = store;
		this.#host = host;
	}

	/** The operation that writes a repair down, for the very commit that does it. */
	note(repair: Omit<Repair, "at" | "by">): Operation {
		const at = new Date().toISOString();
		const value: Repair = { at, by: this.#host, ...repair };
		const id = crypto.randomUUID().slice(0, 8);
		return { verb: "set", key: `${PREFIX}${at}-${id}`, value };
	}

	/** Forgets the oldest, so that what is kept does not grow. */
	async prune(): Promise<void> {
		const keys = await this.#store.keys(PREFIX);
		const old = keys.sort().slice(0, Math.max(0, keys.length - MAX_KEPT));
		const deletions = old.map((key): Operation => ({ verb: "delete", key }));
		const rest = await commitOverflow(this.#store, deletions);
		if (rest.length > 0) await this.#store.commit(rest);
	}
}
