import { setTimeout } from "node:timers/promises";

/** How long each event waits for earlier ones of other hosts. */
const WINDOW_MS = 50;
/** So many wait for a client that reads slowly; then engines wait, which drop what they cannot send. */
const MAX_WAITING = 10_000;

/** An event, and since when it waits: milliseconds as `performance.now` has them. */
interface Waiting {
	line: string;
	nano: bigint;
	since: number;
}

/** Lines of several hosts' `GET /events` as one stream, in the order of their times. */
export class Merging {
	/** In the order in which they came. */
	#waiting: Waiting[] = [];
	#ended = false;
	#error: unknown;
	#wake = () => {};
	/** Adders that wait until what is here is taken. */
	#held: (() => void)[] = [];
	readonly #live: boolean;

	/** @param live lines are given as they come, not all of them at the end */
	constructor(live: boolean) {
		this.#live = live;
	}

	/** Resolves when there is room for more. @param line an event as an engine writes it */
	async add(line: string): Promise<void> {
		const since = performance.now();
		this.#waiting.push({ line, nano: nanoIn(line), since });
		this.#wake();
		if (!this.#live || this.#waiting.length < MAX_WAITING) return;
		await new Promise<void>((resolve) => this.#held.push(resolve));
	}

	/** Nothing is added any more. @param error that has ended it */
	end(error?: unknown): void {
		this.#ended = true;
		this.#error = error;
		this.#wake();
	}

	/** What was added, each with its line end, until the end. @throws the error that was the end */
	async *lines(): AsyncGenerator<string> {
		try {
			while (!this.#ended || this.#waiting.length > 0) {
				const [first] = this.#waiting;
				const early = !this.#live && !this.#ended;
				if (!first || early) {
					await new Promise<void>((resolve) => {
						this.#wake = resolve;
					});
					continue;
				}
				const left = first.since + WINDOW_MS - performance.now();
				if (left > 0 && !this.#ended) await setTimeout(left);
				else yield* this.#take(performance.now() - WINDOW_MS);
			}
		} finally {
			this.#ended = true;
			this.#take(0); // nobody waits for a reader that has gone
		}
		if (this.#error) throw this.#error;
	}

	/** What waits since then, and what was before that, in order; those that are held add more. */
	#take(since: number): string[] {
		const sorted = this.#waiting.toSorted((a, b) => (a.nano < b.nano ? -1 : 1));
		const isRipe = (each: Waiting) => this.#ended || each.since <= since;
		const ready = sorted.slice(0, sorted.findLastIndex(isRipe) + 1);
		const taken = new Set(ready);
		this.#waiting = this.#waiting.filter((each) => !taken.has(each));
		for (const go of this.#held.splice(0)) go();
		return ready.map(({ line }) => `${line}\n`);
	}
}

/** An event's time in nanoseconds since 1970, read from its text: as a number it has lost its last digits. */
export function nanoIn(event: string): bigint {
	return BigInt(/"timeNano":(\d+)\}$/.exec(event)?.[1] ?? 0);
}
