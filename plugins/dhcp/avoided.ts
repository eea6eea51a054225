import { networkInterfaces } from "node:os";
import type { Netmask } from "netmask";
import type { NetworkInspect } from "../../pipeline/docker.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { subnetsOf } from "../../pipeline/state/subnets.ts";
import { routes } from "./routes.ts";

/**
 * Ranges that a new subnet must keep out of: those that this machine itself has an address in, that its routes lead to (behind a VPN, or
 * Docker's bridges), and that any host's engine has for networks of its own, as an engine refuses a second network there. A route to more than the whole
 * pool says nothing of it. A host that does not answer is not heard.
 */
export async function avoided(
	pool: string,
	{ cluster }: Pick<Services, "cluster">,
): Promise<string[]> {
	const own = Object.values(networkInterfaces())
		.flat()
		.filter((each) => each?.family === "IPv4" && !each.internal)
		.map((each) => each?.cidr)
		.filter((cidr) => cidr !== null && cidr !== undefined);
	const engines = cluster.alone ? [] : await engineSubnets(cluster);
	const elsewhere = [...routes().map(({ subnet }) => subnet), ...engines]
		.filter((subnet) => !subnet.contains(pool))
		.map(String);
	return [...own, ...elsewhere];
}

async function engineSubnets(cluster: Services["cluster"]): Promise<Netmask[]> {
	const answers = await cluster.answers<NetworkInspect[]>("/networks");
	const networks = answers.flatMap(({ answer }) => answer ?? []);
	// what is left of arpanet's own is made anew, or goes; which are granted Consul knows
	return networks
		.filter(({ Labels }) => !Labels?.["arpanet.network"])
		.flatMap(subnetsOf);
}
