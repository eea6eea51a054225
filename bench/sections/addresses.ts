import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import type { Host } from "../../test/lab/lab.ts";
import type { Result, Work } from "../address-worker.ts";
import type { Bench } from "../bench.ts";
import { Client } from "../connection.ts";
import { atOnce, interleave, median } from "../figures.ts";

const WORKER = fileURLToPath(new URL("../address-worker.js", import.meta.url));

/** Processes that each allocate so many addresses, so many at once; none: what Consul itself can do. */
const RUNS = {
	"raw put, 1 at once": { processes: 0, width: 1, count: 300 },
	"1 process, 1 at once": { processes: 1, width: 1, count: 300 },
	"1 process, 16 at once": { processes: 1, width: 16, count: 1_000 },
	"1 process, 64 at once": { processes: 1, width: 64, count: 4_000 },
	"4 processes, 64 at once": { processes: 4, width: 64, count: 1_000 },
	"whole creates, 1 process, 64 at once": {
		...{ processes: 1, width: 64, count: 2_000, kind: "create" },
	},
	"whole creates, 4 processes, 64 at once": {
		...{ processes: 4, width: 64, count: 500, kind: "create" },
	},
	"raw put, 64 at once": { processes: 0, width: 64, count: 1_000 },
} as const satisfies Record<string, Run>;

interface Run extends Pick<Work, "width" | "count"> {
	processes: number;
	kind?: Work["kind"];
}

type Name = keyof typeof RUNS;
const NAMES = Object.keys(RUNS) as Name[];

/**
 * Addresses a second in a /19 against three Consul servers: leases alone, as the budgets count them, and with all else
 * that a create writes in the same transaction (record, reasons, slot).
 */
export async function addresses(bench: Bench): Promise<void> {
	const { report, stage, quick } = bench;
	report.section("Addresses leased a second, cluster of 3 Consul servers");
	const consul = (await leader(stage.lab.hosts)).consul;
	const { hostname: host, port } = new URL(consul);
	const raw = new Client({ host, port: Number(port) });
	const workers = await Promise.all(
		Array.from({ length: 4 }, (_, i) => startWorker(consul, `w${i}`)),
	);
	const requests: Partial<Record<Name, number[]>> = {};
	let run = 0;
	const rate = async (name: Name) => {
		const { processes, width, count, kind = "lease" }: Run = RUNS[name];
		run++;
		if (processes === 0) return putRate(raw, run, count, width);
		const work: Work = { kind, deployment: `d${run}`, count, width };
		const chosen = workers.slice(0, processes);
		for (const worker of chosen) await tell(worker, { ...work, count: 0 }); // the network is there
		const start = performance.now();
		const results = await Promise.all(
			chosen.map((worker) => tell(worker, work)),
		);
		const seconds = (performance.now() - start) / 1000;
		await proveDistinct(raw, work.deployment, count * processes);
		const sent = results.reduce((sum, result) => sum + result.requests, 0);
		requests[name] = [...(requests[name] ?? []), sent / (count * processes)];
		return (count * processes) / seconds;
	};
	const rates = await interleave(NAMES, quick ? 1 : 3, rate).finally(() => {
		for (const worker of workers) worker.kill();
	});
	await raw.ask("DELETE", "/v1/kv/arpanet/?recurse");
	raw.close();
	const perSecond = (name: Name) => median(rates[name]);
	const perAddress = (name: Name) => median(requests[name] ?? []);
	report.table(
		["", "per second", "requests per address"],
		NAMES.map((name) => [name, perSecond(name), perAddress(name)]),
	);
	report.budget(
		"addresses, 1 at once, over a raw put",
		perSecond("1 process, 1 at once") / perSecond("raw put, 1 at once"),
		{ least: 0.85, unit: " x" },
	);
	report.budget("addresses/s, 64 at once", perSecond("1 process, 64 at once"), {
		least: 6_000,
		stretch: 10_000,
	});
	report.budget(
		"addresses/s, 4 processes",
		perSecond("4 processes, 64 at once"),
		{
			least: 4_000,
			stretch: 8_000,
		},
	);
	report.budget(
		"Consul requests per address, 64 at once",
		perAddress("1 process, 64 at once"),
		{ most: 0.1, stretch: 0.05 },
	);
}

async function startWorker(
	consul: string,
	host: string,
): Promise<ChildProcess> {
	const worker = fork(WORKER, [consul, host]);
	await said(worker); // ready, and warm
	return worker;
}

async function tell(worker: ChildProcess, work: Work): Promise<Result> {
	worker.send(work);
	const result = await said(worker);
	if (result.error) throw new Error(result.error);
	return result;
}

async function said(worker: ChildProcess): Promise<Result> {
	const done = new AbortController();
	const { signal } = done;
	const ended = once(worker, "exit", { signal }).then(([code]) => {
		throw new Error(`a worker ended with ${code}`);
	});
	ended.catch(() => {}); // it goes on living, mostly
	try {
		const message = once(worker, "message", { signal });
		message.catch(() => {});
		const [result] = await Promise.race([message, ended]);
		return result as Result;
	} finally {
		done.abort();
	}
}

/** What Consul itself can do: one key, written if nobody has it. */
async function putRate(
	raw: Client,
	run: number,
	count: number,
	width: number,
): Promise<number> {
	const value = { host: "h1", deployment: "bench", container: "copy-1" };
	const start = performance.now();
	await atOnce(count, width, (i) =>
		raw.ask("PUT", `/v1/kv/raw/${run}/${i}?cas=0`, value),
	);
	const seconds = (performance.now() - start) / 1000;
	await raw.ask("DELETE", "/v1/kv/raw/?recurse");
	return count / seconds;
}

/** @throws when fewer addresses are leased than were given out: a fast allocator that gives one twice is none */
async function proveDistinct(
	raw: Client,
	deployment: string,
	count: number,
): Promise<void> {
	const prefix = `/v1/kv/arpanet/leases/${deployment}/`;
	const { body } = await raw.ask("GET", `${prefix}?keys`);
	const leases = (JSON.parse(body) as string[]).length - 1; // the host's bridge has one
	if (leases !== count) {
		throw new Error(`${count} addresses given, ${leases} leases in Consul`);
	}
	await raw.ask("DELETE", `${prefix}?recurse`);
	for (const what of ["containers", "reasons", "slots"]) {
		await raw.ask("DELETE", `/v1/kv/arpanet/${what}/?recurse`);
	}
}

async function leader(hosts: Host[]): Promise<Host> {
	const answer = await fetch(`${hosts[0]?.consul}/v1/status/leader`);
	const address = (await answer.text()).replace(/"|:\d+/g, "").trim();
	return hosts.find((host) => host.address === address) ?? (hosts[0] as Host);
}
