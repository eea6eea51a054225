import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import type { ExecutionContext } from "ava";
import { Router } from "../../gateway/router.ts";
import { EnginePool } from "../../gateway/upstream.ts";
import { Cluster } from "../../pipeline/cluster.ts";
import { Engine, parseEngineUrl } from "../../pipeline/engine.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { Locator } from "../../pipeline/locator.ts";
import { Containers } from "../../pipeline/state/containers.ts";
import type { Hosts, KnownHost } from "../../pipeline/state/hosts.ts";
import { Networks } from "../../pipeline/state/networks.ts";
import type { Store } from "../../pipeline/state/store.ts";

/** What an engine answers: text or a stream as it is, anything else as JSON; undefined is a 404. @throws HttpError */
export type FakeEngine = (method: string, url: URL) => unknown;

/** An engine of a few lines. @returns its address, and what it was asked, without pings */
export async function fakeEngine(t: ExecutionContext, engine: FakeEngine) {
	const asked: string[] = [];
	const server = createServer(async ({ method = "", url = "" }, answer) => {
		answer.setHeader("Api-Version", "1.41");
		if (url === "/_ping") {
			answer.end("OK");
			return;
		}
		asked.push(`${method} ${url}`);
		try {
			const told = await engine(method, new URL(url, "http://docker"));
			if (told === undefined) throw new HttpError(404, `no ${url}`);
			if (told instanceof Readable) told.pipe(answer);
			else answer.end(typeof told === "string" ? told : JSON.stringify(told));
		} catch (error) {
			const { status, message } = error as HttpError;
			answer.writeHead(status).end(JSON.stringify({ message }));
		}
	});
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	const close = () => {
		server.closeAllConnections();
		server.close();
	};
	t.teardown(close);
	const { port } = server.address() as AddressInfo;
	return { url: `tcp://127.0.0.1:${port}`, asked, close };
}

/** Consul, as far as a test lets it know something. */
export function storeOf(values: Record<string, unknown> = {}): Store {
	const entries = (prefix: string) =>
		Object.entries(values)
			.filter(([key]) => key.startsWith(prefix))
			.map(([key, value]) => ({ key, value, index: 1 }));
	const store = {
		get: async (key: string) => entries(key).find((each) => each.key === key),
		list: async (prefix: string) => entries(prefix),
		commit: async () => {},
		watch: () => () => {},
	};
	return store as unknown as Store;
}

/** Hosts, each with an engine of a few lines, as the gateway of the first sees them. */
export async function startHosts(
	t: ExecutionContext,
	engines: Record<string, FakeEngine>,
	store: Store = storeOf(),
) {
	/** What is on record of them, and the test's to change. */
	const known: Record<string, KnownHost> = {};
	const asked: Record<string, string[]> = {};
	const close: Record<string, () => void> = {};
	for (const [position, name] of Object.keys(engines).entries()) {
		const engine = await fakeEngine(t, engines[name] as FakeEngine);
		asked[name] = engine.asked;
		close[name] = engine.close;
		known[name] = {
			name,
			address: `10.0.0.${position + 1}`,
			engine: engine.url,
			cpus: 1,
			memory: 1,
			state: { load: 0, address: "" },
		};
	}
	const hosts = {
		list: async () => Object.values(known),
		get: async (name: string) => {
			if (known[name]) return known[name];
			throw new HttpError(502, `host ${name} is not known`);
		},
		isStopping: (name: string) => known[name]?.state?.stopping === true,
		get count() {
			return Object.keys(known).length;
		},
		close() {},
	};
	const [self = ""] = Object.keys(engines);
	const url = known[self]?.engine as string;
	const local = new Engine(url);
	const cluster = new Cluster(hosts as unknown as Hosts, self, local);
	const locator = new Locator(cluster, store);
	const services = {
		cluster,
		locator,
		containers: new Containers(store),
		networks: new Networks(store, (name) => locator.hasNetwork(name)),
		store,
	};
	services.networks.ids.follow();
	const router = new Router(services, parseEngineUrl(url));
	t.teardown(async () => {
		router.close();
		await cluster.close();
	});

	const callbacks: (() => void)[] = [];
	/** The answer that the gateway makes of theirs, or the name of the host whose engine is to give it. */
	async function route(
		method: string,
		target: string,
		body: string | null = null,
		userAgent = "",
	): Promise<unknown> {
		const afterwards = (callback: () => void) => callbacks.push(callback);
		const exchange = { userAgent, afterwards };
		const answer = await router.route(method, target, body, exchange);
		if (answer instanceof EnginePool) {
			const at = ({ engine }: KnownHost) => engine === answer.name;
			return Object.values(known).find(at)?.name;
		}
		if ("body" in answer) return answer.body;
		if ("bytes" in answer) return JSON.parse(answer.bytes.toString());
		return answer;
	}

	/** All that was routed has been answered. */
	function answered(): void {
		for (const callback of callbacks.splice(0)) callback();
	}

	return { known, asked, close, route, answered, services };
}

export type HostsOfTest = Awaited<ReturnType<typeof startHosts>>;
