import { bridgeOf, type NetworkInspect } from "../pipeline/docker.ts";
import type { Services } from "../pipeline/plugin.ts";
import { exposures } from "../pipeline/state/exposed.ts";
import { guestsOf } from "../pipeline/state/guests.ts";
import { hostsKeptOut } from "../pipeline/state/moves.ts";
import type { Alarm } from "./alarm.ts";
import { command, ip, type Link } from "./commands.ts";
import { clearChains, writeChains } from "./firewall.ts";
import { apart } from "./guard/apart.ts";
import { ends } from "./guard/ends.ts";
import { forwarding } from "./guard/forwarding.ts";
import { names } from "./guard/names.ts";
import type { Seen } from "./guard/seen.ts";
import { repeat } from "./repeat.ts";

/** How often the rules are written although nothing changed: someone may have flushed them. */
const REFRESH_MS = 30_000;
/** How soon to try again what has failed. */
const RETRY_MS = 1_000;
/** A device's name that a rule may have: Linux allows almost any, but not all are one word there, and `+` is a pattern. */
const DEVICE = /^[\w.@][^\s"'+\\]{0,14}$/;
/** A subnet that a rule may have. */
const SUBNET = /^[\d./]+$/;

/**
 * Keeps deployments apart in the host's firewall: what Docker and Consul would let through themselves; and with several hosts all
 * containers from what is the hosts' alone. The rules stay in the kernel while this does not run, if there is a deployment's network.
 */
export async function guard(
	services: Services,
	alarm: Alarm,
	signal: AbortSignal,
): Promise<void> {
	let written: string | undefined;
	let isApart: boolean | undefined;
	const work = async () => {
		const seen = await see(services);
		written = await look(seen, written);
		isApart = await keepApart(seen, isApart);
	};
	await repeat(work, {
		signal,
		log: services.log,
		failure: "deployments are not guarded",
		rest: (failed) => alarm.rest(failed ? RETRY_MS : REFRESH_MS, signal),
	});
	if (!written) return;
	const ending = async () => look(await see(services), written, true);
	await ending().catch(() => {});
}

/**
 * @param written rules that stand there; undefined: whatever
 * @param ending this host's arpanet stops
 * @returns those that do now
 */
async function look(
	seen: Seen,
	written: string | undefined,
	ending = false,
): Promise<string | undefined> {
	const chains = [...names(seen), ...ends(seen), ...forwarding(seen)];
	const rules = JSON.stringify(chains.map((chain) => chain.rules));
	const isMember = seen.peers.length > 0 && !ending;
	if (seen.here.length > 0 || isMember) await writeChains(chains);
	else if (seen.lost.length > 0)
		return written; // soon they are back, and nobody gets through meanwhile
	else if (written !== rules) await clearChains(chains);
	return rules;
}

/**
 * The same for IPv6, which hardly a host uses.
 * @param isApart whether there are rules; undefined: an earlier run may have left some
 * @returns whether there are any now
 */
async function keepApart(
	seen: Seen,
	isApart: boolean | undefined,
): Promise<boolean> {
	const chains = apart(seen);
	if (seen.ipv6.length > 0) {
		await writeChains(chains, "ip6tables");
		return true;
	}
	if (isApart === false) return false;
	// nothing is left where ip6tables is not there
	const standing = await command("ip6tables-save").catch(() => "");
	const isLeft = chains.some(({ name }) => standing.includes(`\n:${name} `));
	if (isLeft) await clearChains(chains, "ip6tables");
	return false;
}

async function see(services: Services): Promise<Seen> {
	const { engine, networks, cluster, store, host } = services;
	const docker = (await engine.get<NetworkInspect[]>("/networks")) ?? [];
	const all = (await networks.list()).map(({ value }) => value).filter(isSafe);
	const names = new Map(all.map(({ scope, name }) => [scope, name]));
	const ranges = new Map(
		docker.flatMap(({ Name, Labels, IPAM }) => {
			const scope = Labels?.["arpanet.network"];
			if (!scope || (names.get(scope) ?? Name) !== Name) return []; // not that network
			return [[scope, IPAM?.Config ?? []]];
		}),
	);
	const [, ...others] = await cluster.all();
	const uplink = await deviceOf(host.address);
	const keptOut = await hostsKeptOut(store);
	const bridges = docker
		.filter(({ Driver }) => Driver === "bridge")
		.map((network) => ({ ...network, bridge: bridgeOf(network) }))
		.filter(({ bridge }) => DEVICE.test(bridge))
		.filter(({ bridge }) => bridge !== uplink);
	return {
		all,
		here: all.flatMap((network) => {
			const found = ranges.get(network.scope);
			const own = found?.find(({ Subnet }) => Subnet === network.subnet);
			return found ? [{ ...network, gateway: own?.Gateway ?? "" }] : [];
		}),
		lost: [...ranges]
			.filter(([scope]) => !all.some((network) => network.scope === scope))
			.flatMap(([, config]) => config.map(({ Subnet }) => Subnet ?? ""))
			.filter((subnet) => SUBNET.test(subnet)),
		bridges: bridges.map(({ bridge }) => bridge),
		ipv6: bridges
			.filter(({ Labels }) => Labels?.["arpanet.network"])
			.filter(({ IPAM }) =>
				IPAM?.Config?.some(({ Subnet }) => Subnet?.includes(":")),
			)
			.map(({ bridge }) => bridge),
		plain: bridges.find(({ Name }) => Name === "bridge")?.bridge,
		exposed: await exposures(store),
		guests: await guestsOf(store),
		host: host.address,
		peers: others.map(({ address }) => address),
		keptOut: all.flatMap(({ scope, vni }) =>
			others
				.filter(({ name }) => keptOut.get(scope)?.has(name))
				.map(({ address }) => ({ address, vni })),
		),
	};
}

/** The device that has an address of this host. Asked of ip, at each look: see `interfaceWith`. */
async function deviceOf(address: string): Promise<string | undefined> {
	const found = (await ip("address", "show", "to", address)) as Partial<Link>[];
	return found.find(({ ifname }) => ifname)?.ifname; // some versions tell of the others, too, as {}
}

/** Whether it may stand in a rule: it comes from Consul and goes to root's firewall. */
function isSafe({ scope, subnet }: { scope: string; subnet: string }): boolean {
	return /^[a-z0-9-]{1,100}$/.test(scope) && SUBNET.test(subnet);
}
