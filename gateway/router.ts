import type { EngineAddress } from "../pipeline/engine.ts";
import { imageCarrier } from "../pipeline/lifecycle/image-carrier.ts";
import { Images } from "../pipeline/lifecycle/images.ts";
import { decode, withoutVersion } from "../pipeline/verbs.ts";
import { Engines, type GatewayServices } from "./engines.ts";
import { concernsCompose1, isCompose1 } from "./treatments/compose1.ts";
import { CREATE, containers, LIST } from "./treatments/containers.ts";
import { events } from "./treatments/events.ts";
import { images } from "./treatments/images.ts";
import { INSPECT, networks } from "./treatments/networks.ts";
import { system } from "./treatments/system.ts";
import type {
	OwnAnswer,
	Route,
	TreatedRequest,
} from "./treatments/treatment.ts";
import { versions } from "./treatments/versions.ts";
import { volumes } from "./treatments/volumes.ts";
import { EnginePool } from "./upstream.ts";
import { Views } from "./view/views.ts";

/** What hooks have placed. */
const PLACED = /^\/(?:containers|networks)\/create$/;

/**
 * Which engine answers a request, or how their answers become one: the first row that
 * matches. What no row matches is this host's engine's, and with one host everything is but the list of containers, their
 * creation, the inspection of a network and what docker-compose 1 could not read.
 */
export class Router {
	/** The engine of this host. */
	readonly local: EnginePool;
	readonly #engines: Engines | undefined;
	readonly #views: Views | undefined;
	readonly #table: Route[] = [];

	/**
	 * @param services all hosts and what Consul knows; this host's engine alone without it
	 * @param local the engine of this host
	 */
	constructor(services: GatewayServices | undefined, local: EngineAddress) {
		this.local = new EnginePool(local);
		if (!services) return;
		const engines = new Engines(services, this.local);
		const views = new Views(engines);
		this.#engines = engines;
		this.#views = views;
		const imageNames = new Images(services);
		const bringImage = imageCarrier(engines.cluster, imageNames);
		this.#table = [
			...containers(engines, views, bringImage),
			...images(engines, imageNames, bringImage),
			...networks(engines),
			...volumes(engines),
			...system(engines),
			...versions(engines),
			...events(engines),
		];
	}

	/**
	 * @param target path and query as the client sent them
	 * @param body that the pre-hooks made, for a create
	 * @param exchange tells when it is answered, and whose it is
	 * @throws HttpError what the client shall read
	 */
	route(
		method: string,
		target: string,
		body: string | null,
		exchange: Pick<TreatedRequest, "afterwards" | "userAgent">,
	): EnginePool | Promise<EnginePool | OwnAnswer> {
		if (!this.#engines) return this.local;
		const mark = target.indexOf("?");
		const path = mark < 0 ? target : target.slice(0, mark);
		const query = mark < 0 ? "" : target.slice(mark);
		const plain = withoutVersion(path);
		// the engine routes by the decoded path: %63reate is a create
		const decoded = path.includes("%") ? withoutVersion(decode(path)) : plain;
		const ours =
			LIST.test(decoded) ||
			CREATE.test(decoded) ||
			(method === "GET" && INSPECT.test(plain)) ||
			(concernsCompose1(plain) && isCompose1(exchange.userAgent));
		// a create goes where its hooks have placed it, also if Consul was away when this began
		const placed = method === "POST" && PLACED.test(decoded);
		const { localOnly, cluster } = this.#engines;
		if ((placed ? cluster.alone : localOnly) && !ours) return this.local;
		for (const [methods, paths, treatment] of this.#table) {
			if (!methods.test(method)) continue;
			const match = paths.exec(plain) ?? paths.exec(decoded);
			if (!match) continue;
			const ref = decode(match[1] ?? "");
			const { userAgent } = exchange;
			const afterwards = exchange.afterwards.bind(exchange);
			return treatment({ path, query, ref, body, userAgent, afterwards });
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
