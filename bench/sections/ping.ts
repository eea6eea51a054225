import { connect } from "node:net";
import type { Bench } from "../bench.ts";
import { Connection, encode, type Target } from "../connection.ts";
import { interleave, median, percentile } from "../figures.ts";

const WAYS = ["direct", "node", "gateway"] as const;
const CONNECTIONS = 32;

/** The lightest request: what a proxy adds to it, and how many it carries. */
export async function ping(bench: Bench): Promise<void> {
	const { report, stage, quick } = bench;
	report.section(
		`GET /_ping: one connection, and rate at ${CONNECTIONS} connections`,
	);
	const request = encode("GET", "/_ping");
	const rounds = quick ? 3 : 9;
	const each = quick ? 100 : 300;
	for (const way of WAYS) await latencies(stage.ways[way], request, 300); // warm

	const p50 = perWay(() => [] as number[]);
	const p95 = perWay(() => [] as number[]);
	await interleave(WAYS, rounds, async (way) => {
		const took = await latencies(stage.ways[way], request, each);
		p50[way].push(percentile(took, 0.5));
		p95[way].push(percentile(took, 0.95));
		return [];
	});
	const rates = await interleave(WAYS, quick ? 2 : 5, (way) =>
		bareRate(stage.ways[way].socketPath, request, quick ? 400 : 1_000),
	);
	const direct = { p50: median(p50.direct), p95: median(p95.direct) };
	report.table(
		["", "p50 ms", "p95 ms", "added p50", "per second", "of direct"],
		WAYS.map((way) => [
			way,
			median(p50[way]),
			median(p95[way]),
			median(p50[way]) - direct.p50,
			median(rates[way]),
			median(rates[way]) / median(rates.direct),
		]),
	);
	report.budget(
		"ping: added p50 over direct",
		median(p50.gateway) - direct.p50,
		{
			most: 0.8,
			stretch: 0.3,
			unit: " ms",
		},
	);
	report.budget(
		"ping: added p95 over direct",
		median(p95.gateway) - direct.p95,
		{
			most: 1.5,
			unit: " ms",
		},
	);
	report.budget(
		`ping: rate at ${CONNECTIONS} over direct`,
		median(rates.gateway) / median(rates.direct),
		{ least: 0.25, stretch: 0.5, unit: " x" },
	);
}

/** Milliseconds of each of so many requests, one after the other. */
export async function latencies(
	target: Target,
	request: Buffer,
	count: number,
): Promise<number[]> {
	const connection = await Connection.open(target);
	const took: number[] = [];
	for (let i = 0; i < count; i++) {
		const start = performance.now();
		await connection.send(request);
		took.push(performance.now() - start);
	}
	connection.close();
	return took;
}

/** Requests a second that many connections at once get through. */
export async function rate(
	target: Target,
	request: Buffer,
	ms: number,
	connections = CONNECTIONS,
): Promise<number> {
	const all = await Promise.all(
		Array.from({ length: connections }, () => Connection.open(target)),
	);
	const start = performance.now();
	let count = 0;
	await Promise.all(
		all.map(async (connection) => {
			while (performance.now() - start < ms) {
				await connection.send(request);
				count++;
			}
		}),
	);
	const seconds = (performance.now() - start) / 1000;
	for (const connection of all) connection.close();
	return count / seconds;
}

/**
 * The same where all answers have one length: a client that only counts bytes, since one that reads them
 * would be the narrowest place of all.
 */
export async function bareRate(
	path: string,
	request: Buffer,
	ms: number,
): Promise<number> {
	const length = await new Promise<number>((resolve, reject) => {
		const socket = connect(path, () => socket.write(request));
		socket.once("error", reject);
		socket.once("data", (answer: Buffer) => {
			socket.destroy();
			resolve(answer.length);
		});
	});
	const start = performance.now();
	const counts = await Promise.all(
		Array.from({ length: CONNECTIONS }, () => turns(path, request, length, ms)),
	);
	const seconds = (performance.now() - start) / 1000;
	return counts.reduce((sum, count) => sum + count, 0) / seconds;
}

/** Requests that one connection gets answered in so many milliseconds. */
function turns(
	path: string,
	request: Buffer,
	length: number,
	ms: number,
): Promise<number> {
	return new Promise((resolve, reject) => {
		const end = performance.now() + ms;
		let count = 0;
		let missing = length;
		const socket = connect(path, () => socket.write(request));
		socket.setTimeout(10_000, () =>
			socket.destroy(new Error("an answer of another length, or none")),
		);
		socket.on("error", reject);
		socket.on("data", (chunk: Buffer) => {
			missing -= chunk.length;
			if (missing > 0) return;
			count++;
			missing = length;
			if (performance.now() < end) socket.write(request);
			else {
				socket.destroy();
				resolve(count);
			}
		});
	});
}

function perWay<T>(make: () => T): Record<(typeof WAYS)[number], T> {
	return { direct: make(), node: make(), gateway: make() };
}
