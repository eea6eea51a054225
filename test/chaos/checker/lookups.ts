import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** What every deployment has copies of. */
const SERVICE = "web";

/** 3, 4: on each host, a container of each deployment gets its own copies for a name, and for another's name nobody. */
export async function lookups(
	hosts: readonly Seen[],
	{ containers }: Picture,
): Promise<Violation[]> {
	const running = containers.filter((each) => each.running && each.address);
	const askers = new Map<string, Container>();
	for (const each of running) {
		askers.set(`${each.deployment} ${each.host}`, each);
	}
	const deployments = new Set(running.map(({ deployment }) => deployment));
	const found = await Promise.all(
		[...askers.values()].flatMap((asker) => {
			const host = hosts.find(({ name }) => name === asker.host) as Seen;
			return [...deployments].map(async (deployment): Promise<Violation[]> => {
				const own = deployment === asker.deployment;
				const name = own ? SERVICE : `${SERVICE}.${deployment}.service.consul`;
				const seen = await resolve(host, asker, name);
				const wanted = running
					.filter((each) => own && each.deployment === deployment)
					.filter(({ service }) => service === SERVICE)
					.map(({ address }) => address)
					.sort()
					.join();
				if (seen === wanted) return [];
				return [
					`${own ? 3 : 4}: ${name} is ${seen} in ${asker.name} (${asker.host}), and should be ${wanted}`,
				];
			});
		}),
	);
	return found.flat();
}

async function resolve(
	host: Seen,
	asker: Container,
	name: string,
): Promise<string> {
	const { said } = await run(host, asker.id, ["nslookup", name]);
	const text = said.replaceAll("\r", "");
	const answer = text.slice(text.indexOf("\n\n")); // above it stands who was asked
	const all = answer.matchAll(/^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)/gm);
	const addresses = [...all].map(([, address]) => address);
	return [...new Set(addresses)].sort().join();
}
