import type { Bench } from "../bench.ts";
import { encode } from "../connection.ts";
import { Containers } from "../containers.ts";
import { atOnce, interleave, median } from "../figures.ts";
import { latencies, rate } from "./ping.ts";

const WAYS = ["direct", "node", "gateway"] as const;
const SIZES = [10, 60];
/** Requests before it counts: a gateway that has run for a while is compiled by then. */
const WARM = 1_000;

/** `containers/json?all=1` with few and with many containers. */
export async function list({ report, stage, quick }: Bench): Promise<void> {
	report.section(
		`GET /containers/json?all=1 with ${SIZES.join(" and ")} containers`,
	);
	const request = encode("GET", "/containers/json?all=1");
	const engine = new Containers(stage.direct.client, "plain");
	const ids: string[] = [];
	const rows: (string | number)[][] = [];
	for (const size of SIZES) {
		await atOnce(size - ids.length, 2, async () =>
			ids.push(await engine.create()),
		);
		for (const way of WAYS) await latencies(stage.ways[way], request, WARM);
		const took = await interleave(WAYS, quick ? 3 : 7, async (way) =>
			median(await latencies(stage.ways[way], request, quick ? 20 : 60)),
		);
		const rates = await interleave(WAYS, quick ? 1 : 3, (way) =>
			rate(stage.ways[way], request, 500),
		);
		for (const way of WAYS) {
			rows.push([
				`${size}: ${way}`,
				median(took[way]),
				median(took[way]) / median(took.direct),
				median(rates[way]),
				median(rates[way]) / median(rates.direct),
			]);
		}
		report.budget(
			`containers/json with ${size}: p50 over direct`,
			median(took.gateway) / median(took.direct),
			{ most: 0.5, stretch: 0.15, unit: " x" },
		);
	}
	report.table(
		["", "p50 ms", "of direct", "per second at 32", "of direct"],
		rows,
	);
	await atOnce(ids.length, 2, (i) => engine.remove(ids[i] as string));
}
