import { bridgeOf } from "../pipeline/docker.ts";
import { messageOf } from "../pipeline/errors.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { KnownHost } from "../pipeline/state/hosts.ts";
import { GATEWAYS, gatewayIn, Leases } from "../pipeline/state/leases.ts";
import { type HostsKeptOut, hostsKeptOut } from "../pipeline/state/moves.ts";
import { MTU } from "../pipeline/state/networks.ts";
import { Ripening } from "../pipeline/state/ripening.ts";
import type { Store } from "../pipeline/state/store.ts";
import type { Alarm } from "./alarm.ts";
import { bridge, ip, type Link, linksOf } from "./commands.ts";
import { repeat } from "./repeat.ts";

/** How soon is repaired what someone has deleted; a change in Consul or of the engine's networks is seen at once. */
const LOOK_MS = 3_000;
/** Names of our VXLAN devices: `arpa7`. */
const DEVICE = /^arpa\d+$/;
/** Bytes of a packet on a Docker network that says nothing else. */
const USUAL_MTU = 1500;

/** What carries the overlay's packets from host to host. */
export interface Underlay {
	/** This host's address in it. */
	address: string;
	/**
	 * Makes it what it is to be with these other hosts.
	 * @param keptOut by network, hosts barred from it; an underlay that cannot tell networks apart bars them altogether
	 * @returns what keeps some of them out @throws Error with the remedy
	 */
	look(others: KnownHost[], keptOut: HostsKeptOut): Promise<string | undefined>;
	/** A host's address in it; undefined for one to which nothing must be sent. */
	addressOf(host: KnownHost): string | undefined;
}

/** The hosts' own network, as it is. */
export function plainUnderlay(address: string): Underlay {
	return {
		address,
		look: async (others) => {
			const encrypting = others.filter(({ wireguard }) => wireguard);
			if (encrypting.length === 0) return undefined;
			const names = encrypting.map(({ name }) => name).join(", ");
			return `${names} takes nothing that is not encrypted; set encrypt: true here, too`;
		},
		// one that encrypts listens to nothing else
		addressOf: (host) => (host.wireguard ? undefined : host.address),
	};
}

/**
 * Weaves each deployment network over exactly the hosts that have a bridge in it: one VXLAN device
 * enslaved to the bridge, and a forwarding entry for each peer. Unicast only. Packets
 * flow on while this does not run.
 */
export async function overlay(
	services: Services,
	underlay: Underlay,
	alarm: Alarm,
	signal: AbortSignal,
): Promise<void> {
	let woven = true; // by an earlier run, for all that is known
	const unwanted = new Ripening<Link>();
	const work = async () => {
		if (woven || !services.cluster.alone) {
			woven = await look(services, underlay, unwanted);
		}
	};
	await repeat(work, {
		signal,
		log: services.log,
		failure: "some networks are not woven; trying again",
		rest: () => alarm.rest(LOOK_MS, signal),
	});
}

interface Wanted {
	scope: string;
	device: string;
	vni: number;
	bridge: string;
	mtu: number;
	peers: string[];
	/** The user chose its subnet: its containers may have asked for their addresses. */
	fixed: boolean;
}

/**
 * @param unwanted devices whose networks Docker still has: when Consul has lost what is said of them, it comes back with the next sweeps
 * @returns whether anything is woven now
 */
