import { inspect } from "node:util";
import { HttpError } from "../errors.ts";
import { HttpClient, type Origin } from "../http-client.ts";
import { Conflict, type Operation } from "./operations.ts";
import { failedOperations, isDenial, Refusal, statusOf } from "./refusal.ts";
import type { KvItem } from "./watch.ts";

/** Consul takes at most so many operations in one transaction. */
const MAX_OPERATIONS = 64;
/** Bytes that share a transaction: Consul takes half a megabyte unless its `limits.txn_max_req_len` says otherwise. */
const MAX_BYTES = 400_000;
/**
 * Transactions in flight at once: enough to hide a commit's fsync. The second goes only if it has as much to write as the
 * first: a small one beside a large one costs Consul's disks as much again, and a little later it would be part of the next.
 */
const MAX_IN_FLIGHT = 2;
/** Status that Consul answers a transaction with that has more bytes than it takes. */
const TOO_LARGE = 413;

/** A commit, until it is written. */
interface Waiting {
	operations: Operation[];
	/** Each operation as Consul takes it. */
	encoded: string[];
	resolve(): void;
	reject(error: Error): void;
}

/** Where commits go. */
interface TransactionTarget {
	origin: Origin;
	/** ACL token. */
	token: string | undefined;
	/** Milliseconds that Consul may take. */
	timeout: number;
	/** Runs one request to Consul, and says what went wrong as a client shall read it. */
	ask<T>(request: () => Promise<T>): Promise<T>;
	/** @param what Consul's own words */
	denied(what: string): HttpError;
}

/**
 * Transactions of Consul's: commits, and reads of several keys. Commits that wait together share one; one that lost is taken out, and the
 * others go on without it.
 */
export class Transactions {
	readonly #target: TransactionTarget;
	/** A create waits for its commit: this takes a quarter of a millisecond less than the client that the package consul is made with. */
	readonly #client: HttpClient;
	/** Apart, so that no commit waits for them. */
	readonly #reads: HttpClient;
	readonly #waiting: Waiting[] = [];
	#inFlight = 0;
	/** Operations of those in flight. */
	#sent = 0;
	#scheduled = false;

	constructor(target: TransactionTarget) {
		this.#target = target;
		this.#client = new HttpClient(target.origin, MAX_IN_FLIGHT);
		this.#reads = new HttpClient(target.origin, MAX_IN_FLIGHT);
	}

	/**
	 * Writes all operations, or none of them.
	 * @throws Conflict when an operation lost against another writer, HttpError 400 when they are more than Consul takes,
	 * TypeError for what is no operation
	 */
	async commit(operations: Operation[]): Promise<void> {
		if (operations.length > MAX_OPERATIONS) {
			throw new HttpError(
				400,
				`${operations.length} operations, and Consul takes ${MAX_OPERATIONS} at once; ask for fewer networks, aliases or ports`,
			);
		}
		const encoded = operations.map((each) => JSON.stringify(toConsul(each)));
		return new Promise((resolve, reject) => {
			this.#waiting.push({ operations, encoded, resolve, reject });
			this.#schedule();
		});
	}

	/**
	 * What stands under some keys, as far as there is something: 64 of them are one request.
	 * @param consistent as all servers have it, not as the nearest believes
	 */
	async read(keys: Iterable<string>, consistent: boolean): Promise<KvItem[]> {
		const left = [...new Set(keys)];
		const found: KvItem[] = [];
		while (left.length > 0) {
			const next = left.splice(0, MAX_OPERATIONS);
			found.push(...(await this.#read(next, consistent)));
		}
		return found;
	}

	/** @param keys of which Consul refuses all if one is not there */
	async #read(keys: string[], consistent: boolean): Promise<KvItem[]> {
		if (keys.length === 0) return [];
		const encoded = keys.map((key) => JSON.stringify(kv("get", key, {})));
		const query = consistent ? "?consistent" : "";
		try {
			const text = await this.#target.ask(() =>
				this.#transact(this.#reads, encoded, query),
			);
			const { Results } = JSON.parse(text) as { Results: { KV: KvItem }[] };
			return Results.map(({ KV }) => ({
				...KV,
				Value: Buffer.from(KV.Value ?? "", "base64").toString(),
			}));
		} catch (error) {
			const failed = failedOperations(error);
			if (!failed?.size) throw error;
			for (const what of failed.values()) {
				if (isDenial(what)) throw this.#target.denied(what);
			}
			const there = keys.filter((_, i) => !failed.has(i));
			return this.#read(there, consistent);
		}
	}

