import type { Cluster } from "../pipeline/cluster.ts";
import type { EngineAddress } from "../pipeline/engine.ts";
import { decode } from "../pipeline/verbs.ts";
import { Engines } from "./engines.ts";
import { containers, LIST } from "./treatments/containers.ts";
import { events } from "./treatments/events.ts";
import { imageCarrier, images } from "./treatments/images.ts";
import { networks } from "./treatments/networks.ts";
import { system } from "./treatments/system.ts";
import type { Merged, Row } from "./treatments/treatment.ts";
import { volumes } from "./treatments/volumes.ts";
import { EnginePool } from "./upstream.ts";
import { Views } from "./view/views.ts";

/**
 * Which engine answers a request, or how their answers become one: the first row that
 * matches. What no row matches is this host's engine's, and with one host everything is but the list of containers.
 */
export class Router {
	/** The engine of this host. */
	readonly local: EnginePool;
	readonly #engines: Engines | undefined;
	readonly #views: Views | undefined;
	readonly #table: Row[] = [];

	/**
	 * @param cluster all hosts; this one alone without it
	 * @param local the engine of this host
	 */
	constructor(cluster: Cluster | undefined, local: EngineAddress) {
		this.local = new EnginePool(local);
		if (!cluster) return;
		const engines = new Engines(cluster, this.local);
		const views = new Views(cluster);
		this.#engines = engines;
		this.#views = views;
		this.#table = [
			...containers(engines, views, imageCarrier(engines)),
			...images(engines),
			...networks(engines),
			...volumes(engines),
			...system(engines),
			...events(engines),
		];
	}

	/**
	 * @param target path and query as the client sent them
	 * @param body that the pre-hooks made, for a create
	 * @throws HttpError what the client shall read
	 */
	route(
		method: string,
		target: string,
		body: string | null,
	): EnginePool | Promise<EnginePool | Merged> {
		if (!this.#engines) return this.local;
		const mark = target.indexOf("?");
		const path = mark < 0 ? target : target.slice(0, mark);
		const query = mark < 0 ? "" : target.slice(mark);
		const plain = path.replace(/^\/v[\d.]+(?=\/)/, "");
		if (this.#engines.cluster.alone && !LIST.test(plain)) return this.local;
		for (const [methods, paths, treatment] of this.#table) {
			const match = methods.test(method) && paths.exec(plain);
			if (!match) continue;
			return treatment({ path, query, ref: decode(match[1] ?? ""), body });
		}
		return this.local;
	}

	/**
	 * A request is on its way.
	 * @param path as the client sent it
	 * @returns is to be called when it is answered
	 */
	passing(method: string, path: string): (() => void) | undefined {
		return this.#views?.passing(method, path);
	}

	close(): void {
		this.local.close();
		this.#engines?.close();
	}
}
