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
			const either = AbortSignal.any([signal, ended.signal]);
			const time = setTimeout(ms, undefined, { signal: either });
			await Promise.race([rung, time.catch(() => {})]);
			ended.abort();
		}
		this.#rung = false;
	}
}
