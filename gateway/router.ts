import type { Cluster } from "../pipeline/cluster.ts";
import {
	type Engine,
	type EngineAddress,
	parseEngineUrl,
} from "../pipeline/engine.ts";
import { HttpError } from "../pipeline/errors.ts";
import { decode } from "../pipeline/verbs.ts";
import {
	mergeContainers,
	mergeEvents,
	mergeImages,
	mergeInfo,
	mergeNetworks,
	mergeVolumes,
} from "./merge.ts";
import { EnginePool } from "./upstream.ts";

/** An answer that the gateway gives itself: a JSON body, or lines as they come. */
export type Merged =
	| { status: number; body: unknown }
	| {
			status: number;
			/** @param signal the client is gone */
			stream(signal: AbortSignal): AsyncIterable<string>;
	  };

/** A host that does not answer in this time delays no list. */
const PATIENCE_MS = 1_000;
/** A create does better to wait for an engine that is busy than to go without its image. */
const COPY_PATIENCE_MS = 30_000;
/** Ids whose hosts are remembered. */
const MAX_KNOWN = 20_000;
const ID = /^[0-9a-f]{64}$/;

interface Asked {
	path: string;
	query: string;
	ref: string;
	body: string | null;
}

type Treatment = (request: Asked) => Promise<EnginePool | Merged>;

/**
 * Which engine answers a request, or how their answers become one. With one host
 * everything is its engine's.
 */
export class Router {
	readonly #cluster: Cluster | undefined;
	readonly #local: EnginePool;
	readonly #pools = new Map<string, EnginePool>();
	/** Where containers and execs are, by full id: that never changes. */
	readonly #hosts = new Map<string, string>();
	/** Images that are on their way, by name and host: creates at once share one copy. */
	readonly #copying = new Map<string, Promise<void>>();
	readonly #table: [method: RegExp, path: RegExp, treatment: Treatment][];

	/** @param local the engine of this host */
	constructor(cluster: Cluster | undefined, local: EngineAddress) {
		this.#cluster = cluster;
		this.#local = new EnginePool(local);
		this.#table = [
			[/^POST$/, /^\/containers\/create$/, ({ body }) => this.#create(body)],
			[
				/^GET$/,
				/^\/containers\/json$/,
				(request) => this.#list(request, mergeContainers),
			],
			[
				/^GET$/,
				/^\/images\/json$/,
				(request) => this.#list(request, mergeImages),
			],
			[/^GET$/, /^\/info$/, (request) => this.#list(request, mergeInfo)],
			[/^GET$/, /^\/events$/, (request) => this.#events(request)],
			[
				/^GET$/,
				/^\/networks$/,
				(request) => this.#list(request, mergeNetworks),
			],
			[/^GET$/, /^\/volumes$/, (request) => this.#list(request, mergeVolumes)],
			[
				/^(GET|DELETE)$/,
				/^\/networks\/([^/]+)$/,
				({ ref }) => this.#network(ref),
			],
			[
				/^/,
				/^\/containers\/(?!prune$)([^/]+)(?:\/|$)/,
				({ ref }) => this.#container(ref),
			],
			[/^/, /^\/exec\/([^/]+)\//, ({ ref }) => this.#exec(ref)],
			[
				/^POST$/,
				/^\/(?:build|session|grpc|images\/create|images\/load)$/,
				() => this.#imageHost(),
			],
			[/^DELETE$/, /^\/images\/(.+)$/, (request) => this.#removeImage(request)],
			[
				/^/,
				/^\/images\/(.+)\/(?:json|history|get|tag|push)$/,
				({ ref }) => this.#image(ref),
			],
		];
	}

	/** The engine of this host. */
	get local(): EnginePool {
		return this.#local;
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
		const cluster = this.#cluster;
		if (!cluster || cluster.alone) return this.#local;
		const mark = target.indexOf("?");
		const whole = mark < 0 ? target : target.slice(0, mark);
		const path = whole.replace(/^\/v[\d.]+(?=\/)/, "");
		for (const [methods, paths, treatment] of this.#table) {
			const match = methods.test(method) && paths.exec(path);
			if (!match) continue;
			const ref = decode(match[1] ?? "");
			const query = mark < 0 ? "" : target.slice(mark);
			return treatment({ path: whole, query, ref, body });
		}
		return this.#local;
	}

	close(): void {
		for (const pool of [this.#local, ...this.#pools.values()]) pool.close();
	}

	async #create(body: string | null): Promise<EnginePool> {
		let create: { Image?: string; Labels?: Record<string, string> };
		try {
			create = JSON.parse(body ?? "");
		} catch {
			return this.#local; // the engine says what is wrong with it
		}
		const cluster = this.#hostsOf();
		const host = create.Labels?.["arpanet.host"] ?? cluster.self;
		if (create.Image) await this.#bringImage(create.Image, host);
		return this.#pool(host);
	}

	/**
	 * A host that lacks an image, or has an older one of that name, gets it from where images are
	 * made, else from any that has it; if none has, the engine says so.
	 */
	async #bringImage(image: string, host: string): Promise<void> {
		const cluster = this.#hostsOf();
		const path = `/images/${image}/json`;
		const answers = (await this.#ask(path, COPY_PATIENCE_MS)).filter(
			({ answer }) => answer !== undefined,
		);
		const maker = await this.#maker();
		const source = answers.find((each) => each.host === maker) ?? answers[0];
		const target = answers.find((each) => each.host === host);
		if (!source || idOf(source) === (target && idOf(target))) return;
		if (target && source.host !== maker) return; // none is newer for certain
		const key = `${image} ${host}`;
		const copy = async () => {
			const to = await cluster.engine(host);
			await to.copyImage(image, await cluster.engine(source.host));
		};
		const copying = this.#copying.get(key) ?? copy();
		this.#copying.set(key, copying);
		try {
			await copying;
		} finally {
			this.#copying.delete(key);
		}
	}

	async #container(ref: string): Promise<EnginePool> {
		const known = this.#hosts.get(ref);
		if (known) return this.#pool(known);
		const found = await this.#hostsOf().find(ref);
		if (!found) return this.#local; // and its engine says that there is none
		this.#remember(found.container.Id, found.host);
		return this.#pool(found.host);
	}

	async #exec(id: string): Promise<EnginePool> {
		const known = this.#hosts.get(id);
		if (known) return this.#pool(known);
		const host = await this.#holder(`/exec/${id}/json`);
		if (ID.test(id) && host) this.#remember(id, host);
		return host ? this.#pool(host) : this.#local;
	}

	#remember(id: string, host: string): void {
		if (this.#hosts.size >= MAX_KNOWN) this.#hosts.clear();
		this.#hosts.set(id, host);
	}

	async #image(name: string): Promise<EnginePool> {
		const host = await this.#holder(`/images/${name}/json`);
		return host ? this.#pool(host) : this.#local;
	}

	async #imageHost(): Promise<EnginePool> {
		return this.#pool(await this.#maker());
	}

	/** Images are made on one host, the same for every gateway, so that one build finds what another made. */
	async #maker(): Promise<string> {
		const names = (await this.#hostsOf().reachable()).map(({ name }) => name);
		return names.sort()[0] as string;
	}

	async #network(ref: string): Promise<EnginePool> {
		const host = await this.#holder(`/networks/${encodeURIComponent(ref)}`);
		return host ? this.#pool(host) : this.#local;
	}

