import { setTimeout as sleep } from "node:timers/promises";
import type { Bench } from "../bench.ts";
import { Containers } from "../containers.ts";
import { interleave, median, timed } from "../figures.ts";
import type { Stage } from "../stage.ts";
import { creates, life, waysOf } from "./create.ts";

const WAYS = ["direct, network + address", "gateway, everything"] as const;
const [DIRECT, GATEWAY] = WAYS;

/** For so long after arpanet's start every read of Consul is a consistent one. */
const UNTRUSTED_MS = 30_000;

type Took = Record<(typeof WAYS)[number], number[]>;

/** What create and start cost where each commit goes to three Consul servers' disks. */
export async function cluster({ report, stage, quick }: Bench): Promise<void> {
	report.section("create and start with a cluster of 3 Consul servers");
	await Containers.prepare(stage.direct.client);
	if (!quick) await sleep(UNTRUSTED_MS);
	const ways = waysOf(stage);
	for (const name of WAYS) await life(ways[name]); // warm
	const first = await ways[GATEWAY].create(); // its deployment's network stays

	const made = await creates(ways, WAYS, quick ? 10 : 40);
	const again: Took = { [DIRECT]: [], [GATEWAY]: [] };
	const started = await interleave(WAYS, quick ? 3 : 10, async (name) => {
		const id = await ways[name].create();
		const took = await timed(() => ways[name].start(id));
		for (let i = 0; i < 5; i++) {
			await deregister(stage, id);
			again[name].push(await timed(() => ways[name].start(id)));
		}
		await ways[name].remove(id);
		return took;
	});
	report.table(
		["", "create ms", "start ms", "start one that runs and is not in DNS ms"],
		WAYS.map((name) => [
			name,
			median(made[name]),
			median(started[name]),
			median(again[name]),
		]),
	);
	await ways[GATEWAY].remove(first);
	const over = (took: Took) => median(took[GATEWAY]) - median(took[DIRECT]);
	report.budget("create with everything over direct, cluster", over(made), {
		most: 8,
		stretch: 5,
		unit: " ms",
	});
	// the engine's own start takes a hundred times as long, and varies by more than that
	report.budget("start with registration over direct, cluster", over(again), {
		most: 3,
		unit: " ms",
	});
}

/** Takes a container out of the catalog, so that a start has all to do that a start has. */
async function deregister({ host }: Stage, id: string): Promise<void> {
	const Node = `arpanet-${host.name}`;
	const node = await fetch(`${host.consul}/v1/catalog/node/${Node}`);
	const known = (await node.json()) as {
		Services: Record<string, { ID: string; Meta: { container?: string } }>;
	} | null;
	for (const { ID, Meta } of Object.values(known?.Services ?? {})) {
		if (Meta.container !== id) continue;
		await fetch(`${host.consul}/v1/catalog/deregister`, {
			method: "PUT",
			body: JSON.stringify({ Node, ServiceID: ID }),
		});
	}
}
