import { existsSync } from "node:fs";
import { Netmask } from "netmask";
import type { Config } from "../../pipeline/config.ts";
import { Engine } from "../../pipeline/engine.ts";
import { overlap, type Pool } from "../../pipeline/state/subnets.ts";
import { routes } from "../../plugins/dhcp/routes.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

/** Addresses that dhcp gives do not hide what this host reaches elsewhere. */
export async function checkPool(
	config: Config,
	{ pool, reserved }: Pool,
): Promise<Finding[]> {
	const whole = new Netmask(pool);
	const kept = reserved.map((range) => new Netmask(range));
	const own = await ownSubnets(config);
	const inside = routes().filter(
		({ subnet, device }) =>
			overlap(whole, subnet) &&
			// without the engine any bridge may be one of ours
			!(own?.has(subnet.toString()) ?? isBridge(device)) &&
			!kept.some((range) => range.contains(subnet)),
	);
	if (inside.length === 0)
		return [ok(`dhcp: no route of this host in ${pool}`)];
	return inside.map(({ subnet, device }) => {
		const what = `dhcp: pool ${pool} overlaps ${subnet}, which this host reaches by ${device}`;
		return subnet.contains(whole)
			? fail(what, "set another pool, such as 172.20.0.0/14")
			: warn(what, `add ${subnet} to "reserved" of dhcp, or set another pool`);
	});
}

/** The subnets that are routed to bridges which arpanet itself has made; undefined when the engine does not tell. */
async function ownSubnets(config: Config): Promise<Set<string> | undefined> {
	const engine = new Engine(config.arpanet.engine);
	try {
		const networks = await engine.listNetworks("arpanet.network");
		return new Set(
			networks.flatMap(({ IPAM }) =>
				(IPAM?.Config ?? []).map(({ Subnet = "" }) => Subnet),
			),
		);
	} catch {
		return undefined; // that the engine does not answer another line says
	} finally {
		engine.close();
	}
}

function isBridge(device: string): boolean {
	return existsSync(`/sys/class/net/${device}/bridge`);
}
