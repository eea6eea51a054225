import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { leaseKey, toAddress, toNumber } from "../../pipeline/state/leases.ts";
import type { Operation } from "../../pipeline/state/operations.ts";
import { slotKey } from "../../pipeline/state/slots.ts";
import { Store } from "../../pipeline/state/store.ts";
import type { Bench } from "../bench.ts";
import { encode } from "../connection.ts";
import { Containers } from "../containers.ts";
import { atOnce, interleave, median, timed } from "../figures.ts";
import type { Stage } from "../stage.ts";
import { latencies } from "./ping.ts";
import { memory } from "./startup.ts";

const ENGINES = fileURLToPath(
	new URL("../simulated-engines.js", import.meta.url),
);
const FIRST_PORT = 20_000;
/** Hosts that are only in Consul's books, and how many containers each of them has there. */
const FEW = { hosts: 2, each: 50 };
const MANY = { hosts: 200, each: 50 };
const WAYS = ["direct", "gateway"] as const;
type Name = (typeof WAYS)[number];

/**
 * What grows with hosts and containers: a real host, to which a constraint sends everything, first beside 2 hosts with
 * 100 containers and then beside 200 with 10,000 that Consul tells of.
 */
export async function scale({ report, stage, quick }: Bench): Promise<void> {
	report.section(
		"One real host beside simulated ones: 3 hosts with 100 containers, 201 hosts with 10,000",
	);
	await simulate(stage, MANY.hosts);
	await Containers.prepare(stage.direct.client);
	const store = new Store({ address: stage.host.consul });
	const ways: Record<Name, Containers> = {
		direct: new Containers(stage.direct.client, "network"),
		gateway: new Containers(
			stage.gateway.client,
			"deployment",
			stage.host.name,
		),
	};
	const rows: (string | number)[][] = [];
	const over: number[] = [];
	for (const { hosts, each } of [FEW, MANY]) {
		await enter(store, stage.host.address, hosts, each);
		await sees(stage, hosts + 1);
		const first = await ways.gateway.create(); // its deployment's network stays
		const ids: [Name, string][] = [];
		const took = await interleave(WAYS, quick ? 10 : 40, (name) =>
			timed(async () => ids.push([name, await ways[name].create()])),
		);
		const request = encode("GET", "/v1.40/containers/json?all=1");
		await latencies(stage.gateway, request, 5);
		const list = await latencies(stage.gateway, request, quick ? 10 : 40);
		over.push(median(took.gateway) - median(took.direct));
		rows.push([
			`${hosts + 1} hosts, ${hosts * each} containers`,
			median(took.direct),
			median(took.gateway),
			median(list),
			await memory(stage.arpanet.process.pid, "VmRSS"),
		]);
		await atOnce(ids.length, 2, async (i) => {
			const [name, id] = ids[i] as [Name, string];
			await ways[name].remove(id);
		});
		await ways.gateway.remove(first);
	}
	report.table(
		["", "create direct ms", "create ms", "list ms", "memory MB"],
		rows,
	);
	const [small, large] = rows as [number[], number[]];
	report.budget(
		"create, 201 hosts and 10,000 containers over 3 and 100",
		(large[2] as number) / (small[2] as number),
		{ most: 1.2, stretch: 1, unit: " x" },
	);
	report.budget("memory, 10,000 containers known", large[4] as number, {
		most: 250,
		stretch: 150,
		unit: " MB",
	});
	store.close();
}

/** Starts the engines of hosts that are none. */
async function simulate({ host }: Stage, count: number): Promise<void> {
	const args = [ENGINES, host.address, String(FIRST_PORT), String(count)];
	const child = host.spawn(process.execPath, args, {
		stdio: ["ignore", "pipe", "inherit"],
	});
	if (child.stdout) await once(child.stdout, "data");
}

/** Writes hosts and their containers to Consul, as agents and creates would have. */
async function enter(
	store: Store,
	address: string,
	hosts: number,
	each: number,
): Promise<void> {
	const first = toNumber("10.200.0.1");
	const work: Operation[][] = [];
	for (let host = 0; host < hosts; host++) {
		const name = `simulated${host}`;
		const { record, alive } = hostKeys(name);
		const engine = `tcp://${address}:${FIRST_PORT + host}`;
		work.push([
			{
				verb: "set",
				key: record,
				value: { name, address, engine, cpus: 64, memory: 256e9 },
			},
			{ verb: "set", key: alive, value: { load: 0, address } },
		]);
		for (let i = 0; i < each; i++) {
			const number = host * each + i;
			const container = `big_web_${number + 1}`;
			const lease = leaseKey("big", toAddress(first + number));
			const slot = slotKey(name, i + 1);
			const placed = { container, deployment: "big", service: "web" };
			const facts = {
				...{ deployment: "big", service: "web", index: number + 1 },
				...{ host: name, network: "big", slot: i + 1 },
				address: toAddress(first + number),
			};
			work.push([
				{
					verb: "set",
					key: `arpanet/containers/${container}`,
					value: { facts, holds: [lease, slot], attempts: 1 },
				},
				{ verb: "set", key: slot, value: placed },
				{
					verb: "set",
					key: lease,
					value: { host: name, deployment: "big", container },
				},
			]);
		}
	}
	await atOnce(work.length, 64, (i) => store.commit(work[i] as Operation[]));
}

/** Returns when the gateway knows of so many hosts. */
async function sees({ gateway }: Stage, hosts: number): Promise<void> {
	for (let tries = 0; tries < 600; tries++) {
		const { body } = await gateway.client.ask("GET", "/v1.40/info");
		if (body.includes(`["Hosts","${hosts}"]`)) return;
		await new Promise((resolve) => setTimeout(resolve, 100));
	}
	throw new Error(`the gateway does not see ${hosts} hosts`);
}
