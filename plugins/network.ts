import { setTimeout } from "node:timers/promises";
import { Netmask } from "netmask";
import type { NetworkCreate, NetworkInspect } from "../pipeline/docker.ts";
import type { Engine } from "../pipeline/engine.ts";
import { HttpError } from "../pipeline/errors.ts";
import { definePlugin, type Hooks, type Services } from "../pipeline/plugin.ts";
import { isAlias } from "../pipeline/state/aliases.ts";
import { Leases } from "../pipeline/state/leases.ts";
import type { NetworkRecord } from "../pipeline/state/networks.ts";
import { Conflict, unchanged } from "../pipeline/state/operations.ts";
import { Ripening } from "../pipeline/state/ripening.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { overlap, subnetsOf } from "../pipeline/state/subnets.ts";
import { tidy } from "./network/tidy.ts";

/** How long an engine that refuses a network is asked again, before what it says is the client's to read. */
const BUSY_MS = 8_000;
const RETRY_MS = 100;
/** How long it is believed that Docker still has a network. */
const SEEN_MS = 2_000;

interface Config {
	driver: "bridge" | "weave";
}

/**
 * network: joins a container to the network of its deployment with the address that dhcp leased.
 *
 *     plugins:
 *       - network: {driver: bridge}
 *
 * `bridge` is a Docker network for each network of a deployment. `weave` sets
 * `WEAVE_CIDR=<address>/<prefix>` and nothing else, for hosts that run weave's proxy or
 * powerstrip-weave.
 */
export default definePlugin<Config>({
	name: "network",
	after: ["dhcp"],
	schema: {
		type: "object",
		additionalProperties: false,
		properties: {
			driver: { type: "string", enum: ["bridge", "weave"], default: "bridge" },
		},
	},
	setup: ({ driver }, services) =>
		driver === "weave" ? weave() : bridge(services),
});

function weave(): Hooks {
	return {
		create({ body, networks: [own] }) {
			if (!own) return; // no address of ours
			body.Env ??= [];
			const env = body.Env;
			if (env.some((pair) => pair.startsWith("WEAVE_CIDR="))) return; // his own; dhcp leased it
			const prefix = own.network.value.subnet.split("/")[1];
			env.push(`WEAVE_CIDR=${own.address}/${prefix}`);
		},
	};
}

function bridge(services: Services): Hooks {
	const { cluster, networks } = services;
	/** Networks that Docker is being given, or had a moment ago: a stack's creates come at once, and ask once. */
	const made = new Map<string, Promise<void>>();
	const ripening = {
		unused: new Ripening<NetworkRecord>(),
		gone: new Ripening<string>(),
	};

	function ensure(
		network: Entry<NetworkRecord>,
		host: string | undefined,
	): Promise<void> {
		// a network that was given back and granted again has another index
		const key = `${host} ${network.key} ${network.index}`;
		const known = made.get(key);
		if (known) return known;
		const making = ensureInDocker(network, host, services);
		made.set(key, making);
		const forget = () => {
			if (made.get(key) === making) made.delete(key);
		};
		const later = () => setTimeout(SEEN_MS, undefined, { ref: false });
		void making.then(later).then(forget, forget);
		return making;
	}

	return {
		async create({ body, networks, facts }) {
			for (const { network, address } of networks) {
				const { name, implicit } = network.value;
				// with one host, Docker itself says that a network is missing which the client made
				if (implicit || !cluster.alone) {
					await ensure(network, facts.host);
				}
				body.HostConfig ??= {};
				const host = body.HostConfig;
				if (!host.NetworkMode || host.NetworkMode === "default") {
					host.NetworkMode = name;
				}
				body.NetworkingConfig ??= {};
				body.NetworkingConfig.EndpointsConfig ??= {};
				const endpoints = body.NetworkingConfig.EndpointsConfig;
				const { [host.NetworkMode]: given, default: unnamed } = endpoints;
				const settings = { ...(endpoints[name] ?? given ?? unnamed) };
				settings.IPAMConfig = { ...settings.IPAMConfig, IPv4Address: address };
				// Docker's own DNS answers an alias with the copies on this host alone; Consul knows all, but of those that are copies of nothing
				if (facts.service) settings.Aliases = othersOf(settings.Aliases);
				delete endpoints.default;
				endpoints[name] = settings;
			}
		},
		async connect({ body, network, facts }) {
			if (!cluster.alone) await ensure(network, facts.host);
			const settings = body.EndpointConfig;
			// as in create; who is none of arpanet's has no names in Consul either
			if (settings && facts.service)
				settings.Aliases = othersOf(settings.Aliases);
		},
		async networkRemoved({ network }) {
			made.clear();
			const hosts = await networks.bridges.hosts(network.scope);
			const removals = await Promise.allSettled(
				hosts.map((host) => removeFrom(host, network, services)),
			);
			const failed = removals.find(({ status }) => status === "rejected");
			if (failed) throw (failed as PromiseRejectedResult).reason;
		},
		async sweep() {
			await tidy(ripening, ensure, services);
		},
	};
}

