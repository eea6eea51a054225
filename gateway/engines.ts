import { whoHas } from "../pipeline/answers.ts";
import type { Cluster } from "../pipeline/cluster.ts";
import { parseEngineUrl } from "../pipeline/engine.ts";
import type { Locator } from "../pipeline/locator.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { Containers } from "../pipeline/state/containers.ts";
import type { NetworkIds } from "../pipeline/state/network-ids.ts";
import type { Store } from "../pipeline/state/store.ts";
import { EnginePool } from "./upstream.ts";

/** What the gateway knows beyond this host's engine. */
export type GatewayServices = Pick<
	Services,
	"cluster" | "containers" | "locator" | "networks" | "store"
>;

/** The engines of all hosts, as the treatments of requests use them. */
export class Engines {
	readonly cluster: Cluster;
	readonly locator: Locator;
	/** What Consul knows of containers. */
	readonly records: Containers;
	readonly store: Store;
	/** The engine of this host. */
	readonly local: EnginePool;
	/** What the engines call the networks of deployments. */
	readonly networkIds: NetworkIds;
	readonly #pools = new Map<string, EnginePool>();

	/** @param local the engine of this host */
	constructor(
		{ cluster, containers, locator, networks, store }: GatewayServices,
		local: EnginePool,
	) {
		this.networkIds = networks.ids;
		this.cluster = cluster;
		this.locator = locator;
		this.records = containers;
		this.store = store;
		this.local = local;
	}

	/** Whether this host's engine answers by itself: no other host is known, be it that Consul has told of none yet. */
	get localOnly(): boolean {
		return this.cluster.alone || this.cluster.hosts.isUntold;
	}

	/** The connections to a host's engine. @throws HttpError 502 for a host that is not known */
	async pool(host: string): Promise<EnginePool> {
		const { url } = await this.cluster.engine(host);
		if (url === this.local.name) return this.local;
		const known = this.#pools.get(url);
		if (known) return known;
		const address = parseEngineUrl(url, this.cluster.tls);
		const pool = new EnginePool(address, () =>
			this.cluster.hosts.isStopping(host),
		);
		this.#pools.set(url, pool);
		return pool;
	}

	/** The engine of the first host that has something at a path; where none has, this one's, which says so. */
	async holderOf(path: string): Promise<EnginePool> {
		const [holder] = whoHas(await this.cluster.answers(path));
		return holder ? this.pool(holder.host) : this.local;
	}

	/** Ends the connections to other hosts. */
	close(): void {
		for (const pool of this.#pools.values()) pool.close();
	}
}
