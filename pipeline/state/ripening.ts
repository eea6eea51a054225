import type { Entry } from "./store.ts";

/** Longest time from a commit to the container or network that it was for: the engine can be slow. */
const GRACE_MS = 25_000;

/**
 * Tells which entries have been seen to be orphans long enough, unwritten all the while, to be given
 * back. It measures by a monotonic clock: nothing here trusts the time of day, which hosts may tell differently.
 */
export class Ripening<T> {
	readonly #grace: (orphan: T) => number;
	#seen = new Map<string, { index: number; since: number }>();

	/** @param grace milliseconds for which one has to be seen */
	constructor(grace: (orphan: T) => number = () => GRACE_MS) {
		this.#grace = grace;
	}

	/** @param orphans all that are orphans now; what is not among them is forgotten */
	ripe(orphans: Entry<T>[]): Entry<T>[] {
		const now = performance.now();
		const seen = new Map<string, { index: number; since: number }>();
		const ripe = orphans.filter(({ key, index, value }) => {
			const before = this.#seen.get(key);
			const since = before?.index === index ? before.since : now;
			seen.set(key, { index, since });
			return now - since >= this.#grace(value);
		});
		this.#seen = seen;
		return ripe;
	}
}
