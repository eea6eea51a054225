import { setTimeout } from "node:timers/promises";

/** Lets a loop rest until something has changed, or for a time. */
export class Alarm {
	#rung = false;
	#wake = () => {};

	/** Something has changed: who rests looks at once, who looks looks again. */
	ring(): void {
		this.#rung = true;
		this.#wake();
	}

	/** @param ms at most @param signal ends the rest, too */
	async rest(ms: number, signal: AbortSignal): Promise<void> {
		const rung = new Promise<void>((resolve) => {
			this.#wake = resolve;
		});
		if (!this.#rung) {
			const ended = new AbortController();
			const end = () => ended.abort();
			if (signal.aborted) end();
			signal.addEventListener("abort", end); // AbortSignal.any would keep each one of these for ever
			const time = setTimeout(ms, undefined, { signal: ended.signal });
			await Promise.race([rung, time.catch(() => {})]);
			signal.removeEventListener("abort", end);
			end();
		}
		this.#rung = false;
	}
}
