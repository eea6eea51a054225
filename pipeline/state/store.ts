import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { setTimeout } from "node:timers/promises";
import Consul from "consul";
import type { Logger } from "pino";
import { type ConsulConfig, consulAccess } from "../consul-access.ts";
import { HttpError, messageOf } from "../errors.ts";
import { originOf } from "../http-client.ts";
import type { Operation } from "./operations.ts";
import { bodyOf, isAway, Refusal, statusOf } from "./refusal.ts";
import { Transactions } from "./transactions.ts";
import { followPrefix, type KvItem } from "./watch.ts";

/** A value under a key, and the index at which it was last written (for compare-and-set). */
export interface Entry<T> {
	key: string;
	value: T;
	index: number;
}

/** Consul takes 200 connections from one address, and several adapters may share one. */
const MAX_SOCKETS = 32;
/** A client that waits for a create shall read a 503 in under 5 s. */
const TIMEOUT_MS = 2_500;

/**
 * For so long after Consul was away, reads are `consistent`: servers that were all started again say what was true at some time
 * before, or nothing at all, until they have agreed on a leader and heard from it. Whoever takes down what is not on record must not
 * believe that.
 */
const DOUBT_MS = 30_000;

/** Longest blocking query: a Consul that lost its data answers none sooner. */
const WATCH_WAIT = "10s";

/** A blocking query on an empty prefix returns at every write to Consul; this is the pause before the next. */
const WATCH_EMPTY_MS = 100;

/**
 * All that outlives a request: Consul's key/value store and catalog.
 * Values are JSON; one that is not was put there by hand, and keeps nobody from the others. Every method throws HttpError 503 when Consul does not answer.
 */
export class Store {
	readonly consul: Consul;
	/** `http://127.0.0.1:8500` */
	readonly address: string;
	/** Why nothing may be written now, for whoever tries; see format.ts. */
	refusal: string | undefined;
	/** Requests sent to Consul so far, for the bench. */
	requests = 0;
	readonly #transactions: Transactions;
	readonly #log: Logger | undefined;
	/** Keys of what was left out of a list, each of which is logged once. */
	readonly #leftOut = new Set<string>();
	/** Until when, by a monotonic clock, a server may not know what the others do; it may have been started with us. */
	#doubtful = performance.now() + DOUBT_MS;

