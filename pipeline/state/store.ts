import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { setTimeout } from "node:timers/promises";
import Consul from "consul";
import { Pool } from "undici";
import { type ConsulConfig, consulAccess } from "../consul-access.ts";
import { HttpError, messageOf } from "../errors.ts";

/** A value under a key, and the index at which it was last written (for compare-and-set). */
export interface Entry<T> {
	key: string;
	value: T;
	index: number;
}

/**
 * One operation of a commit. `create` fails if the key exists, `update` and an indexed
 * `delete` if it was written since, `check` if it was written since or is gone, `absent` if it exists.
 * `lock` writes a key for as long as a session lives and fails if another session has it;
 * `held` fails unless that very session has it.
 */
export type Operation =
	| { verb: "create"; key: string; value: unknown }
	| { verb: "update"; key: string; value: unknown; index: number }
	| { verb: "set"; key: string; value: unknown }
	| { verb: "delete"; key: string; index?: number }
	| { verb: "check"; key: string; index: number }
	| { verb: "absent"; key: string }
	| { verb: "lock"; key: string; value: unknown; session: string }
	| { verb: "held"; key: string; session: string }
	| { verb: "catalog"; operation: CatalogOperation };

/** An operation on Consul's catalog, in the shapes of its `/v1/txn`. */
export type CatalogOperation =
	| { Node: { Verb: "set" | "delete"; Node: Record<string, unknown> } }
	| {
			Service: {
				Verb: "set" | "cas" | "delete" | "delete-cas";
				Node: string;
				Service: Record<string, unknown>;
			};
	  }
	| { Check: { Verb: "set" | "delete"; Check: Record<string, unknown> } };

/** A commit that lost against another: nothing of it was written. `operation` is the one that failed. */
export class Conflict extends Error {
	readonly operation: Operation;

	constructor(operation: Operation, what: string) {
		super(what);
		this.name = "Conflict";
		this.operation = operation;
	}
}

/** Waits for a commit; one that lost is as good as done: another has done it, or is doing it. */
export async function ignoreConflict(commit: Promise<void>): Promise<void> {
	try {
		await commit;
	} catch (error) {
		if (!(error instanceof Conflict)) throw error;
	}
}

/**
 * The operation that puts a value in the place of what was read under a key, and fails if another was written since.
 * @param entry what was read; undefined: nothing
 */
export function replacing(
	key: string,
	entry: { index: number } | undefined,
	value: unknown,
): Operation {
	return entry
		? { verb: "update", key, value, index: entry.index }
		: { verb: "create", key, value };
}

/** Consul takes at most so many operations in one transaction. */
const MAX_OPERATIONS = 64;
/**
 * Transactions in flight at once: enough to hide a commit's fsync. The second goes only if it has as much to write as the
 * first: a small one beside a large one costs Consul's disks as much again, and a little later it would be part of the next.
 */
const MAX_IN_FLIGHT = 2;
/** Consul takes 200 connections from one address, and several adapters may share one. */
const MAX_SOCKETS = 32;
/** How Consul says so, for one operation of a transaction; a whole request gets status 403. */
const DENIED = /permission denied|acl not found/i;
/** A client that waits for a create shall read a 503 in under 5 s. */
const TIMEOUT = 2_500;

/**
 * For so long after Consul was away, reads are `consistent`: servers that were all started again say what was true at some time
 * before, or nothing at all, until they have agreed on a leader and heard from it. Whoever takes down what is not on record must not
 * believe that.
 */
const DOUBT_MS = 30_000;

/** A Consul that has forgotten everything does not answer a question for what comes next until this has passed. */
const WATCH_WAIT = "10s";
/** The client's own limit is 30 s: a host that was cut off shall know sooner that it is back. */
const WATCH_RETRY_MS = 2_000;

/** Consul wakes whoever waits for a prefix under which there is nothing at every write: so he asks so seldom. */
const WATCH_EMPTY_MS = 100;

interface KvItem {
	Key: string;
	Value: string | null;
	ModifyIndex: number;
}

interface Waiting {
	operations: Operation[];
	resolve(): void;
	reject(error: Error): void;
}

