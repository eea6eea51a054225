/** Numbers that look random and are the same for the same seed (mulberry32). */
export class Random {
	#state: number;

	constructor(seed: number) {
		this.#state = seed >>> 0;
	}

	/** From 0 up to 1. */
	next(): number {
		this.#state = (this.#state + 0x6d2b79f5) >>> 0;
		let t = this.#state;
		t = Math.imul(t ^ (t >>> 15), t | 1);
		t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	}

	/** A whole number from `from` to `to`, both included. */
	between(from: number, to: number): number {
		return from + Math.floor(this.next() * (to - from + 1));
	}

	pick<T>(all: readonly T[]): T {
		return all[this.between(0, all.length - 1)] as T;
	}

	/** Some of all, none twice. */
	some<T>(all: readonly T[], count: number): T[] {
		const rest = [...all];
		return Array.from(
			{ length: Math.min(count, rest.length) },
			() => rest.splice(this.between(0, rest.length - 1), 1)[0] as T,
		);
	}
}
