import { setTimeout } from "node:timers/promises";

/** How long events wait for earlier ones of other hosts. */
const WINDOW_MS = 100;
/** So many wait for a client that reads slowly; then engines wait, which drop what they cannot send. */
const MAX_WAITING = 10_000;

/** Lines of several hosts' `GET /events` as one stream, in the order of their times. */
export class Merging {
	#waiting: { line: string; nano: bigint }[] = [];
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
		this.#waiting.push({ line, nano: nanoIn(line) });
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
				const early = !this.#live && !this.#ended;
				if (this.#waiting.length === 0 || early) {
					await new Promise<void>((resolve) => {
						this.#wake = resolve;
					});
					continue;
				}
				if (!this.#ended) await setTimeout(WINDOW_MS);
				yield* this.#take();
			}
		} finally {
			this.#take(); // nobody waits for a reader that has gone
		}
		if (this.#error) throw this.#error;
	}

	/** What waits, in order; those that are held add more. */
	#take(): string[] {
		const ready = this.#waiting.sort((a, b) => (a.nano < b.nano ? -1 : 1));
		this.#waiting = [];
		for (const go of this.#held.splice(0)) go();
		return ready.map(({ line }) => `${line}\n`);
	}
}

/** An event's time in nanoseconds since 1970, read from its text: as a number it has lost its last digits. */
export function nanoIn(event: string): bigint {
	return BigInt(/"timeNano":(\d+)\}$/.exec(event)?.[1] ?? 0);
}