/**
 * All that outlives a request: Consul's key/value store and catalog.
 * Values are JSON. Every method throws HttpError 503 when Consul does not answer.
 */
export class Store {
	readonly consul: Consul;
	/** `http://127.0.0.1:8500` */
	readonly address: string;
	/** Why nothing may be written now, for whoever tries; see format.ts. */
	refusal: string | undefined;
	/** Requests sent to Consul so far, for the bench. */
	requests = 0;
	/** For commits alone: a create waits for one, and this spares it half a millisecond of papi's, which `consul` is made with. */
	readonly #transactions: Pool;
	readonly #token: string | undefined;
	readonly #waiting: Waiting[] = [];
	#inFlight = 0;
	/** Operations of those in flight, and of those that wait. */
	#sent = 0;
	#unsent = 0;
	#scheduled = false;
	/** Until when, by a monotonic clock, a server may not know what the others do; it may have been started with us. */
	#doubtful = performance.now() + DOUBT_MS;

	/** @throws Error naming a file of the configuration that cannot be read */
	constructor(config: ConsulConfig) {
		this.address = config.address;
		const { token, tls } = consulAccess(config);
		const url = new URL(config.address);
		const secure = url.protocol === "https:";
		const Agent = secure ? HttpsAgent : HttpAgent;
		const options = {
			host: url.hostname,
			port: Number(url.port) || (secure ? 443 : 80),
			secure,
			agent: new Agent({
				keepAlive: true,
				noDelay: true,
				maxSockets: MAX_SOCKETS,
				...tls,
			}),
			defaults: token ? { token } : {},
			timeout: TIMEOUT,
		};
		this.consul = new Consul(options);
		this.#token = token;
		this.#transactions = new Pool(url.origin, {
			connections: MAX_IN_FLIGHT,
			connect: { ...tls, timeout: TIMEOUT },
			headersTimeout: TIMEOUT,
			bodyTimeout: TIMEOUT,
		});
	}

	/** The value under a key, or undefined. */
	async get<T>(key: string): Promise<Entry<T> | undefined> {
		const item = await this.ask(() =>
			this.consul.kv.get({ key, ...this.#consistency() } as never),
		);
		return item
			? { key, value: parse<T>(item.Value), index: item.ModifyIndex }
			: undefined;
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
		return (items ?? []).map((item) => ({
			key: item.Key,
			value: parse<T>(item.Value),
			index: item.ModifyIndex,
		}));
	}

	/** All keys that begin with `prefix`. */
	async keys(prefix: string): Promise<string[]> {
		try {
			return await this.ask(() =>
				this.consul.kv.keys({ key: prefix, ...this.#consistency() } as never),
			);
		} catch (error) {
			if (isNotFound(error)) return []; // Consul says 404 for a prefix without keys
			throw error;
		}
	}

	/** The services under a catalog node, of one container (by their meta `container`) if one is named; none for an unknown node. */
	async nodeServices(
		node: string,
		container?: string,
	): Promise<CatalogService[]> {
		const filter = container && { filter: `Meta.container == "${container}"` };
		const found = (await this.ask(() =>
			this.consul.catalog.node.services({ node, ...filter } as never),
		)) as { Services?: Record<string, CatalogService> } | null;
		return Object.values(found?.Services ?? {});
	}

	/**
	 * Writes all operations, or none of them. Commits that wait together share one
	 * transaction; one that lost is taken out and the others go on without it.
	 * @throws Conflict when an operation lost against another writer; HttpError 503 while nothing may be written
	 */
	async commit(operations: Operation[]): Promise<void> {
		if (this.refusal) throw new HttpError(503, this.refusal);
		if (operations.length > MAX_OPERATIONS) {
			throw new Error(`a commit of ${operations.length} operations is too big`);
		}
		return new Promise((resolve, reject) => {
			this.#waiting.push({ operations, resolve, reject });
			this.#unsent += operations.length;
			this.#schedule();
		});
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
		const agreed = async ({ ctx }: { ctx: unknown }) => {
			const options = { ctx, key: prefix, recurse: true, consistent: true };
			const items = await this.consul.kv.get(options as never);
			sure = true;
			return items;
		};
		const watch = this.consul.watch({
			method: async (options: { ctx: unknown }) => {
				if (empty) await setTimeout(WATCH_EMPTY_MS);
				const next = () => this.consul.kv.get(options as never);
				if (sure) return next();
				// better something than nothing while the servers have no leader
				return told ? agreed(options) : agreed(options).catch(next);
			},
			options: { key: prefix, recurse: true, stale: true, wait: WATCH_WAIT },
			backoffMax: WATCH_RETRY_MS,
		} as never);
		watch.on("change", (items: KvItem[] | null) => {
			const wasEmpty = empty;
			empty = !items;
			told = true;
			if (empty && wasEmpty) return;
			changed(
				(items ?? []).map(({ Key, Value, ModifyIndex }) => ({
					key: Key,
					value: parse<T>(Value),
					index: ModifyIndex,
				})),
			);
		});
		watch.on("error", () => {
			sure = false; // the server may have been started again
		});
		return () => watch.end();
	}

	/** Runs one request to Consul and names Consul in what goes wrong. */
	async ask<T>(request: () => Promise<T>): Promise<T> {
		this.requests++;
		try {
			return await request();
		} catch (error) {
			if (statusOf(error) === 403) throw this.#denied(bodyOf(error));
			if (statusOf(error) !== undefined && statusOf(error) !== 500) throw error;
			this.#doubtful = performance.now() + DOUBT_MS;
			throw new HttpError(
				503,
				`consul: ${this.address} does not answer (${messageOf(error)}); running containers are not touched: start Consul and try again`,
				{ cause: error },
			);
		}
	}

	/** Closes the connections that are kept to Consul. */
	close(): void {
		this.consul.destroy();
		void this.#transactions.destroy();
	}

	#consistency(): { consistent?: true } {
		return performance.now() < this.#doubtful ? { consistent: true } : {};
	}

	/** @param what Consul's own words */
	#denied(what: string): HttpError {
		return new HttpError(
			503,
			`consul: ${this.address} refuses arpanet's token (${what.trim()}); arpanet check says which right it lacks`,
		);
	}

	#schedule(): void {
		if (this.#scheduled || this.#inFlight >= MAX_IN_FLIGHT) return;
		this.#scheduled = true;
		setImmediate(() => {
			this.#scheduled = false;
			if (this.#unsent < this.#sent) return;
			const batch = this.#take();
			if (batch.length === 0) return;
			const size = sizeOf(batch);
			this.#inFlight++;
			this.#sent += size;
			void this.#send(batch).finally(() => {
				this.#inFlight--;
				this.#sent -= size;
				if (this.#waiting.length > 0) this.#schedule();
			});
			if (this.#waiting.length > 0) this.#schedule();
		});
	}

	/** As many waiting commits as fit into one transaction; equal checks are sent once. */
	#take(): Waiting[] {
		const batch: Waiting[] = [];
		const checks = new Set<string>();
		let size = 0;
		while (this.#waiting.length > 0) {
			const next = this.#waiting[0] as Waiting;
			const added = next.operations.filter(
				(operation) => !checks.has(checkId(operation)),
			);
			if (batch.length > 0 && size + added.length > MAX_OPERATIONS) break;
			size += added.length;
			for (const operation of added) {
				if (operation.verb === "check") checks.add(checkId(operation));
			}
			batch.push(next);
			this.#waiting.shift();
		}
		this.#unsent -= sizeOf(batch);
		return batch;
	}

	/** @throws Refusal */
	async #transact(operations: Operation[]): Promise<void> {
		const { statusCode, body } = await this.#transactions.request({
			method: "PUT",
			path: "/v1/txn",
			headers: this.#token ? { "x-consul-token": this.#token } : {},
			body: JSON.stringify(operations.map(toConsul)),
		});
		if (statusCode !== 200) throw new Refusal(statusCode, await body.text());
		await body.dump();
	}

	async #send(batch: Waiting[]): Promise<void> {
		const operations: Operation[] = [];
		const positions = new Map<string, number>();
		const owners = batch.map((waiting) =>
			waiting.operations.map((operation) => {
				const id = checkId(operation);
				const known = id ? positions.get(id) : undefined;
				if (known !== undefined) return known;
				operations.push(operation);
				if (id) positions.set(id, operations.length - 1);
				return operations.length - 1;
			}),
		);
		try {
			await this.ask(() => this.#transact(operations));
			for (const waiting of batch) waiting.resolve();
		} catch (error) {
			const failed = failures(error);
			if (!failed) {
				for (const waiting of batch) waiting.reject(error as Error);
				return;
			}
			let lost = 0;
			batch.forEach((waiting, i) => {
				const position = owners[i]?.find((at) => failed.has(at));
				if (position === undefined) return;
				lost++;
				const operation = operations[position] as Operation;
				const what = failed.get(position) ?? "conflict";
				waiting.reject(
					DENIED.test(what)
						? this.#denied(what)
						: new Conflict(operation, what),
				);
			});
			const rest = batch.filter(
				(_, i) => !owners[i]?.some((at) => failed.has(at)),
			);
			if (lost === 0) {
				for (const waiting of rest) waiting.reject(error as Error);
				return;
			}
			this.#waiting.unshift(...rest);
			this.#unsent += sizeOf(rest);
		}
	}
}

