import type { Bench } from "../bench.ts";
import { Containers } from "../containers.ts";
import { atOnce, interleave, median, timed } from "../figures.ts";
import type { Stage } from "../stage.ts";

/** In the second, the engine does the same work as for a deployment's container: compare with that. */
const WAYS = [
	"direct",
	"direct, network + address",
	"node",
	"gateway, plain",
	"gateway, everything",
] as const;

type Name = (typeof WAYS)[number];

/** The life of a container, in turn and eight at once, and its creation alone. */
export async function create({ report, stage, quick }: Bench): Promise<void> {
	await Containers.prepare(stage.direct.client);
	const ways = waysOf(stage);
	for (const name of WAYS) await life(ways[name]); // warm
	const first = await ways["gateway, everything"].create(); // its deployment's network stays

	report.section("POST /containers/create alone");
	const made = await creates(ways, WAYS, quick ? 10 : 40);
	report.table(["", "p50 ms", "over direct"], compare(WAYS, made));
	report.budget(
		"create with everything over direct, one Consul",
		median(made["gateway, everything"]) -
			median(made["direct, network + address"]),
		{ most: 5, stretch: 3, unit: " ms" },
	);

	report.section("create + start + rm -f, one after the other");
	const parts = { create: lists(), start: lists(), remove: lists() };
	const whole = await interleave(WAYS, quick ? 2 : 6, async (name) => {
		const took = await life(ways[name]);
		parts.create[name].push(took.create);
		parts.start[name].push(took.start);
		parts.remove[name].push(took.remove);
		return took.create + took.start + took.remove;
	});
	report.table(
		["", "create ms", "start ms", "rm ms", "all ms", "over direct"],
		WAYS.map((name) => [
			name,
			median(parts.create[name]),
			median(parts.start[name]),
			median(parts.remove[name]),
			median(whole[name]),
			`${(median(whole[name]) / median(whole.direct)).toFixed(2)} x`,
		]),
	);

	report.section("create + start + rm -f, 8 at once (the engine serialises)");
	const together = await interleave(WAYS, quick ? 1 : 2, (name) =>
		timed(() => atOnce(8, 8, () => life(ways[name]))),
	);
	report.table(["", "8 in ms", "over direct"], compare(WAYS, together));
	await ways["gateway, everything"].remove(first);
}

/** Creates in turn over each way; they are removed afterwards. */
export async function creates<N extends string>(
	ways: Record<N, Containers>,
	names: readonly N[],
	rounds: number,
): Promise<Record<N, number[]>> {
	const made: [N, string][] = [];
	const took = await interleave(names, rounds, (name) =>
		timed(async () => made.push([name, await ways[name].create()])),
	);
	await atOnce(made.length, 2, async (i) => {
		const [name, id] = made[i] as [N, string];
		await ways[name].remove(id);
	});
	return took;
}

/** Milliseconds of each part of a container's life. */
export async function life(
	containers: Containers,
): Promise<{ create: number; start: number; remove: number }> {
	let id = "";
	return {
		create: await timed(async () => {
			id = await containers.create();
		}),
		start: await timed(() => containers.start(id)),
		remove: await timed(() => containers.remove(id)),
	};
}

/** The same containers over every way. */
export function waysOf(stage: Stage): Record<Name, Containers> {
	const { direct, node, gateway } = stage;
	return {
		direct: new Containers(direct.client, "plain"),
		"direct, network + address": new Containers(direct.client, "network"),
		node: new Containers(node.client, "plain"),
		"gateway, plain": new Containers(gateway.client, "plain"),
		"gateway, everything": new Containers(gateway.client, "deployment"),
	};
}

function compare(
	names: readonly Name[],
	took: Record<Name, number[]>,
): (string | number)[][] {
	const [base] = names as [Name];
	return names.map((name) => [
		name,
		median(took[name]),
		`${(median(took[name]) / median(took[base])).toFixed(2)} x`,
	]);
}

function lists(): Record<Name, number[]> {
	return Object.fromEntries(WAYS.map((name) => [name, []])) as never;
}
