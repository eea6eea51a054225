import type { Config } from "../pipeline/config.ts";
import { readLeader } from "../pipeline/state/leader.ts";
import { listRepairs } from "../pipeline/state/repairs.ts";
import { Store } from "../pipeline/state/store.ts";
import { table } from "./table.ts";

/**
 * Which host's agent leads, since when, and what was repaired lately by all of them, counted.
 * @throws HttpError 503 when Consul does not answer
 */
export async function showLeader(config: Config): Promise<string> {
	const store = new Store(config.arpanet.consul);
	try {
		const [leader, repairs] = await Promise.all([
			readLeader(store),
			listRepairs(store),
		]);
		const lines = [
			leader
				? `${leader.value.host} leads since ${leader.value.since}`
				: "Nobody leads. Run arpanet up, or arpanet agent, on a host.",
		];
		const counts = new Map<string, { count: number; last: string }>();
		for (const { value } of repairs) {
			const before = counts.get(value.what)?.count ?? 0;
			counts.set(value.what, { count: before + 1, last: value.at });
		}
		if (counts.size > 0) {
			const rows = [...counts].map(([what, { count, last }]) => [
				what,
				String(count),
				last,
			]);
			lines.push("", ...table([["REPAIR", "TIMES", "LAST"], ...rows]));
		}
		return lines.join("\n");
	} finally {
		store.close();
	}
}
