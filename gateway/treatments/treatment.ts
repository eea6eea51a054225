import { HttpError } from "../../pipeline/errors.ts";
import type { Answer, Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";

/** An answer that the gateway gives itself: a JSON body, the bytes of one, or lines as they come. */
export type Merged =
	| { status: number; body: unknown }
	| {
			status: number;
			bytes: Buffer;
			/** An engine's own lines in the head of such an answer, names and values in turn. */
			headers: readonly string[];
	  }
	| {
			status: number;
			/** @param signal the client is gone */
			stream(signal: AbortSignal): AsyncIterable<string>;
	  };

/** A request as a treatment sees it. */
export interface Asked {
	/** As the client sent it, with its version. */
	path: string;
	/** As the client sent it, with its question mark; empty without one. */
	query: string;
	/** What the row's pattern has captured, decoded: a name, an id or a prefix of one. */
	ref: string;
	/** That the pre-hooks made. */
	body: string | null;
}

/**
 * Finds the engine that answers a request, or the answer itself.
 * @throws HttpError what the client shall read
 */
export type Treatment = (request: Asked) => Promise<EnginePool | Merged>;

/** Method and path, without its version, of the requests that are treated so. */
export type Row = [method: RegExp, path: RegExp, treatment: Treatment];

/**
 * A `GET` that all hosts answer as one.
 * @param merge makes one body of those that came, this host's first
 */
export function mergedList(
	engines: Engines,
	merge: (answers: Answer[], query: URLSearchParams) => unknown,
): Treatment {
	return async ({ path, query }) => {
		const answers = await engines.ask(path + query);
		const own = answers[0];
		if (own?.error instanceof HttpError) throw own.error;
		const given = answers.filter(({ answer }) => answer !== undefined);
		return { status: 200, body: merge(given, new URLSearchParams(query)) };
	};
}