/** What Consul answered instead of 200, in the shape of the errors of `consul`. */
class Refusal extends Error {
	readonly response: { statusCode: number; body: string };

	constructor(statusCode: number, body: string) {
		super(`Consul says ${statusCode}: ${body.trim().slice(0, 200)}`);
		this.response = { statusCode, body };
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

function sizeOf(commits: Waiting[]): number {
	return commits.reduce((sum, { operations }) => sum + operations.length, 0);
}

function checkId(operation: Operation): string {
	return operation.verb === "check"
		? `${operation.key} ${operation.index}`
		: "";
}

function parse<T>(value: string | null): T {
	return JSON.parse(value ?? "null") as T;
}

function encode(value: unknown): string {
	return Buffer.from(JSON.stringify(value)).toString("base64");
}

function toConsul(operation: Operation): unknown {
	switch (operation.verb) {
		case "catalog":
			return operation.operation;
		case "create":
			return kv("cas", operation.key, {
				Value: encode(operation.value),
				Index: 0,
			});
		case "update":
			return kv("cas", operation.key, {
				Value: encode(operation.value),
				Index: operation.index,
			});
		case "set":
			return kv("set", operation.key, { Value: encode(operation.value) });
		case "check":
			return kv("check-index", operation.key, { Index: operation.index });
		case "absent":
			return kv("check-not-exists", operation.key, {});
		case "lock":
			return kv("lock", operation.key, {
				Value: encode(operation.value),
				Session: operation.session,
			});
		case "held":
			return kv("check-session", operation.key, {
				Session: operation.session,
			});
		case "delete":
			return operation.index === undefined
				? kv("delete", operation.key, {})
				: kv("delete-cas", operation.key, { Index: operation.index });
	}
}

function kv(verb: string, key: string, rest: Record<string, unknown>): unknown {
	return { KV: { Verb: verb, Key: key, ...rest } };
}

/** HTTP status that Consul answered an error with; undefined when it did not answer. */
function statusOf(error: unknown): number | undefined {
	return (error as { response?: { statusCode?: number } }).response?.statusCode;
}

/** What Consul said with an error. */
function bodyOf(error: unknown): string {
	const { body } = (error as { response: { body?: unknown } }).response;
	return String(body ?? "");
}

function isNotFound(error: unknown): boolean {
	return statusOf(error) === 404;
}

/** Which operations of a rolled-back transaction failed, and why; undefined if it failed otherwise. */
function failures(error: unknown): Map<number, string> | undefined {
	if (statusOf(error) !== 409) return undefined;
	const answer = JSON.parse(bodyOf(error)) as {
		Errors?: { OpIndex: number; What: string }[];
	};
	return new Map(answer.Errors?.map((each) => [each.OpIndex, each.What]));
}
