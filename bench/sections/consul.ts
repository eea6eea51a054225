import { setTimeout as sleep } from "node:timers/promises";
import type { Bench } from "../bench.ts";
import { Containers } from "../containers.ts";
import { type Counts, countingProxy } from "../counting.ts";
import { median } from "../figures.ts";

/** By then the agent has done all that an event made it do. */
const SETTLED = 400;

const STEPS = ["create", "start", "rm -f"] as const;

/**
 * Requests to Consul that each step of a container's life makes: in the client's way (an adapter of its own
 * behind a counter) and on the agent's account (another counter).
 */
export async function consul({ report, stage, quick }: Bench): Promise<void> {
	report.section("Requests to Consul per step: in the client's way, and after");
	await stage.arpanet.stop(); // two counters see two processes, and nothing else
	const { host, lab } = stage;
	const adapterSide = await countingProxy(lab.gateway, host.consul);
	const agentSide = await countingProxy(lab.gateway, host.consul);
	// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
	const through = (address: string) => (config: any) => {
		config.arpanet.consul = { address };
	};
	const adapter = await stage.more(
		"adapter",
		"counted-adapter",
		through(adapterSide.address),
	);
	const gateway = await stage.more(
		"gateway",
		"counted-gateway",
		undefined,
		adapter.port,
	);
	const agent = await stage.more(
		"agent",
		"counted-agent",
		through(agentSide.address),
	);
	const containers = new Containers(gateway.way.client, "deployment");
	const keep = await containers.create(); // the network stays
	await sleep(2_000); // the agent's first look

	const rows = STEPS.map((step) => ({
		step,
		way: [] as Counts[],
		after: [] as Counts[],
		asked: [] as string[],
	}));
	for (let round = 0; round < (quick ? 2 : 5); round++) {
		let id = "";
		const steps = [
			async () => {
				id = await containers.create();
			},
			() => containers.start(id),
			() => containers.remove(id),
		];
		for (const [i, work] of steps.entries()) {
			adapterSide.asked();
			agentSide.asked();
			const before = [adapterSide.counts(), agentSide.counts()];
			await work();
			const way = adapterSide.counts(before[0]);
			const asked = adapterSide.asked();
			await sleep(SETTLED);
			const late = adapterSide.counts(before[0]);
			const after = agentSide.counts(before[1]);
			after.reads += late.reads - way.reads;
			after.writes += late.writes - way.writes;
			const row = rows[i];
			row?.way.push(way);
			row?.after.push(after);
			if (row) row.asked = asked;
		}
	}
	// a sweep falls into few rounds: the median does not see it
	const of = (counts: Counts[], kind: keyof Counts) =>
		median(counts.map((each) => each[kind]));
	report.table(
		["", "way: writes", "reads", "after: writes", "reads"],
		rows.map(({ step, way, after }) => [
			step,
			of(way, "writes"),
			of(way, "reads"),
			of(after, "writes"),
			of(after, "reads"),
		]),
	);
	for (const { step, asked } of rows) {
		report.note(`${step}: ${asked.map(short).join(", ") || "nothing"}`);
	}
	const [made, started] = rows;
	if (made && started) {
		report.budget("Consul writes per create", of(made.way, "writes"), {
			most: 1,
		});
		report.budget("Consul reads per create", of(made.way, "reads"), {
			most: 0,
		});
		report.budget("transactions per start", of(started.way, "writes"), {
			most: 1,
		});
	}
	await containers.remove(keep);
	for (const { arpanet } of [gateway, adapter, agent]) await arpanet.stop();
	adapterSide.close();
	agentSide.close();
}

/** Ids cut, as in Docker's own lists. */
function short(line: string): string {
	return line
		.replace("/v1/", "")
		.replace(/[0-9a-f]{64}/g, (id) => id.slice(0, 6));
}
