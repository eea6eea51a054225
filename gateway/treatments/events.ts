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
		const living = await Promise.allSettled(
			hosts.map(({ name }) =>
				cluster.ask(name, async (engine) => {
					await engine.answer("/_ping"); // a host that is silent must not hold the others up
					return engine;
				}),
			),
		);
		const followed = living.flatMap((each) =>
			each.status === "fulfilled" ? [each.value] : [],
		);
		return {
			status: 200,
			stream: (signal) =>
				mergeEvents(
					followed.map((engine) => shown(engine.lines(request, signal))),
				),
		};
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
