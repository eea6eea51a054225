import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** Pings at once. */
const MAX_PINGS = 12;

/**
 * 4: packets go between containers of one deployment, on whatever hosts, and never to another's: a pair of containers
 * for each two deployments and each two hosts.
 */
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
	const found: Violation[] = [];
	while (pairs.length > 0) {
		const sent = pairs.splice(0, MAX_PINGS).map(async ([from, to]) => {
			const host = hosts.find(({ name }) => name === from.host) as Seen;
			return sendOne(host, from, to);
		});
		found.push(...(await Promise.all(sent)).flat());
	}
	return found;
}

async function sendOne(
	host: Seen,
	from: Container,
	to: Container,
): Promise<Violation[]> {
	const ping = ["ping", "-c", "1", "-W", "2", to.address];
	const arrived = (await run(host, from.id, ping)).code === 0;
	const own = from.deployment === to.deployment;
	if (arrived === own) return [];
	return [
		`4: ${from.name} (${from.host}) ${own ? "cannot reach" : "reaches"} ${to.name} (${to.host})`,
	];
}
