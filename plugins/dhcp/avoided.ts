import { readFileSync } from "node:fs";
import { networkInterfaces } from "node:os";
import { Netmask } from "netmask";
import type { NetworkInspect } from "../../pipeline/docker.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { subnetsOf } from "../../pipeline/state/subnets.ts";

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
	const elsewhere = [...kernelRoutes(), ...engines].filter(
		(cidr) => !new Netmask(cidr).contains(pool),
	);
	return [...own, ...elsewhere];
}

async function engineSubnets(cluster: Services["cluster"]): Promise<string[]> {
	const answers = await cluster.answers<NetworkInspect[]>("/networks");
	const networks = answers.flatMap(({ answer }) => answer ?? []);
	// what is left of arpanet's own is made anew, or goes; which are granted Consul knows
	return networks
		.filter(({ Labels }) => !Labels?.["arpanet.network"])
		.flatMap(subnetsOf)
		.map(String);
}

/** The kernel's main table, as `10.32.0.0/255.255.255.0`. */
function kernelRoutes(): string[] {
	let table: string;
	try {
		table = readFileSync("/proc/net/route", "utf8");
	} catch {
		return []; // not Linux
	}
	const dotted = (hex: string) =>
		[...Buffer.from(hex, "hex")].reverse().join(".");
	return table
		.split("\n")
		.slice(1)
		.map((line) => line.trim().split(/\s+/))
		.filter(([, , , , , , , mask]) => mask && !/^0+$/.test(mask)) // not the default
		.map(([, to = "", , , , , , mask = ""]) => `${dotted(to)}/${dotted(mask)}`);
}
