import { execFile } from "node:child_process";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { messageOf } from "../pipeline/errors.ts";
import type { Services } from "../pipeline/plugin.ts";

const run = promisify(execFile);

/** How often the host's devices are compared with what Consul says. */
const LOOK_MS = 1_000;
/** Names of our VXLAN devices: `arpa7`. */
const DEVICE = /^arpa\d+$/;

/**
 * Weaves each deployment network over exactly the hosts that have a bridge in it: one VXLAN device
 * enslaved to the bridge, and a forwarding entry for each peer. Unicast only. Packets
 * flow on while this does not run.
 */
export async function weave(
	services: Services,
	signal: AbortSignal,
): Promise<void> {
	let complained = "";
	let woven = true; // by an earlier run, for all that is known
	while (!signal.aborted) {
		try {
			if (woven || !services.cluster.alone) woven = await look(services);
			complained = "";
		} catch (error) {
			const message = messageOf(error);
			if (message !== complained)
				services.log.warn({ err: message }, "overlay");
			complained = message;
		}
		await setTimeout(LOOK_MS, undefined, { signal }).catch(() => {});
	}
}

interface Wanted {
	device: string;
	vni: number;
	bridge: string;
	peers: string[];
}

/** @returns whether anything is woven now */
async function look(services: Services): Promise<boolean> {
	const wanted = await wantedHere(services);
	const links = (await ip(["-d", "link", "show", "type", "vxlan"])) as Link[];
	const present = new Map(
		links
			.filter(({ ifname }) => DEVICE.test(ifname))
			.map((link) => [link.ifname, link]),
	);
	for (const { device, vni, bridge, peers } of wanted) {
		let link = present.get(device);
		present.delete(device);
		if (link && link.master !== bridge) {
			await ip(["link", "del", device]);
			link = undefined;
		}
		if (!link) {
			await ip([
				...["link", "add", device, "type", "vxlan", "id", String(vni)],
				...["dstport", "4789", "local", services.host.address],
			]);
			await ip(["link", "set", device, "mtu", "1450", "master", bridge, "up"]);
		}
		await setPeers(device, peers);
	}
	for (const device of present.keys()) await ip(["link", "del", device]);
	return wanted.length > 0;
}

/** The networks with containers here that other hosts have too. */
async function wantedHere({
	engine,
	networks,
	cluster,
	host,
	store,
}: Services): Promise<Wanted[]> {
	const gateways = await store.keys("arpanet/gateways/");
	const hostsOf = new Map<string, string[]>();
	for (const key of gateways) {
		const [scope = "", name = ""] = key
			.slice("arpanet/gateways/".length)
			.split("/");
		hostsOf.set(scope, [...(hostsOf.get(scope) ?? []), name]);
	}
	const wanted: Wanted[] = [];
	for (const network of await engine().listNetworks("arpanet.network")) {
		const scope = network.Labels?.["arpanet.network"] ?? "";
		const others = (hostsOf.get(scope) ?? []).filter(
			(name) => name !== host.name,
		);
		const record = (await networks.get(scope))?.value;
		if (!record || others.length === 0) continue;
		const peers = await Promise.all(
			others.map(async (name) => (await cluster.hosts.get(name)).address),
		);
		wanted.push({
			device: `arpa${record.vni}`,
			vni: record.vni,
			bridge: `br-${network.Id.slice(0, 12)}`,
			peers,
		});
	}
	return wanted;
}

async function setPeers(device: string, peers: string[]): Promise<void> {
	const entries = (await bridge(["fdb", "show", "dev", device])) as Fdb[];
	const present = new Set(
		entries.flatMap(({ mac, dst }) => (mac === FLOOD && dst ? [dst] : [])),
	);
	for (const peer of peers) {
		if (!present.delete(peer)) {
			await bridge(["fdb", "append", FLOOD, "dev", device, "dst", peer]);
		}
	}
	for (const gone of present) {
		await bridge(["fdb", "del", FLOOD, "dev", device, "dst", gone]);
	}
}

/** Where frames go whose receiver is not known, and broadcasts. */
const FLOOD = "00:00:00:00:00:00";

interface Link {
	ifname: string;
	master?: string;
}

interface Fdb {
	mac: string;
	dst?: string;
}

function ip(args: string[]): Promise<unknown[]> {
	return json("ip", args);
}

function bridge(args: string[]): Promise<unknown[]> {
	return json("bridge", args);
}

async function json(program: string, args: string[]): Promise<unknown[]> {
	const { stdout } = await run(program, ["-j", ...args], { timeout: 10_000 });
	return stdout.trim() ? (JSON.parse(stdout) as unknown[]) : [];
}