/** @throws HttpError 502 for a host that is lost: it has the network still, so that its subnet cannot be another's */
async function removeFrom(
	host: string,
	{ name, scope, vni }: NetworkRecord,
	{ cluster, networks }: Services,
): Promise<void> {
	const { state } = await cluster.hosts.get(host);
	if (!state) {
		throw new HttpError(
			502,
			`host ${host}, which has network ${name}, is lost; bring it back, or arpanet host rm ${host}`,
		);
	}
	const engine = await cluster.engine(host);
	const found = await engine.networkNamed(name);
	if (found?.Labels?.["arpanet.network"] !== scope) return;
	networks.forget(scope);
	const now = await networks.get(scope);
	// who took too long over it finds that it was granted anew: that one stays
	if (now && now.value.vni !== vni) return;
	// what its home has by now its user has just made
	if (now && !now.value.retiring && host === now.value.host) return;
	await engine.removeNetwork(found.Id);
}

/** The aliases that Consul's DNS cannot answer for: they stay Docker's. */
function othersOf(aliases: string[] | null | undefined): string[] {
	return (aliases ?? []).filter((alias) => !isAlias(alias));
}

/** Makes the Docker network that fig.yml takes for granted; several creates may do so at the same moment. */
async function ensureInDocker(
	network: Entry<NetworkRecord>,
	host: string | undefined,
	services: Services,
): Promise<void> {
	const until = performance.now() + BUSY_MS;
	for (;;) {
		const engine = await services.cluster.engine(host);
		if (await isInDocker(network, engine, services)) return;
		try {
			await createInDocker(network, host, services);
			return;
		} catch (error) {
			// the engine refuses the name, or the subnet, while another create of it is under way
			const busy = error instanceof HttpError && error.status < 500;
			if (!busy) throw error;
			if (performance.now() > until) {
				throw (await inTheWay(network.value, host, services)) ?? error;
			}
			await setTimeout(RETRY_MS);
		}
	}
}

/** What the client reads if a host has a network of its own in the subnet: the engine says neither which nor where. */
async function inTheWay(
	{ name, subnet }: NetworkRecord,
	host: string | undefined,
	{ cluster, host: { name: self } }: Services,
): Promise<HttpError | undefined> {
	const engine = await cluster.engine(host);
	const all = await engine.get<NetworkInspect[]>("/networks");
	const wanted = new Netmask(subnet);
	for (const network of all ?? []) {
		if (network.Name === name) continue;
		const other = subnetsOf(network).find((each) => overlap(each, wanted));
		if (other) {
			return new HttpError(
				409,
				`network: host ${host ?? self} cannot have ${name} (${subnet}): its engine has network ${network.Name} (${other}); remove that one there, or take the deployment down and up again for another subnet`,
			);
		}
	}
	return undefined;
}

/**
 * Whether Docker has the network; one that has another subnet is removed.
 * @throws HttpError 409 if the name is taken by a network that is not arpanet's; Conflict if what we know is out of date
 */
async function isInDocker(
	entry: Entry<NetworkRecord>,
	engine: Engine,
	{ networks }: Services,
): Promise<boolean> {
	const { value } = entry;
	const existing = await engine.networkNamed(value.name);
	if (existing?.IPAM?.Config?.[0]?.Subnet === value.subnet) return true;
	if (existing) {
		if (existing.Labels?.["arpanet.network"] !== value.scope) {
			throw new HttpError(
				409,
				`network: Docker has a network ${value.name} that is not arpanet's; remove it (docker network rm ${value.name}) or choose another deployment id`,
			);
		}
		networks.forget(value.scope);
		if ((await networks.get(value.scope))?.index !== entry.index) {
			throw new Conflict(unchanged(entry), `${entry.key} has changed`);
		}
		// its subnet went back while nobody used it; by id: another may have made it anew meanwhile
		await engine.removeNetwork(existing.Id);
	}
	return false;
}

/** Whether a network's own labels say whose it is: Compose 1 looks for what it has not given itself. */
function isSaid({ body, deployment }: NetworkRecord): boolean {
	return body?.Labels?.["com.docker.compose.project"] === deployment;
}

async function createInDocker(
	{ value, ...entry }: Entry<NetworkRecord>,
	host: string | undefined,
	services: Services,
): Promise<void> {
	const leases = new Leases(services.store);
	const at = host ?? services.host.name;
	const gateway = await services.networks.bridges.ensure(
		{ value, ...entry },
		at,
		() => leases.pickForBridge(value),
	);
	const body: NetworkCreate = {
		Name: value.name,
		CheckDuplicate: true,
		Driver: "bridge",
		...value.body,
		IPAM: { Config: [{ Subnet: value.subnet, Gateway: gateway }] },
		Labels: {
			...value.body?.Labels,
			...(isSaid(value) ? {} : { "arpanet.deployment": value.deployment }),
			"arpanet.network": value.scope,
			...(services.cluster.alone ? {} : { "arpanet.host": value.host }),
			...(value.implicit ? { "arpanet.implicit": "true" } : {}),
			...(value.shared ? { "arpanet.shared": "true" } : {}),
		},
	};
	const engine = await services.cluster.engine(host);
	const { Id } = await engine.createNetwork(body);
	await services.networks.ids.set(value, at, Id);
}
