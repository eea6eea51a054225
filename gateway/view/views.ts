import type { Engines } from "../engines.ts";
import { HostView } from "./host-view.ts";

/** Requests that change lists and of which no event tells: a tag that BuildKit moves, networks of a container that does not run. */
const UNTOLD: [method: RegExp, path: RegExp][] = [
	[/^POST$/, /\/networks\/[^/]+\/(?:connect|disconnect)$/],
	[/^DELETE$/, /\/containers\/[^/]+$/],
	[/^POST$/, /\/(?:build|session|grpc)$/],
];

/** The views of all hosts' containers. */
export class Views {
	readonly #engines: Engines;
	/** By host; one that comes back may have its engine at another URL. */
	readonly #views = new Map<string, { url: string; view: HostView }>();

	constructor(engines: Engines) {
		this.#engines = engines;
	}

	/** @throws HttpError 502 for a host that is not known or lets nobody in */
	async of(host: string): Promise<HostView> {
		const engine = await this.#engines.cluster.engine(host);
		const { url } = engine;
		const known = this.#views.get(host);
		if (known?.url === url) return known.view;
		const view = new HostView(engine, await this.#engines.pool(host));
		this.#views.set(host, { url, view });
		return view;
	}

	/**
	 * A request is on its way through this gateway.
	 * @param path with its version
	 * @returns is to be called when it is answered; undefined if events tell of all that it does
	 */
	passing(method: string, path: string): (() => void) | undefined {
		if (method === "GET") return undefined;
		const untold = UNTOLD.some(([m, p]) => m.test(method) && p.test(path));
		if (!untold) return undefined;
		const doubts = [...this.#views.values()].map(({ view }) => view.doubt());
		return () => {
			for (const end of doubts) end();
		};
	}
}