async function look(
	services: Services,
	underlay: Underlay,
	unwanted: Ripening<Link>,
): Promise<boolean> {
	const { cluster, host, store } = services;
	const [, ...others] = await cluster.all();
	const keptOut = await hostsKeptOut(store);
	const kept =
		others.length > 0 ? await underlay.look(others, keptOut) : undefined;
	const wanted = await wantedHere(services, underlay, others, keptOut);
	const links = (await linksOf("vxlan")).filter((link) =>
		DEVICE.test(link.ifname),
	);
	const present = new Map(links.map((link) => [link.ifname, link]));
	const bridges = new Set((await linksOf("bridge")).map((link) => link.ifname));
	const hosts = new Map(
		others.map((other) => [other.name, underlay.addressOf(other)]),
	).set(host.name, underlay.address);
	const wrong = kept && wanted.length > 0 ? [kept] : [];
	const known = wanted.length > 0 ? await forwarding() : new Map();
	for (const each of wanted) {
		if (!bridges.has(each.bridge)) continue; // Docker is making it, or has just taken it down
		const link = present.get(each.device);
		present.delete(each.device);
		try {
			await removeOthers(each, present);
			const isNew = await setDevice(each, link, underlay.address);
			const entries = isNew ? [] : (known.get(each.device) ?? []);
			await setPeers(each, entries, hosts, store);
		} catch (error) {
			wrong.push(`network ${each.scope}: ${messageOf(error)}`); // the others are woven all the same
		}
	}
	const left = [...present.values()];
	const stale = unwanted
		.ripe(
			left
				.filter(({ master }) => bridges.has(master ?? ""))
				.map((link) => ({ key: link.ifname, index: 0, value: link })),
		)
		.map(({ value }) => value);
	const gone = left.filter(({ master }) => !bridges.has(master ?? ""));
	for (const { ifname } of [...gone, ...stale]) await ip("link", "del", ifname);
	if (wrong.length > 0) throw new Error(wrong.join("; "));
	return wanted.length > 0 || left.length > gone.length;
}

/**
 * Takes other devices of ours from a bridge, and from those that are present: a network that was put on record anew has another VNI.
 * Two hosts with both in a bridge are a loop, in which each broadcast goes round for ever and takes the hosts down.
 */
async function removeOthers(
	{ bridge }: Wanted,
	present: Map<string, Link>,
): Promise<void> {
	for (const { ifname, master } of [...present.values()]) {
		if (master !== bridge) continue;
		await ip("link", "del", ifname);
		present.delete(ifname);
	}
}

/** The networks with containers here that other hosts have too. */
async function wantedHere(
	{ engine, networks, host, store }: Services,
	underlay: Underlay,
	others: KnownHost[],
	keptOut: HostsKeptOut,
): Promise<Wanted[]> {
	const hostsOf = new Map<string, string[]>();
	for (const key of await store.keys(GATEWAYS)) {
		const at = gatewayIn(key);
		const known = hostsOf.get(at.scope);
		if (known) known.push(at.host);
		else hostsOf.set(at.scope, [at.host]);
	}
	const wanted: Wanted[] = [];
	for (const network of await engine.listNetworks("arpanet.network")) {
		const scope = network.Labels?.["arpanet.network"] ?? "";
		const hosts = hostsOf.get(scope) ?? [];
		networks.forget(scope); // one made anew under the same name has another VNI
		const record = (await networks.get(scope))?.value;
		if (record?.name !== network.Name) continue;
		if (!hosts.some((name) => name !== host.name)) continue;
		const peers = others
			.filter(({ name }) => hosts.includes(name))
			.filter(({ name }) => !keptOut.get(scope)?.has(name))
			.map((other) => underlay.addressOf(other))
			.filter((address) => address !== undefined);
		wanted.push({
			scope,
			device: `arpa${record.vni}`,
			vni: record.vni,
			bridge: bridgeOf(network),
			mtu: Number(network.Options?.[MTU]) || USUAL_MTU,
			peers,
			fixed: record.asked ?? false,
		});
	}
	return wanted;
}

