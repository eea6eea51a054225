import { Chain } from "../../pipeline/chain.ts";
import { Cluster } from "../../pipeline/cluster.ts";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import { NetworkLifecycle } from "../../pipeline/lifecycle/network.ts";
import { setUp } from "../../pipeline/load.ts";
import type { Plugin, Services } from "../../pipeline/plugin.ts";
import { Containers } from "../../pipeline/state/containers.ts";
import { Hosts } from "../../pipeline/state/hosts.ts";
import { Networks } from "../../pipeline/state/networks.ts";
import { Store } from "../../pipeline/state/store.ts";
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
}

/** One adapter's worth of arpanet over a real Consul, with a double for its engine. */
export class Allocator {
	readonly docker = new EngineDouble();
	readonly store: Store;
	readonly services: Services;
	readonly containers: ContainerLifecycle;
	readonly networks: NetworkLifecycle;

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
		const host = {
			name: "h1",
			address: "10.213.0.1",
			cpus: 2,
			memory: 2 ** 30,
		};
		this.services = {
			store: this.store,
			networks: new Networks(this.store),
			containers: new Containers(this.store),
			engine: () => this.docker.engine,
			host,
			cluster: new Cluster(
				new Hosts(this.store, host),
				"h1",
				this.docker.engine,
			),
			log: silent,
		};
		const {
			plugins = ["deployment-id", "placement", "dhcp"],
			driver = "bridge",
		} = options;
		const configs: Record<string, unknown> = {
			dhcp: { pool, reserved, size },
			network: { driver },
			"dns-search": { domain: "service.consul", servers: [] },
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
		this.networks = new NetworkLifecycle(chain, this.services);
		this.containers = new ContainerLifecycle(
			chain,
			this.services,
			this.networks,
		);
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

	close(): void {
		this.store.close();
	}
}
