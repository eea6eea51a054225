import { setTimeout } from "node:timers/promises";
import { messageOf } from "../pipeline/errors.ts";

interface Repeating {
	/** Ends it. */
	signal: AbortSignal;
	/** Waits after each time. @param failed whether it did */
	rest(failed: boolean): Promise<void>;
	/** Logs what failed. */
	complain(error: unknown): void;
}

/** Does work until the signal ends it. A failure is logged once, and again when it changes. */
export async function repeat(
	work: () => Promise<void>,
	{ signal, rest, complain }: Repeating,
): Promise<void> {
	let complained: string | undefined;
	while (!signal.aborted) {
		try {
			await work();
			complained = undefined;
		} catch (error) {
			const message = messageOf(error);
			if (message !== complained) complain(error);
			complained = message;
		}
		await rest(complained !== undefined);
	}
}

/** Waits, unless the signal ends it sooner. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
	await setTimeout(ms, undefined, { signal }).catch(() => {});
}
