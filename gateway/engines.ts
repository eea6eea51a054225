import type { Cluster } from "../pipeline/cluster.ts";
import { parseEngineUrl } from "../pipeline/engine.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { Containers } from "../pipeline/state/containers.ts";
import type { NetworkIds } from "../pipeline/state/network-ids.ts";
import type { Store } from "../pipeline/state/store.ts";
import { EnginePool } from "./upstream.ts";

/** As long as a client waits for a create. */
const PATIENCE_MS = 30_000;

/** What one host's engine answered; `answer` is undefined where it has no such thing or did not answer. */
export interface Answer {
	host: string;
	answer: unknown;
	error?: unknown;
}

/** What the gateway knows beyond this host's engine. */
export type GatewayServices = Pick<
	Services,
	"cluster" | "containers" | "networks" | "store"
>;

/** The engines of all hosts, as the treatments of requests use them. */
export class Engines {
	readonly cluster: Cluster;
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
		{ cluster, containers, networks, store }: GatewayServices,
		local: EnginePool,
	) {
		this.networkIds = networks.ids;
		this.cluster = cluster;
		this.records = containers;
		this.store = store;
		this.local = local;
	}

	/** The connections to a host's engine. @throws HttpError 502 for a host that is not known */
	async pool(host: string): Promise<EnginePool> {
		const { url } = await this.cluster.engine(host);
		if (url === this.local.name) return this.local;
		const known = this.#pools.get(url);
		if (known) return known;
		const pool = new EnginePool(parseEngineUrl(url, this.cluster.tls));
		this.#pools.set(url, pool);
		return pool;
	}

	/** Asks every host that can be reached, this one first. @param path with its query */
	async ask(path: string): Promise<Answer[]> {
		return this.askOf(await this.#reachable(), path);
	}

	/** Asks some hosts. */
	askOf(hosts: readonly string[], path: string): Promise<Answer[]> {
		return askEach(hosts, (host) =>
			this.cluster.ask(host, (engine) => engine.get(path), {
				topic: topicOf(path),
			}),
		);
	}

	/** The same for what is worth waiting for: a host that seems silent may only have much to do. */
	async askPatiently(path: string): Promise<Answer[]> {
		return askEach(await this.#reachable(), async (host) => {
			const engine = await this.cluster.engine(host);
			return engine.get(path, PATIENCE_MS);
		});
	}

	async #reachable(): Promise<string[]> {
		return (await this.cluster.reachable()).map(({ name }) => name);
	}

	/** The first host, this one before others, whose engine has something at a path. */
	async holder(path: string): Promise<string | undefined> {
		const answers = await this.ask(path);
		return answers.find(({ answer }) => answer !== undefined)?.host;
	}

	/** The engine of the first host that has something at a path; where none has, this one's, which says so. */
	async holderOf(path: string): Promise<EnginePool> {
		const host = await this.holder(path);
		return host ? this.pool(host) : this.local;
	}

	/** Ends the connections to other hosts. */
	close(): void {
		for (const pool of this.#pools.values()) pool.close();
	}
}

function askEach(
	hosts: readonly string[],
	question: (host: string) => Promise<unknown>,
): Promise<Answer[]> {
	return Promise.all(
		hosts.map(async (host): Promise<Answer> => {
			try {
				return { host, answer: await question(host) };
			} catch (error) {
				return { host, answer: undefined, error };
			}
		}),
	);
}

/** `/volumes` of `/v1.41/volumes?filters=…`; none for what an engine may need long to find out. */
function topicOf(path: string): string | undefined {
	const [, topic] = /^(?:\/v[\d.]+)?(\/[a-z]+)/.exec(path) ?? [];
	return topic === "/system" ? undefined : topic;
}
