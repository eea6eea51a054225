import type { NetworkInspect } from "../../pipeline/docker.ts";
import { pastErrors } from "../../pipeline/errors.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { exposures } from "../../pipeline/state/exposed.ts";
import {
	GATEWAYS,
	gatewayIn,
	LEASES,
	type Lease,
	Leases,
} from "../../pipeline/state/leases.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import type { Ripening } from "../../pipeline/state/ripening.ts";
import type { Entry } from "../../pipeline/state/store.ts";

/**
 * Makes this host's networks and what Consul knows of them agree: the id and the bridge's address are what Docker says,
 * a network in which something is exposed to a deployment here comes here, and one that no container here is in goes,
 * unless it was made here. One that Docker has lost is no longer on record here.
 */
export async function tidy(
	{ unused, gone }: Ripe,
	ensure: (network: Entry<NetworkRecord>, host: string) => Promise<void>,
	services: Services,
): Promise<void> {
	const { engine, networks, store, host, log } = services;
	const used = await namesInUse(services);
	const docker = await engine.listNetworks("arpanet.network");
	for (const network of await exposedTo(docker, services)) {
		used.add(network.value.name);
		const here = docker.some(({ Name }) => Name === network.value.name);
		if (here) continue;
		// its subnet may be somebody else's here
		await pastErrors(log, network.key, () => ensure(network, host.name));
	}
	const idle: { entry: Entry<NetworkRecord>; docker: NetworkInspect }[] = [];
	for (const network of docker) {
		const scope = network.Labels?.["arpanet.network"] ?? "";
		const entry = await networks.get(scope);
		if (!entry || entry.value.name !== network.Name) continue; // dhcp puts back what Consul has lost
		if (entry.value.retiring) continue;
		if (entry.value.host !== host.name && !used.has(network.Name)) {
			idle.push({ entry, docker: network });
			continue;
		}
		await networks.ids.set(entry.value, host.name, network.Id);
		await gatewayOnRecord(entry, network, services);
	}
	// by its VNI it is told from one that is granted anew; what else changes of its record says nothing of its bridge here
	const ripe = unused.ripe(
		idle.map(({ entry }) => ({ ...entry, index: entry.value.vni })),
	);
	for (const { entry, docker } of idle) {
		if (ripe.some(({ key }) => key === entry.key)) {
			await withdraw(entry, docker, ensure, services);
		}
	}
	const here = docker.map(({ Labels }) => Labels?.["arpanet.network"]);
	const missing = (await store.list<string>(GATEWAYS)).filter(({ key }) => {
		const { scope, host: at } = gatewayIn(key);
		return at === host.name && !here.includes(scope);
	});
	for (const { key } of gone.ripe(missing)) {
		await missed(gatewayIn(key).scope, services);
	}
}

/** What is seen for a while before it counts: networks that nobody is in, and addresses of bridges that are not there. */
interface Ripe {
	unused: Ripening<NetworkRecord>;
	gone: Ripening<string>;
}

/**
 * A network is not in this host's Docker any more: somebody has removed it there past arpanet. Where it was made it stays on
 * record as long as it has containers, and the next one brings it back.
 */
async function missed(scope: string, services: Services): Promise<void> {
	const { engine, networks, host, log } = services;
	const entry = await networks.get(scope);
	if (!entry || entry.value.retiring) return; // the leader gives it back
	const { name, host: home } = entry.value;
	if (home === host.name || (await engine.networkNamed(name))) return;
	await leave(entry, services);
	log.info({ network: name }, "is not in Docker here; forgotten here");
}

/** Forgets this host's bridge in a network. */
async function leave(
	entry: Entry<NetworkRecord>,
	services: Services,
): Promise<void> {
	const { engine, networks, host } = services;
	const { scope, name } = entry.value;
	await networks.bridges.leave(scope, host.name);
	const again = await engine.networkNamed(name);
	// a create has brought it back just then
	if (again) await gatewayOnRecord(entry, again, services);
}

/** The networks that containers of ours are in, whether they run or not. */
async function namesInUse({ engine }: Services): Promise<Set<string>> {
	const containers = await engine.listContainers("arpanet.host");
	return new Set(
		containers.flatMap(({ NetworkSettings }) =>
			Object.keys(NetworkSettings?.Networks ?? {}),
		),
	);
}

/** Networks with a service exposed to a deployment that is here: to reach it this host needs their bridge. */
async function exposedTo(
	docker: NetworkInspect[],
	{ networks, store }: Services,
): Promise<Entry<NetworkRecord>[]> {
	const exposed = await exposures(store);
	if (exposed.length === 0) return [];
	const scopes = docker.map(({ Labels }) => Labels?.["arpanet.network"] ?? "");
	const here = await Promise.all(scopes.map((scope) => networks.get(scope)));
	const found = new Map<string, Entry<NetworkRecord>>();
	for (const { scope, to } of exposed) {
		const network = await networks.get(scope);
		if (!network || network.value.retiring) continue;
		const asked = here.some((each) => {
			const deployment = each?.value.deployment;
			if (!deployment || deployment === network.value.deployment) return false;
			return to === "all" || to.includes(deployment);
		});
		if (asked) found.set(scope, network);
	}
	return [...found.values()];
}

/** Takes the bridge of a network from this host. */
async function withdraw(
	entry: Entry<NetworkRecord>,
	docker: NetworkInspect,
	ensure: (network: Entry<NetworkRecord>, host: string) => Promise<void>,
	services: Services,
): Promise<void> {
	const { scope, name } = entry.value;
	const { engine, networks, host, log } = services;
	if (await isAwaited(scope, services)) return; // its container is being made
	await engine.removeNetwork(docker.Id);
	await leave(entry, services);
	log.info({ network: name }, "no container here is in it; taken down here");
	const now = await networks.withdrawn(scope);
	// one was committed meanwhile that had seen it here
	if (now && (await isAwaited(scope, services))) await ensure(now, host.name);
}

async function isAwaited(
	scope: string,
	{ store, host }: Services,
): Promise<boolean> {
	const leases = await store.list<Lease>(`${LEASES}${scope}/`);
	return leases.some(
		({ value }) => value.container && value.host === host.name,
	);
}

/** A bridge whose address is not on record, because Consul has lost it, gets it again. */
async function gatewayOnRecord(
	entry: Entry<NetworkRecord>,
	docker: NetworkInspect,
	{ networks, store, host, log }: Services,
): Promise<void> {
	const { scope, subnet } = entry.value;
	const address = docker.IPAM?.Config?.find(
		({ Subnet }) => Subnet === subnet,
	)?.Gateway;
	if (!address) return;
	if (await networks.bridges.correct(entry, host.name, address)) return;
	// another has that one: the host is in the network all the same
	const lease = await networks.bridges.ensure(entry, host.name, () =>
		new Leases(store).pickForBridge(entry.value),
	);
	log.error(
		{ network: scope, gateway: address, lease },
		"the bridge's address is not the one on record; remove the network and its containers from this host",
	);
}