	/** Closes the connections that are kept. */
	close(): void {
		this.#client.close();
		this.#reads.close();
	}

	#schedule(): void {
		if (this.#scheduled || this.#inFlight >= MAX_IN_FLIGHT) return;
		this.#scheduled = true;
		setImmediate(() => {
			this.#scheduled = false;
			if (sizeOf(this.#waiting) < this.#sent) return;
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
		let bytes = 0;
		while (this.#waiting.length > 0) {
			const next = this.#waiting[0] as Waiting;
			const added = next.operations.filter(
				(operation) => !checks.has(checkId(operation)),
			);
			const more = bytesOf(next);
			const isFull =
				size + added.length > MAX_OPERATIONS || bytes + more > MAX_BYTES;
			if (batch.length > 0 && isFull) break;
			size += added.length;
			bytes += more;
			for (const operation of added) {
				if (operation.verb === "check") checks.add(checkId(operation));
			}
			batch.push(next);
			this.#waiting.shift();
		}
		return batch;
	}

	/** @returns Consul's answer @throws Refusal */
	async #transact(
		client: HttpClient,
		encoded: string[],
		query = "",
	): Promise<string> {
		const { token, timeout } = this.#target;
		const body = `[${encoded.join()}]`;
		const { status, text } = await client.ask({
			method: "PUT",
			path: `/v1/txn${query}`,
			body,
			timeout,
			headers: {
				"content-length": String(Buffer.byteLength(body)),
				...(token ? { "x-consul-token": token } : {}),
			},
		});
		if (status !== 200) throw new Refusal(status, text);
		return text;
	}

	async #send(batch: Waiting[]): Promise<void> {
		const operations: Operation[] = [];
		const encoded: string[] = [];
		const positions = new Map<string, number>();
		const owners = batch.map((waiting) =>
			waiting.operations.map((operation, i) => {
				const id = checkId(operation);
				const known = id ? positions.get(id) : undefined;
				if (known !== undefined) return known;
				operations.push(operation);
				encoded.push(waiting.encoded[i] as string);
				if (id) positions.set(id, operations.length - 1);
				return operations.length - 1;
			}),
		);
		try {
			await this.#target.ask(() => this.#transact(this.#client, encoded));
			for (const waiting of batch) waiting.resolve();
		} catch (error) {
			if (statusOf(error) === TOO_LARGE) return this.#apart(batch);
			const failed = failedOperations(error);
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
					isDenial(what)
						? this.#target.denied(what)
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
			// at once and by itself: who has lost and tries again would join it, and make it fail for ever
			if (rest.length > 0) await this.#send(rest);
		}
	}

	/** One by one, so that none fails for the size of another. */
	async #apart(batch: Waiting[]): Promise<void> {
		if (batch.length > 1) {
			for (const each of batch) await this.#send([each]);
			return;
		}
		const [only] = batch as [Waiting];
		only.reject(
			new HttpError(
				413,
				`consul: takes no transaction of ${bytesOf(only)} bytes; make the container's environment and labels shorter, or raise limits.txn_max_req_len and limits.kv_max_value_size of every Consul server`,
			),
		);
	}
}

function bytesOf({ encoded }: Waiting): number {
	return encoded.reduce((sum, { length }) => sum + length, 0);
}

function sizeOf(commits: Waiting[]): number {
	return commits.reduce((sum, { operations }) => sum + operations.length, 0);
}

function checkId(operation: Operation): string {
	return operation.verb === "check"
		? `${operation.key} ${operation.index}`
		: "";
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
		default: // a plugin's
			throw new TypeError(`there is no operation ${inspect(operation)}`);
	}
}

function kv(verb: string, key: string, rest: Record<string, unknown>): unknown {
	// Consul would refuse all that is sent with it
	if (!key) throw new TypeError(`${verb} of the key ${inspect(key)}`);
	return { KV: { Verb: verb, Key: key, ...rest } };
}
