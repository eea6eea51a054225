import { setTimeout } from "node:timers/promises";
import { HttpError } from "../errors.ts";
import { ignoreConflict } from "./operations.ts";
import type { Entry, Store } from "./store.ts";

/** How the state in Consul is laid out. One more with every change that an arpanet from before would misread. */
export const FORMAT = 1;
/** How soon is tried again what Consul did not take. */
const RETRY_MS = 500;
/** Says how it is laid out. */
export const FORMAT_KEY = "arpanet/format";

/**
 * Why this arpanet must not write state of a format; undefined if it may.
 * @param found number under `arpanet/format`; undefined if nobody has written any state yet
 */
export function formatRefusal(found: number | undefined): string | undefined {
	if (found === undefined || found === FORMAT) return undefined;
	const what = `state in Consul has format ${found}, and this arpanet knows format ${FORMAT}`;
	return found > FORMAT
		? `${what}: a newer one runs in the cluster; install that version on this host, too`
		: `${what}: go back to the version that wrote it; or stop arpanet on all hosts and say consul kv delete -recurse arpanet/: the agents write down again what lives`;
}

/** The format of the state in Consul; undefined if there is none yet. */
export function readFormat(store: Store): Promise<Entry<number> | undefined> {
	return store.get<number>(FORMAT_KEY);
}

/**
 * Sees to it that this process only ever writes state that it understands: first at start, and from then on as
 * Consul tells. A process that finds another format goes on serving what needs no state, and says what to do.
 */
export class Format {
	readonly #store: Store;
	/** All by which this process writes. */
	readonly #stores: Store[];
	#stop: (() => void) | undefined;
	#closed = false;
	/** Whether Consul was without it when last heard. */
	#isMissing = false;
	#writing: Promise<void> | undefined;

	/** @param store by which this process writes; it reads the format, too */
	constructor(store: Store) {
		this.#store = store;
		this.#stores = [store];
	}

	/** One more store by which this process writes. */
	covers(store: Store): void {
		store.refusal = this.#store.refusal;
		this.#stores.push(store);
	}

	/**
	 * Reads the format now, and writes it down where there is no state yet; without Consul it is known later.
	 * @throws HttpError 503, with the remedy, if it is another; 500 if it is none
	 */
	async begin(): Promise<void> {
		const store = this.#store;
		this.#stop = store.watch<number>(FORMAT_KEY, (entries) => {
			const found = entries.find(({ key }) => key === FORMAT_KEY);
			this.#found(found?.value);
		});
		let found: number | undefined;
		try {
			found = (await readFormat(store))?.value;
		} catch (error) {
			if (error instanceof HttpError && error.status === 500) throw error;
			return; // nothing can be written either
		}
		if (found === undefined) {
			await this.#create().catch(() => {});
			return; // what is there now the watch tells: perhaps another's, who was faster and is newer
		}
		this.#found(found);
		const refusal = formatRefusal(found);
		if (refusal) throw new HttpError(503, refusal);
	}

	/** Ends the watch. */
	close(): void {
		this.#stop?.();
		this.#closed = true;
	}

	#found(format: number | undefined): void {
		const refusal = formatRefusal(format);
		for (const store of this.#stores) store.refusal = refusal;
		this.#isMissing = format === undefined;
		this.#writing ??= this.#write().finally(() => {
			this.#writing = undefined;
		});
	}

	/** Writes the format down until Consul tells that it is there: one that has just started takes nothing, or forgets it again. */
	async #write(): Promise<void> {
		while (this.#isMissing && !this.#closed) {
			await this.#create().catch(() => {});
			await setTimeout(RETRY_MS, undefined, { ref: false });
		}
	}

	async #create(): Promise<void> {
		const store = this.#store;
		await ignoreConflict(
			store.commit([{ verb: "create", key: FORMAT_KEY, value: FORMAT }]),
		);
	}
}
