import { readFileSync } from "node:fs";
import { availableParallelism, networkInterfaces, totalmem } from "node:os";
import type { Logger } from "pino";
import { interfaceWith } from "../agent/interfaces.ts";
import { OVERHEAD } from "../agent/wireguard.ts";
import { Chain } from "../pipeline/chain.ts";
import { Cluster } from "../pipeline/cluster.ts";
import type { Config } from "../pipeline/config.ts";
import { Engine } from "../pipeline/engine.ts";
import { ContainerLifecycle } from "../pipeline/lifecycle/container.ts";
import { NetworkLifecycle } from "../pipeline/lifecycle/network.ts";
import { Reconcile } from "../pipeline/lifecycle/reconcile.ts";
import { VolumeLifecycle } from "../pipeline/lifecycle/volume.ts";
import { findPlugins, type Loaded, setUp } from "../pipeline/load.ts";
import { Locator } from "../pipeline/locator.ts";
import { Pipeline } from "../pipeline/pipeline.ts";
import type { Services } from "../pipeline/plugin.ts";
import { Containers } from "../pipeline/state/containers.ts";
import { Format } from "../pipeline/state/format.ts";
import { type HostRecord, Hosts } from "../pipeline/state/hosts.ts";
import { FencedStore } from "../pipeline/state/leader.ts";
import { Networks } from "../pipeline/state/networks.ts";
import { Slots } from "../pipeline/state/slots.ts";
import { Store } from "../pipeline/state/store.ts";
import { Volumes } from "../pipeline/state/volumes.ts";
import { readTls } from "../pipeline/tls.ts";
import { builtins } from "../plugins/index.ts";

/** What lies outside of arpanet: `arpanet try` brings its own. */
interface Outside {
	store: Store;
	engine: Engine;
}

/** What `arpanet try` has otherwise. */
interface Trial {
	outside?: Outside;
	/** May wrap the plugins before they are put into the chain. */
	observe?: (plugins: Loaded[]) => Loaded[];
}

/** What works on containers and networks, over one store. */
interface Parts {
	services: Services;
	plugins: Loaded[];
	chain: Chain;
	containers: ContainerLifecycle;
	networks: NetworkLifecycle;
}

/** Everything that a role of arpanet is made of. */
export interface Booted extends Parts {
	reconcile: Reconcile;
	pipeline: Pipeline;
	/** The same parts, plugins of their own among them, over a store that only a leader can write to. */
	fenced(): Parts & { store: FencedStore };
	/** Keeps to state that this version understands. */
	format: Format;
	/** Closes the connections to Consul and the engine. */
	close(): Promise<void>;
}

/**
 * Puts the parts together as the configuration says; connects to nothing yet.
 * @throws ConfigError for a plugin that is not there or not configured well
 */
export async function boot(
	config: Config,
	log: Logger,
	{ outside = real(config, log), observe = (plugins) => plugins }: Trial = {},
): Promise<Booted> {
	const { store, engine } = outside;
	const host = hostOf(config);
	const cluster = clusterOf(config, store, engine);
	const locator = new Locator(cluster, store);
	const found = await findPlugins(config.plugins, builtins, config.file);
	const over = (store: Store): Parts => {
		const services: Services = {
			store,
			networks: new Networks(store, (name) => locator.hasNetwork(name)),
			containers: new Containers(store),
			slots: new Slots(store),
			volumes: new Volumes(store),
			cluster,
			locator,
			engine,
			host,
			log,
		};
		const plugins = observe(setUp(found, services));
		const chain = new Chain(plugins, config.arpanet.pluginTimeout, log);
		const networks = new NetworkLifecycle(chain, services);
		const containers = new ContainerLifecycle(chain, services, networks);
		return { services, plugins, chain, containers, networks };
	};
	const parts = over(store);
	const { services, chain, containers, networks } = parts;
	const stores: Store[] = [store];
	const format = new Format(store);
	return {
		...parts,
		format,
		reconcile: new Reconcile(chain, services, containers),
		pipeline: new Pipeline(
			{ containers, networks, volumes: new VolumeLifecycle(chain, log) },
			log,
		),
		fenced: () => {
			const fenced = new FencedStore(config.arpanet.consul, log);
			format.covers(fenced);
			stores.push(fenced);
			return { ...over(fenced), store: fenced };
		},
		close: async () => {
			format.close();
			services.slots.close();
			services.networks.ids.close();
			services.volumes.close();
			for (const each of stores) each.close();
			await cluster.close();
		},
	};
}

/** The Consul and the engine that the configuration names; connects to neither yet. */
export function real(config: Config, log?: Logger): Outside {
	return {
		store: new Store(config.arpanet.consul, log),
		engine: new Engine(config.arpanet.engine),
	};
}

/** The hosts and their engines as a command looks at them, without anything that runs. */
export function openCluster(config: Config): {
	store: Store;
	cluster: Cluster;
	close(): Promise<void>;
} {
	const { store, engine } = real(config);
	const cluster = clusterOf(config, store, engine);
	return {
		store,
		cluster,
		close: async () => {
			store.close();
			await cluster.close();
		},
	};
}

function clusterOf(config: Config, store: Store, engine: Engine): Cluster {
	const host = hostOf(config);
	const { tls } = config.arpanet;
	const hosts = new Hosts(store, host);
	return new Cluster(hosts, host.name, engine, tls && readTls(tls));
}

/** This host as the configuration or the machine itself names it. */
export function hostOf(config: Config): HostRecord {
	const {
		name,
		address = defaultAddress(),
		engine,
		labels,
	} = config.arpanet.host;
	return {
		name,
		address,
		cpus: availableParallelism(),
		memory: totalmem(),
		mtu: linkMtu(address) - overhead(config),
		...(engine ? { engine } : {}),
		...(labels ? { labels } : {}),
	};
}

/** Bytes that the overlay adds to a packet: VXLAN over IPv4, or within WireGuard. */
function overhead({ arpanet }: Config): number {
	return arpanet.encrypt ? OVERHEAD : 50;
}

/** Bytes of a packet on the network that an address of this machine is in; those of Ethernet if none is. */
export function linkMtu(address: string): number {
	const name = interfaceWith(address);
	try {
		return Number(readFileSync(`/sys/class/net/${name}/mtu`, "utf8"));
	} catch {
		return 1500;
	}
}

/** Interfaces that engines and other overlays make: their addresses are not the host's. */
const VIRTUAL = /^(docker|br-|veth|virbr|weave|vx|cni|flannel)/;

/** The machine's first own IPv4 address; Docker's bridge if it has no network at all. */
export function defaultAddress(): string {
	const all = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
		(addresses ?? [])
			.filter(({ family, internal }) => family === "IPv4" && !internal)
			.map(({ address }) => ({ address, virtual: VIRTUAL.test(name) })),
	);
	const own = all.find(({ virtual }) => !virtual) ?? all[0];
	return own?.address ?? "172.17.0.1";
}
