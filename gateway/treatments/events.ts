import { setTimeout } from "node:timers/promises";
import type { Engines } from "../engines.ts";
import { withNetworkNames } from "./query.ts";
import type { Merged, Row } from "./treatment.ts";

/** `events`: those of all hosts, as they happen. */
export function events(engines: Engines): Row[] {
	const { cluster, networkIds } = engines;

	async function follow(path: string, query: string): Promise<Merged> {
		const request = path + (await withNetworkNames(query, networkIds));
		const hosts = await cluster.reachable();
		return {
			status: 200,
			stream: (signal) =>
				mergeEvents(
					hosts.map(({ name }) => shown(lines(name, request, signal))),
				),
		};
	}

	/** A host's events; none of one that stays silent, which must not hold the stream's end up. */
	async function* lines(host: string, request: string, signal: AbortSignal) {
		const engine = await cluster.engine(host);
		if (await engine.ping(PATIENCE_MS)) yield* engine.lines(request, signal);
	}

	/** Events as clients see them: networks have one id, whatever an engine calls them. */
	async function* shown(lines: AsyncIterable<string>): AsyncGenerator<string> {
		for await (const line of lines) {
			const event = await networkIds.event(line);
			if (event) yield event;
		}
	}

	return [[/^GET$/, /^\/events$/, ({ path, query }) => follow(path, query)]];
}

/** A host that has much to do may take so long to answer. */
const PATIENCE_MS = 10_000;
/** How long events wait for earlier ones of other hosts. */
const WINDOW_MS = 100;

/** The lines of several hosts' `GET /events` as one stream, in the order of their times. */
async function* mergeEvents(
	streams: AsyncIterable<string>[],
): AsyncGenerator<string> {
	let waiting: { line: string; time: number }[] = [];
	let open = streams.length;
	let wake = () => {};
	for (const stream of streams) {
		void (async () => {
			try {
				for await (const line of stream) {
					const { timeNano } = JSON.parse(line) as { timeNano: number };
					waiting.push({ line, time: timeNano });
					wake();
				}
			} catch {
				// a host that is lost ends its part of the stream
			} finally {
				open--;
				wake();
			}
		})();
	}
	while (open > 0 || waiting.length > 0) {
		if (waiting.length === 0) {
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
			continue;
		}
		if (open > 0) await setTimeout(WINDOW_MS);
		const ready = waiting.sort((a, b) => a.time - b.time);
		waiting = [];
		for (const { line } of ready) yield `${line}\n`;
	}
}
