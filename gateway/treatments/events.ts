import { setTimeout } from "node:timers/promises";
import { HttpError } from "../../pipeline/errors.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { Merging, nanoIn } from "./merging.ts";
import { withNetworkNames } from "./query.ts";
import type { OwnAnswer, Route } from "./treatment.ts";

/** A host that has much to do may take so long to answer. */
const PATIENCE_MS = 10_000;
/** What ends so soon is put in order as a whole. */
const SOON_MS = 2_000;
/** How soon is seen that a host has joined, come back or gone. */
const LOOK_MS = 500;
/** Networks that are remembered to be none of ours. */
const MAX_FOREIGN = 20_000;
const NETWORK = /"Type":"network","Action":"\w+","Actor":\{"ID":"([0-9a-f]+)"/;

/** `events`: those of all hosts, as they happen; a host that joins or comes back is followed from then on. */
export function events(engines: Engines): Route[] {
	const { cluster, networkIds } = engines;
	/** Ids of networks that are none of ours, as far as was known: Consul is not asked for each of their events. */
	const foreign = new Set<string>();

	/** An event as clients see it; undefined for one that is none for them. */
	async function shown(line: string): Promise<string | undefined> {
		const [, id] = NETWORK.exec(line) ?? [];
		if (!id) return line;
		if (foreign.has(id) && !networkIds.known(id)) return line;
		const event = await networkIds.event(line);
		if (foreign.size >= MAX_FOREIGN) foreign.clear();
		if (event === line) foreign.add(id);
		return event;
	}

	async function follow(
		path: string,
		query: string,
	): Promise<EnginePool | OwnAnswer> {
		const asked = new URLSearchParams(
			await withNetworkNames(query, networkIds),
		);
		const began = Date.now();
		if (await isRefused(path, asked)) return engines.local; // it says why
		const until = asked.get("until") || undefined;
		const end = until ? 1000 * Number(until) : Number.POSITIVE_INFINITY;
		// what happens from now on is told, also if it takes a moment to ask a host
		if (!asked.get("since") && began < end)
			asked.set("since", String(began / 1000));
		return {
			status: 200,
			stream: (signal) => {
				const merging = new Merging(end - began > SOON_MS);
				void followAll(path, asked, end, merging, signal).then(
					() => merging.end(),
					(error) => merging.end(error),
				);
				return merging.lines();
			},
		};
	}

	/** Whether this host's engine has something to say against a request for events. */
	async function isRefused(
		path: string,
		asked: URLSearchParams,
	): Promise<boolean> {
		const times = [asked.get("since"), asked.get("until")];
		if (times.some((time) => Number.isNaN(Number(time)))) return true;
		const [from, to] = times.map(Number);
		if (to && from && to < from) return true;
		const past = new URLSearchParams(asked);
		past.set("since", "1");
		past.set("until", "1"); // ends at once
		const own = await cluster.engine();
		return (await own.answer(`${path}?${past}`)).status !== 200;
	}

	/** Follows every host. @param end in milliseconds since 1970, unless the client goes before */
	async function followAll(
		path: string,
		asked: URLSearchParams,
		end: number,
		merging: Merging,
		signal: AbortSignal,
	): Promise<void> {
		/** Hosts that are followed, and what ends that. */
		const followed = new Map<string, AbortController>();
		const streams = new Set<Promise<void>>();
		/** From when on a host has still to tell. */
		const since = new Map<string, string>();

		async function one(host: string): Promise<void> {
			const query = new URLSearchParams(asked);
			const from = since.get(host);
			if (from) query.set("since", from);
			const lost = new AbortController();
			followed.set(host, lost);
			try {
				const request = `${path}?${query}`;
				for await (const line of lines(host, request, lost.signal)) {
					// without Consul, it is told as that engine tells it
					const event = await shown(line).catch(() => line);
					if (event) await merging.add(event);
					since.set(host, after(nanoIn(line)));
				}
			} catch (error) {
				// what an engine refuses it would refuse again
				if (error instanceof HttpError && error.status < 500) return;
			}
			followed.delete(host);
		}

		try {
			do {
				const hosts = await cluster.reachable();
				for (const [host, lost] of followed) {
					if (!hosts.includes(host)) lost.abort(); // it may never say that it is gone
				}
				for (const host of hosts) {
					if (followed.has(host)) continue;
					const stream = one(host);
					streams.add(stream);
					void stream.finally(() => streams.delete(stream));
				}
				const left = end - Date.now();
				if (left > 0) {
					await setTimeout(Math.min(left, LOOK_MS), null, { signal });
				}
			} while (Date.now() < end);
			const late = setTimeout(PATIENCE_MS, null, { signal, ref: false });
			await Promise.race([Promise.all(streams), late]);
		} catch (error) {
			if (!signal.aborted) throw error;
		} finally {
			for (const lost of followed.values()) lost.abort();
		}
	}

	/** A host's events; none of one that stays silent, which must not hold the stream's end up. */
	async function* lines(host: string, request: string, signal: AbortSignal) {
		const engine = await cluster.engine(host);
		if (await engine.ping(PATIENCE_MS)) yield* engine.lines(request, signal);
	}

	return [[/^GET$/, /^\/events$/, ({ path, query }) => follow(path, query)]];
}

/** The next moment, as an engine takes it for `since`. @param nano nanoseconds since 1970 */
function after(nano: bigint): string {
	const text = String(nano + 1n).padStart(10, "0");
	return `${text.slice(0, -9)}.${text.slice(-9)}`;
}
