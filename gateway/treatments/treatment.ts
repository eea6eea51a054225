import {
	askEach,
	type Has,
	type HostAnswer,
	whoHas,
} from "../../pipeline/answers.ts";
import { messageOf } from "../../pipeline/errors.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";

/** What an engine says of a client's version of the API that it does not speak. */
const NOT_SPOKEN = /^client version \S+ is too (?:old|new)/;

/** An answer that the gateway gives itself: a JSON body or none, the bytes of one, or lines as they come. */
export type OwnAnswer =
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
export interface TreatedRequest {
	/** As the client sent it, with its version. */
	path: string;
	/** As the client sent it, with its question mark; empty without one. */
	query: string;
	/** What the route's pattern has captured, decoded: a name, an id or a prefix of one. */
	ref: string;
	/** That the pre-hooks made. */
	body: string | null;
	/** What the client says it is, such as `docker-compose/1.29.2 docker-py/5.0.0`; empty when it does not. */
	userAgent: string;
	/** Calls when the request has been answered, or its client is gone. */
	afterwards(callback: () => void): void;
}

/**
 * Finds the engine that answers a request, or the answer itself.
 * @throws HttpError what the client shall read
 */
export type Treatment = (
	request: TreatedRequest,
) => Promise<EnginePool | OwnAnswer>;

/** Method and path, without its version, of the requests that are treated so. */
export type Route = [method: RegExp, path: RegExp, treatment: Treatment];

/**
 * A `GET` that all hosts answer as one.
 * @param merge makes one body of those that came, this host's first
 */
export function mergedList<T>(
	{ cluster }: Engines,
	merge: (answers: Has<T>[]) => unknown,
): Treatment {
	return async ({ path, query }) => {
		const answers = await cluster.answers<T>(path + query);
		throwRefusal(answers);
		return { status: 200, body: await merge(whoHas(answers)) };
	};
}

/** What a `POST` to all hosts says of each: lists and numbers. */
type Parts = Record<string, unknown[] | number | null>;

/** A `POST` that all hosts do, such as a prune; their lists are put together, and their numbers added up. */
export function addedUp({ cluster }: Engines): Treatment {
	return async ({ path, query }) => {
		const answers = await askEach(await cluster.reachable(), (host) =>
			cluster.ask(host, (engine) => engine.post<Parts>(path + query)),
		);
		throwRefusal(answers);
		const sum: Parts = {};
		for (const { answer = {} } of answers) {
			// one that is lost says nothing, and its things stay
			for (const [key, part] of Object.entries(answer)) {
				const before = sum[key] ?? null;
				sum[key] =
					typeof part === "number"
						? part + Number(before)
						: (together(before, part) as unknown[] | null);
			}
		}
		return { status: 200, body: sum };
	};
}

/** Whether an engine does not speak the client's version of the API: its host is not lost, and no version suits all. */
export function isNotSpoken(error: unknown): boolean {
	return NOT_SPOKEN.test(messageOf(error));
}

/**
 * Refuses what all hosts were asked as this host's engine does, or as any that does not speak the client's version.
 * @param answers this host's first
 * @throws HttpError
 */
export function throwRefusal(answers: readonly HostAnswer[]): void {
	const [own, ...others] = answers.map(({ error }) => error);
	const refusal = own ?? others.find(isNotSpoken);
	if (refusal) throw refusal;
}

function together(before: unknown, part: unknown): unknown {
	if (!Array.isArray(before)) return part;
	return Array.isArray(part) ? [...new Set([...before, ...part])] : before;
}