/** A device that is not as it should be is made anew. @returns whether it was */
async function setDevice(
	{ device, vni, bridge, mtu }: Wanted,
	link: Link | undefined,
	local: string,
): Promise<boolean> {
	const data = link?.linkinfo?.info_data;
	const same =
		link?.master === bridge &&
		link.mtu === mtu &&
		link.flags.includes("UP") &&
		data?.id === vni &&
		(data.local ?? data.local6) === local;
	if (same) return false;
	if (link) await ip("link", "del", device);
	await ip(
		...["link", "add", device, "type", "vxlan", "id", String(vni)],
		...["dstport", "4789", "local", local],
	);
	// containers may send as much as their network says; what is more than a packet of the hosts holds goes in pieces
	await ip("link", "set", device, "mtu", String(mtu), "master", bridge, "up");
	return true;
}

/**
 * What was learned of a host that is no peer goes, too: its containers' addresses may be others' by now. So does what was learned of an
 * address that has gone to another host.
 * @param entries what the device forwards now
 * @param hosts each one's address in the underlay
 */
async function setPeers(
	{ device, peers, scope, fixed }: Wanted,
	entries: Fdb[],
	hosts: Whereabouts,
	store: Store,
): Promise<void> {
	const moved = fixed
		? await movedAway(entries, scope, hosts, store)
		: new Set();
	const gone = entries.filter(
		(entry) => entry.dst && (!peers.includes(entry.dst) || moved.has(entry)),
	);
	for (const { mac, dst = "" } of gone) {
		const removal = bridge("fdb", "del", mac, "dev", device, "dst", dst);
		await removal.catch((error) => {
			if (mac === FLOOD) throw error;
		}); // what was learned ages by itself
	}
	if (gone.length > 0) {
		await ip(
			...["link", "set", "dev", device],
			...["type", "bridge_slave", "fdb_flush"],
		);
	}
	const present = new Set(
		entries.flatMap(({ mac, dst }) => (mac === FLOOD && dst ? [dst] : [])),
	);
	for (const peer of peers) {
		if (present.has(peer)) continue;
		await bridge("fdb", "append", FLOOD, "dev", device, "dst", peer);
	}
}

/** By name, where hosts are in the underlay; undefined for one to which nothing must be sent. */
type Whereabouts = ReadonlyMap<string, string | undefined>;

/**
 * Entries that lead elsewhere than to the host which has the address by its lease. A fixed address keeps its MAC on another host, and a
 * container that says nothing by itself would not be reached there for a minute. Costs one read of the network's leases, if anything was learned.
 */
async function movedAway(
	entries: Fdb[],
	scope: string,
	hosts: Whereabouts,
	store: Store,
): Promise<ReadonlySet<Fdb>> {
	const learned = entries.filter(({ mac, dst }) => dst && MADE_OF_IP.test(mac));
	if (learned.length === 0) return new Set();
	const leases = await new Leases(store).list(scope);
	const holders = new Map(
		leases.map(({ address, lease }) => [address, lease.host]),
	);
	return new Set(
		learned.filter(({ mac, dst }) => {
			const at = hosts.get(holders.get(addressIn(mac)) ?? "");
			return at !== undefined && at !== dst;
		}),
	);
}

/** How a MAC begins that Docker made of a container's address. */
const MADE_OF_IP = /^02:42:/;

/** `10.32.1.7` of `02:42:0a:20:01:07` */
function addressIn(mac: string): string {
	const bytes = mac.split(":").slice(2);
	return bytes.map((byte) => Number.parseInt(byte, 16)).join(".");
}

/** Where frames go whose receiver is not known, and broadcasts. */
const FLOOD = "00:00:00:00:00:00";

/** The forwarding entries of our devices, by device: with a hundred networks a process for each would take a tenth of a processor. */
async function forwarding(): Promise<Map<string, Fdb[]>> {
	const found = new Map<string, Fdb[]>();
	for (const entry of (await bridge("fdb", "show")) as Fdb[]) {
		if (!DEVICE.test(entry.ifname)) continue;
		const known = found.get(entry.ifname);
		if (known) known.push(entry);
		else found.set(entry.ifname, [entry]);
	}
	return found;
}

interface Fdb {
	ifname: string;
	mac: string;
	dst?: string;
}
