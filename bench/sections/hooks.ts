import type { Bench } from "../bench.ts";
import { encode } from "../connection.ts";
import { interleave, median, percentile } from "../figures.ts";
import { HOOKED, type Way } from "../stage.ts";
import { latencies } from "./ping.ts";

/** What a pre- and a post-hook cost that have nothing to do: in process, and over HTTP. */
export async function hooks({ report, stage, quick }: Bench): Promise<void> {
	report.section("A ping with a pre- and a post-hook, and without");
	const adapter = await stage.more("adapter", "apart-adapter");
	const apart = await stage.more(
		"gateway",
		"apart-gateway",
		undefined,
		adapter.port,
	);
	const hooked = encode("GET", HOOKED);
	const plain = encode("GET", "/v1.41/_ping");
	const ways: Record<string, [Way, Buffer]> = {
		"in process, none": [stage.gateway, plain],
		"in process, two hooks": [stage.gateway, hooked],
		"over HTTP, none": [apart.way, plain],
		"over HTTP, two hooks": [apart.way, hooked],
	};
	for (const [way, request] of Object.values(ways)) {
		await latencies(way, request, 300); // warm
	}
	const p95: Record<string, number[]> = {};
	const p50 = await interleave(
		Object.keys(ways),
		quick ? 3 : 9,
		async (name) => {
			const [way, request] = ways[name] as [Way, Buffer];
			const took = await latencies(way, request, quick ? 100 : 300);
			p95[name] = [...(p95[name] ?? []), percentile(took, 0.95)];
			return median(took);
		},
	);
	const hook = (where: string) =>
		(median(p50[`${where}, two hooks`] ?? []) -
			median(p50[`${where}, none`] ?? [])) /
		2;
	report.table(
		["", "p50 ms", "p95 ms"],
		Object.keys(ways).map((name) => [
			name,
			median(p50[name] ?? []),
			median(p95[name] ?? []),
		]),
	);
	report.budget("a hook in process", hook("in process"), {
		most: 0.7,
		stretch: 0.3,
		unit: " ms",
	});
	report.budget("a hook over HTTP", hook("over HTTP"), {
		most: 2.4,
		stretch: 1.2,
		unit: " ms",
	});
	await apart.arpanet.stop();
	await adapter.arpanet.stop();
}
