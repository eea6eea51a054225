import type {
	ContainerSummary,
	EngineEvent,
	NetworkCreate,
	NetworkInspect,
} from "../pipeline/docker.ts";
import { Engine, type EngineInfo } from "../pipeline/engine.ts";
import { Conflict, type Operation } from "../pipeline/state/operations.ts";
import { type Entry, Store } from "../pipeline/state/store.ts";

/** A store in memory, for `arpanet try`: what is committed is there, all of it or nothing. Nobody holds a lock in it. */
export class MemoryStore extends Store {
	#entries = new Map<string, { text: string; index: number }>();
	#index = 0;

	constructor() {
		super({ address: "http://127.0.0.1:8500" }); // where nobody asks
	}

	override async get<T>(key: string): Promise<Entry<T> | undefined> {
		return (await this.list<T>(key)).find((entry) => entry.key === key);
	}

	override async list<T>(prefix: string): Promise<Entry<T>[]> {
		return [...this.#entries]
			.filter(([key]) => key.startsWith(prefix))
			.sort(([a], [b]) => (a < b ? -1 : 1))
			.map(([key, { text, index }]) => ({
				key,
				value: JSON.parse(text) as T,
				index,
			}));
	}

	override async keys(prefix: string): Promise<string[]> {
		return (await this.list(prefix)).map(({ key }) => key);
	}

	override watch(): () => void {
		return () => {};
	}

	override async nodeServices(): Promise<[]> {
		return [];
	}

	override async commit(operations: Operation[]): Promise<void> {
		const entries = new Map(this.#entries);
		const index = this.#index + 1;
		for (const operation of operations) {
			if (operation.verb === "catalog") continue; // no catalog is read here
			const { verb, key } = operation;
			const known = entries.get(key)?.index ?? 0;
			const isNew = verb === "create" || verb === "absent";
			const expected = isNew ? 0 : expectedIndex(operation);
			if (expected !== undefined && known !== expected) {
				throw new Conflict(operation, `${key} was written by another`);
			}
			if (verb === "delete") entries.delete(key);
			if ("value" in operation) {
				entries.set(key, { text: JSON.stringify(operation.value), index });
			}
		}
		this.#entries = entries;
		this.#index = index;
	}

	/** The catalog is empty, so every question about it has an empty answer. */
	override async ask<T>(): Promise<T> {
		return [] as T;
	}
}

/** Index at which a key must have been written last; undefined where it does not matter. */
function expectedIndex(operation: Operation): number | undefined {
	return "index" in operation ? operation.index : undefined;
}

/** An engine without containers, for `arpanet try`: it has the networks that were made in it. */
export class MemoryEngine extends Engine {
	readonly #networks = new Map<string, NetworkInspect>();

	constructor() {
		super("unix:///nowhere"); // where nobody asks
	}

	override async inspectContainer(): Promise<undefined> {
		return undefined;
	}

	override async listContainers(): Promise<ContainerSummary[]> {
		return [];
	}

	override async inspectNetwork(
		ref: string,
	): Promise<NetworkInspect | undefined> {
		return this.#networks.get(ref);
	}

	override async listNetworks(label: string): Promise<NetworkInspect[]> {
		const [name = "", value] = label.split("=");
		return [...this.#networks.values()].filter(({ Labels }) => {
			const found = Labels?.[name];
			return value === undefined ? found !== undefined : found === value;
		});
	}

	override async createNetwork(body: NetworkCreate): Promise<{ Id: string }> {
		const Id = crypto.randomUUID();
		this.#networks.set(body.Name, { ...body, Id });
		return { Id };
	}

	override async removeNetwork(ref: string): Promise<void> {
		this.#networks.delete(ref);
	}

	override async info(): Promise<EngineInfo> {
		throw new Error("an engine in memory has nothing to say of itself");
	}

	override async *events(): AsyncGenerator<EngineEvent> {}
}
