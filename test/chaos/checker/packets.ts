import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** Pings in one go: enough to cross between every two hosts. */
const MAX_PINGS = 12;

/** 4: packets go between containers of one deployment, on whatever hosts, and never to another's. */
export async function packets(
	hosts: readonly Seen[],
	{ containers }: Picture,
): Promise<Violation[]> {
	const running = containers.filter((each) => each.running && each.address);
	const seen = new Set<string>();
	const pairs: [Container, Container][] = [];
	for (const from of running) {
		for (const to of running) {
			const kind = `${from.deployment} ${from.host} ${to.deployment} ${to.host}`;
			if (from === to || seen.has(kind)) continue;
			seen.add(kind);
			pairs.push([from, to]);
		}
	}
	const step = Math.max(1, Math.ceil(pairs.length / MAX_PINGS));
	const chosen = pairs.filter((_, i) => i % step === 0);
	const found = await Promise.all(
		chosen.map(async ([from, to]): Promise<Violation[]> => {
			const host = hosts.find(({ name }) => name === from.host) as Seen;
			const ping = ["ping", "-c", "1", "-W", "2", to.address];
			const arrived = (await run(host, from.id, ping)).code === 0;
			const own = from.deployment === to.deployment;
			if (arrived === own) return [];
			return [
				`4: ${from.name} (${from.host}) ${own ? "cannot reach" : "reaches"} ${to.name} (${to.host})`,
			];
		}),
	);
	return found.flat();
}
