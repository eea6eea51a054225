import type { Cluster } from "../pipeline/cluster.ts";
import { type Engine, parseEngineUrl } from "../pipeline/engine.ts";
import { EnginePool } from "./upstream.ts";

/** What one host's engine answered; `answer` is undefined where it has no such thing or did not answer. */
export interface Answer {
	host: string;
	answer: unknown;
	error?: unknown;
}

/** A host that does not answer in this time delays no list. */
const PATIENCE_MS = 1_000;

/** The engines of all hosts, as the treatments of requests use them. */
export class Engines {
	readonly cluster: Cluster;
	/** The engine of this host. */
	readonly local: EnginePool;
	readonly #pools = new Map<string, EnginePool>();

	/** @param local the engine of this host */
	constructor(cluster: Cluster, local: EnginePool) {
		this.cluster = cluster;
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

	/**
	 * Asks every host that can be reached, this one first.
	 * @param path with its query
	 * @param patience milliseconds
	 */
	async ask(path: string, patience = PATIENCE_MS): Promise<Answer[]> {
		const hosts = await this.cluster.reachable();
		return Promise.all(
			hosts.map(async ({ name }): Promise<Answer> => {
				try {
					const engine: Engine = await this.cluster.engine(name);
					return {
						host: name,
						answer: await within(engine.get(path), patience),
					};
				} catch (error) {
					return { host: name, answer: undefined, error };
				}
			}),
		);
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

async function within<T>(promise: Promise<T>, patience: number): Promise<T> {
	let timer: NodeJS.Timeout | undefined;
	const late = new Promise<never>((_, reject) => {
		timer = setTimeout(() => reject(new Error("late")), patience);
	});
	try {
		return await Promise.race([promise, late]);
	} finally {
		clearTimeout(timer);
	}
}
