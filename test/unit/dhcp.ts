import { Chain } from "../../pipeline/chain.ts";
import { Cluster } from "../../pipeline/cluster.ts";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import { NetworkLifecycle } from "../../pipeline/lifecycle/network.ts";
import { Reconcile } from "../../pipeline/lifecycle/reconcile.ts";
import { VolumeLifecycle } from "../../pipeline/lifecycle/volume.ts";
import { setUp } from "../../pipeline/load.ts";
import { Locator } from "../../pipeline/locator.ts";
import type { Plugin, Services } from "../../pipeline/plugin.ts";
import { Containers } from "../../pipeline/state/containers.ts";
import { Hosts, hostKeys } from "../../pipeline/state/hosts.ts";
import { Networks } from "../../pipeline/state/networks.ts";
import { Slots } from "../../pipeline/state/slots.ts";
import { Store } from "../../pipeline/state/store.ts";
import { Volumes } from "../../pipeline/state/volumes.ts";
import { builtins } from "../../plugins/index.ts";
import { EngineDouble, silent } from "./doubles.ts";

export interface AllocatorOptions {
	pool?: string;
	reserved?: string[];
	size?: number;
	/** Names of plugins; deployment-id, placement and dhcp unless told. */
	plugins?: string[];
	/** Further plugins, after those. */
	more?: Plugin[];
	driver?: "bridge" | "weave";
	/** Name of its host; h1 unless told. */
	host?: string;
	/** The other hosts' engines, by host. */
	engines?: Record<string, EngineDouble>;
	/** More of the plugins' configurations, by name. */
	configs?: Record<string, unknown>;
}

/** A cluster whose other engines are doubles too. */
class DoubleCluster extends Cluster {
	readonly #engines: Record<string, EngineDouble>;

	constructor(
		hosts: Hosts,
		self: string,
		local: Engine,
		engines: Record<string, EngineDouble> = {},
	) {
		super(hosts, self, local);
		this.#engines = engines;
	}

	override async engine(host?: string): Promise<Engine> {
		return this.#engines[host ?? ""]?.engine ?? (await super.engine(host));
	}
}

/** One adapter's worth of arpanet over a real Consul, with a double for its engine. */
export class Allocator {
	readonly docker: EngineDouble;
	readonly store: Store;
	readonly services: Services;
	readonly containers: ContainerLifecycle;
	readonly networks: NetworkLifecycle;
	readonly volumes: VolumeLifecycle;
	readonly chain: Chain;
	readonly reconcile: Reconcile;

	constructor(
		consul: string,
		{
			pool = "10.32.0.0/12",
			reserved = [],
			size = 254,
			...options
		}: AllocatorOptions = {},
	) {
		this.store = new Store({ address: consul });
		this.docker = options.engines?.[options.host ?? "h1"] ?? new EngineDouble();
		const name = options.host ?? "h1";
		const host = {
			name,
			address: `10.213.0.${name.slice(1)}`, // as `announce` has it
			cpus: 2,
			memory: 2 ** 30,
		};
		const cluster = new DoubleCluster(
			new Hosts(this.store, host),
			host.name,
			this.docker.engine,
			options.engines,
		);
		const locator = new Locator(cluster, this.store);
		this.services = {
			store: this.store,
			networks: new Networks(this.store, (name) => locator.hasNetwork(name)),
			containers: new Containers(this.store),
			slots: new Slots(this.store),
			volumes: new Volumes(this.store),
			engine: this.docker.engine,
			host,
			cluster,
			locator,
			log: silent,
		};
		const {
			plugins = ["deployment-id", "placement", "dhcp"],
			driver = "bridge",
		} = options;
		const configs: Record<string, unknown> = {
			dhcp: { pool, reserved, size },
			placement: { strategy: "spread", load: 1, overcommit: 0, shared: [] },
			network: { driver },
			"dns-search": { domain: "service.consul", servers: [] },
			...options.configs,
		};
		const listed = [
			...plugins.map((name) => builtins[name] as Plugin),
			...(options.more ?? []),
		];
		const found = listed.map((plugin) => ({
			plugin,
			config: configs[plugin.name] ?? {},
		}));
		const chain = new Chain(setUp(found, this.services), 10_000, silent);
		this.chain = chain;
		this.networks = new NetworkLifecycle(chain, this.services);
		this.volumes = new VolumeLifecycle(chain, silent);
		this.containers = new ContainerLifecycle(
			chain,
			this.services,
			this.networks,
		);
		this.reconcile = new Reconcile(chain, this.services, this.containers);
	}

	/** Puts hosts of equal size on record, as their agents do. */
	async announce(names: string[]): Promise<void> {
		for (const name of names) {
			const address = `10.213.0.${name.slice(1)}`;
			const engine = "tcp://127.0.0.1:1";
			const record = { name, address, engine, cpus: 2, memory: 2 ** 30 };
			const { record: key, alive } = hostKeys(name);
			await this.store.commit([
				{ verb: "set", key, value: record },
				{ verb: "set", key: alive, value: { load: 0, address } },
			]);
		}
	}

	/** The pre-hook of a create. */
	async create(
		deployment: string,
		name: string | undefined,
		body: ContainerCreate = {},
	): Promise<{ address: string; body: ContainerCreate }> {
		const amended = await this.containers.create({
			name,
			body: {
				...body,
				Labels: { "arpanet.deployment": deployment, ...body.Labels },
			},
			headers: {},
			onlyHost: undefined,
		});
		if (!amended) throw new Error("passed through");
		return {
			body: amended,
			address: amended.Labels?.["arpanet.address"] ?? "",
		};
	}

	/** As after Docker refused the create of that name, or removed its container. */
	async remove(name: string): Promise<void> {
		await this.containers.createFailed(name, {});
	}

	/** Keeps its views fresh, as a gateway does. */
	async follow(): Promise<void> {
		const { slots, volumes, cluster } = this.services;
		cluster.hosts.follow();
		slots.follow();
		volumes.follow();
		await Promise.all([slots.ready(), cluster.hosts.list()]);
	}

	close(): void {
		this.services.slots.close();
		this.services.volumes.close();
		this.services.cluster.hosts.close();
		this.store.close();
	}
}
