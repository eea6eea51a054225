import { setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import { messageOf } from "../pipeline/errors.ts";

interface Repeating {
	/** Ends it. */
	signal: AbortSignal;
	log: Logger;
	/** What the log says of a failure, beside its cause. */
	failure: string;
	/** Waits after each time. @param failed whether it did */
	rest(failed: boolean): Promise<void>;
}

/** Does work until the signal ends it. A failure is logged once, and again when its cause changes. */
export async function repeat(
	work: () => Promise<void>,
	{ signal, log, failure, rest }: Repeating,
): Promise<void> {
	let logged: string | undefined;
	while (!signal.aborted) {
		try {
			await work();
			logged = undefined;
		} catch (error) {
			const err = messageOf(error);
			if (err !== logged) log.warn({ err }, failure);
			logged = err;
		}
		await rest(logged !== undefined);
	}
}

/** Waits, unless the signal ends it sooner. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
	await setTimeout(ms, undefined, { signal }).catch(() => {});
}
