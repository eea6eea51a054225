import type { Entry, Store } from "./store.ts";

/** What Consul has under a prefix: read anew for each who asks, and kept fresh by Consul once it is followed. */
export class View<T, Gathered> {
	readonly #store: Store;
	readonly #prefix: string;
	readonly #gather: (entries: Entry<T>[]) => Gathered;
	#known: Gathered | undefined;
	/** How often Consul has told. */
	#told = 0;
	#stop: (() => void) | undefined;

	/** @param gather makes of the entries what is asked for */
	constructor(
		store: Store,
		prefix: string,
		gather: (entries: Entry<T>[]) => Gathered,
	) {
		this.#store = store;
		this.#prefix = prefix;
		this.#gather = gather;
	}

	/** Begins to follow what Consul says. */
	follow(): void {
		this.#stop ??= this.#store.watch<T>(this.#prefix, (entries) => {
			this.#told++;
			this.#known = this.#gather(entries);
		});
	}

	/** What Consul told last; undefined unless it is followed and has told something. */
	get known(): Gathered | undefined {
		return this.#known;
	}

	/**
	 * What Consul told last if it is followed, else what it says now.
	 * @throws HttpError 503 when Consul does not answer
	 */
	async get(): Promise<Gathered> {
		return this.#known ?? (await this.refresh());
	}

	/**
	 * What Consul says now: what it told last may be a moment behind what another has just done.
	 * @throws HttpError 503 when Consul does not answer
	 */
	async refresh(): Promise<Gathered> {
		const told = this.#told;
		for (;;) {
			const before = this.#told;
			const entries = await this.#store.list<T>(this.#prefix);
			if (before === this.#told) {
				const gathered = this.#gather(entries);
				if (this.#stop) this.#known = gathered;
				return gathered;
			}
			// which of the two is newer, nothing says; under many writes that would go on
			if (this.#told > told + 1) return this.#gather(entries);
		}
	}

	/** Ends the watch. */
	close(): void {
		this.#stop?.();
	}
}