	async #events({ path, query }: Asked): Promise<Merged> {
		const cluster = this.#hostsOf();
		const hosts = await cluster.reachable();
		const engines = await Promise.all(
			hosts.map(({ name }) => cluster.engine(name)),
		);
		return {
			status: 200,
			stream: (signal) =>
				mergeEvents(
					engines.map((engine) => engine.lines(path + query, signal)),
				),
		};
	}

	/** Gone from everywhere: the copies first, then where the client reads what was removed. */
	async #removeImage({ ref, path, query }: Asked): Promise<EnginePool> {
		const has = (await this.#ask(`/images/${ref}/json`)).filter(
			({ answer }) => answer !== undefined,
		);
		const [first, ...copies] = has;
		await Promise.allSettled(
			copies.map(async ({ host }) =>
				(await this.#hostsOf().engine(host)).remove(path + query),
			),
		);
		return first ? this.#pool(first.host) : this.#local;
	}

	/** The first host, this one before others, whose engine has something at a path. */
	async #holder(path: string): Promise<string | undefined> {
		const answers = await this.#ask(path);
		return answers.find(({ answer }) => answer !== undefined)?.host;
	}

	async #list(
		{ path, query }: { path: string; query: string },
		merge: (answers: Answer[], query: URLSearchParams) => unknown,
	): Promise<Merged> {
		const answers = await this.#ask(path + query);
		const own = answers[0];
		if (own?.error instanceof HttpError) throw own.error;
		const given = answers.filter(({ answer }) => answer !== undefined);
		return { status: 200, body: merge(given, new URLSearchParams(query)) };
	}

	async #ask(path: string, patience = PATIENCE_MS): Promise<Answer[]> {
		const hosts = await this.#hostsOf().reachable();
		return Promise.all(
			hosts.map(async ({ name }): Promise<Answer> => {
				try {
					const engine: Engine = await this.#hostsOf().engine(name);
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

	/** @throws Error never reached: nothing is routed without a cluster */
	#hostsOf(): Cluster {
		if (!this.#cluster) throw new Error("no cluster");
		return this.#cluster;
	}

	async #pool(host: string): Promise<EnginePool> {
		const { url } = await this.#hostsOf().engine(host);
		if (url === this.#local.name) return this.#local;
		const known = this.#pools.get(url);
		if (known) return known;
		const pool = new EnginePool(parseEngineUrl(url, this.#cluster?.tls));
		this.#pools.set(url, pool);
		return pool;
	}
}

/** What one host's engine answered. */
export interface Answer {
	host: string;
	answer: unknown;
	error?: unknown;
}

function idOf({ answer }: Answer): string {
	return (answer as { Id: string }).Id;
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
