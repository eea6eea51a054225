import type { Logger } from "pino";

/**
 * An error meant for the person who typed the command: `status` is the HTTP status
 * a Docker client gets, `message` the text it prints. Any other kind of Error is a
 * fault of ours: its text is logged, and the client reads a plain 500.
 */
export class HttpError extends Error {
	readonly status: number;

	constructor(status: number, message: string, options?: ErrorOptions) {
		super(message, options);
		this.name = "HttpError";
		this.status = status;
	}
}

/**
 * One of several things that are put right: what cannot be now is logged, and keeps the others from nothing; the next look
 * tries again.
 * @param key what it is about
 */
export async function pastErrors(
	log: Logger,
	key: string,
	work: () => Promise<void>,
): Promise<void> {
	try {
		await work();
	} catch (err) {
		log.warn({ key, err }, "cannot be put right yet");
	}
}

/** The text of anything that was thrown. */
export function messageOf(error: unknown): string {
	if (error instanceof AggregateError && !error.message) {
		return error.errors.map(messageOf).join("; ");
	}
	return error instanceof Error ? error.message : String(error);
}
