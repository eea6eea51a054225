import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** What every deployment has copies of. */
const SERVICE = "web";

/** What a service is called in a deployment whose containers link to it. */
interface Link {
	deployment: string;
	alias: string;
	service: string;
}

/**
 * 3, 4: on each host, a container of each deployment gets its own copies for a name, a link's copies for that of a link,
 * and for another's name nobody.
 */
export async function lookups(
	hosts: readonly Seen[],
	{ containers }: Picture,
	link: Link,
): Promise<Violation[]> {
	const running = containers.filter((each) => each.running && each.address);
	const askers = new Map<string, Container>();
	for (const each of running) {
		askers.set(`${each.deployment} ${each.host}`, each);
	}
	const copiesOf = (deployment: string, service: string) =>
		running.filter(
			(each) => each.deployment === deployment && each.service === service,
		);
	const isLinked = containers.some(
		(each) => each.deployment === link.deployment && each.service === SERVICE,
	);
	const deployments = new Set(running.map(({ deployment }) => deployment));
	const found = await Promise.all(
		[...askers.values()].flatMap((asker) => {
			const own = asker.deployment;
			const names: [name: string, copies: Container[]][] = [
				[SERVICE, copiesOf(own, SERVICE)],
			];
			if (own === link.deployment) {
				const copies = isLinked ? copiesOf(own, link.service) : [];
				names.push([link.alias, copies]);
			}
			for (const other of deployments) {
				if (other !== own)
					names.push([`${SERVICE}.${other}.service.consul`, []]);
			}
			const host = hosts.find(({ name }) => name === asker.host) as Seen;
			return names.map(async ([name, copies]): Promise<Violation[]> => {
				const seen = await resolve(host, asker, name);
				const addresses = copies.map(({ address }) => address);
				const wanted = addresses.sort().join();
				if (seen === wanted) return [];
				return [
					`${name.includes(".") ? 4 : 3}: ${name} is ${seen} in ${asker.name} (${asker.host}), and should be ${wanted}`,
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