	/** @throws Error naming a file of the configuration that cannot be read */
	constructor(config: ConsulConfig, log?: Logger) {
		this.#log = log;
		this.address = config.address;
		const { token, tls } = consulAccess(config);
		const origin = originOf(config.address, tls);
		const Agent = origin.tls ? HttpsAgent : HttpAgent;
		const options = {
			baseUrl: `${new URL(config.address).origin}/v1`,
			agent: new Agent({
				host: origin.host, // that of the URL is in brackets, if it is of IPv6: no name for a socket
				keepAlive: true,
				noDelay: true,
				maxSockets: MAX_SOCKETS,
				...tls,
			}),
			defaults: token ? { token } : {},
			timeout: TIMEOUT_MS,
		};
		this.consul = new Consul(options as object); // its types know no URL
		this.#transactions = new Transactions({
			origin,
			token,
			timeout: TIMEOUT_MS,
			ask: (request) => this.ask(request),
			denied: (what) => this.#denied(what),
		});
	}

	/**
	 * The value under a key, or undefined.
	 * @throws HttpError 500 for one that is not JSON
	 */
	async get<T>(key: string): Promise<Entry<T> | undefined> {
		const item = await this.ask(() =>
			this.consul.kv.get({ key, ...this.#consistency() } as never),
		);
		if (!item) return undefined;
		const [entry] = entries<T>([item], (key) => {
			throw new HttpError(
				500,
				`consul: the value of ${key} is not JSON, so it is not arpanet's; delete it: consul kv delete ${key}`,
			);
		});
		return entry;
	}

	/**
	 * All entries whose key begins with `prefix`, in key order.
	 * @param stale as any server has them, perhaps a moment old: it answers also while the servers have no leader
	 */
	async list<T>(prefix: string, stale = false): Promise<Entry<T>[]> {
		const items = (await this.ask(() =>
			// its type knows nothing of consistency
			this.consul.kv.get({
				key: prefix,
				recurse: true,
				...(stale ? { stale } : this.#consistency()),
			} as never),
		)) as unknown as KvItem[] | null;
		return entries(items, this.#leaveOut);
	}

	/** The entries under these keys, as far as there are any: 64 are one request. */
	async some<T>(keys: Iterable<string>): Promise<Entry<T>[]> {
		const { consistent = false } = this.#consistency();
		const items = await this.#transactions.read(keys, consistent);
		return entries(items, this.#leaveOut);
	}

	/** All keys that begin with `prefix`. */
	async keys(prefix: string): Promise<string[]> {
		try {
			return await this.ask(() =>
				this.consul.kv.keys({ key: prefix, ...this.#consistency() } as never),
			);
		} catch (error) {
			if (statusOf(error) === 404) return []; // Consul says 404 for a prefix without keys
			throw error;
		}
	}

	/**
	 * The services under a catalog node; none for an unknown node.
	 * @param filter in Consul's language: `Meta.container == "…"`
	 */
	async nodeServices(node: string, filter?: string): Promise<CatalogService[]> {
		const options = { node, ...(filter ? { filter } : {}) };
		const found = (await this.ask(() =>
			this.consul.catalog.node.services(options as never),
		)) as { Services?: Record<string, CatalogService> } | null;
		return Object.values(found?.Services ?? {});
	}

	/**
	 * Writes all operations, or none of them.
	 * @throws Conflict when an operation lost against another writer; HttpError 503 while nothing may be written
	 */
	async commit(operations: Operation[]): Promise<void> {
		if (this.refusal) throw new HttpError(503, this.refusal);
		return this.#transactions.commit(operations);
	}

	/**
	 * Follows all entries under a prefix, until the returned function is called. While Consul is
	 * away nothing is told, and it goes on by itself when it is back. It is told what the nearest
	 * server knows: a question that waits at a leader which dies would wait on for seconds.
	 */
	watch<T>(prefix: string, changed: (entries: Entry<T>[]) => void): () => void {
		let empty = false;
		let told = false;
		let sure = false;
		const get = (options: object) => this.consul.kv.get(options as never);
		const agreed = async (options: { ctx?: unknown }) => {
			const { ctx } = options;
			const answer = await get({
				ctx,
				key: prefix,
				recurse: true,
				consistent: true,
			});
			sure = true;
			return answer;
		};
		const question = async (options: object) => {
			if (empty) await setTimeout(WATCH_EMPTY_MS);
			if (sure) return get(options);
			// better something than nothing while the servers have no leader
			return told ? agreed(options) : agreed(options).catch(() => get(options));
		};
		return followPrefix(
			this.consul,
			{ key: prefix, recurse: true, stale: true, wait: WATCH_WAIT },
			question,
			(items) => {
				const wasEmpty = empty;
				empty = !items;
				told = true;
				if (empty && wasEmpty) return;
				changed(entries(items, this.#leaveOut));
			},
			() => {
				sure = false; // the server may have been started again
			},
		);
	}

	/**
	 * Runs one request to Consul and names Consul in what goes wrong.
	 * @throws HttpError 503 when it does not answer or denies it, Refusal for any other answer than 200
	 */
	async ask<T>(request: () => Promise<T>): Promise<T> {
		this.requests++;
		try {
			return await request();
		} catch (error) {
			const status = statusOf(error);
			if (status === 403) throw this.#denied(bodyOf(error));
			if (status !== undefined && !isAway(status)) {
				throw new Refusal(status, bodyOf(error));
			}
			this.#doubtful = performance.now() + DOUBT_MS;
			throw new HttpError(
				503,
				`consul: ${this.address} does not answer (${wordsOf(error)}); running containers are not touched: start Consul and try again`,
			);
		}
	}

	/** Closes the connections that are kept to Consul. */
	close(): void {
		this.consul.destroy();
		this.#transactions.close();
	}

	readonly #leaveOut = (key: string): void => {
		if (this.#leftOut.has(key)) return;
		this.#leftOut.add(key);
		this.#log?.warn(
			{ key },
			"left out: its value in Consul is not JSON, so it is not arpanet's; delete it with consul kv delete",
		);
	};

	#consistency(): { consistent?: true } {
		return performance.now() < this.#doubtful ? { consistent: true } : {};
	}

	/** @param what Consul's own words */
	#denied(what: string): HttpError {
		return new HttpError(
			503,
			`consul: ${this.address} refuses arpanet's token (${what.trim()}); arpanet check says which right it lacks; if it lacks none, restart arpanet, which reads the token when it starts`,
		);
	}
}

/** A service as `/v1/catalog/node-services` and `/v1/catalog/node` give it. */
export interface CatalogService {
	ID: string;
	Service: string;
	Address: string;
	Tags: string[];
	Meta: Record<string, string> | null;
	ModifyIndex: number;
}

/** @param strange is told the keys of those that are not JSON */
function entries<T>(
	items: KvItem[] | null,
	strange: (key: string) => void,
): Entry<T>[] {
	const found: Entry<T>[] = [];
	for (const { Key: key, Value, ModifyIndex: index } of items ?? []) {
		const value = parse<T>(Value);
		if (value === undefined) strange(key);
		else found.push({ key, value, index });
	}
	return found;
}

/** A value of Consul's; undefined for what is not JSON, or nothing: a folder that somebody makes in Consul's UI has no value. */
export function parse<T>(value: string | null): T | undefined {
	try {
		return (JSON.parse(value ?? "") as T | null) ?? undefined;
	} catch {
		return undefined;
	}
}

/** What went wrong, in Consul's own words if it has said any. */
function wordsOf(error: unknown): string {
	const said = statusOf(error) === undefined ? "" : bodyOf(error).trim();
	return said.split("\n", 1)[0]?.slice(0, 200) || messageOf(error);
}
