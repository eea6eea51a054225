import type { Facts } from "../plugin.ts";
import { isLease, type Lease, leaseKey } from "./leases.ts";
import type { Entry, Operation, Store } from "./store.ts";

const PREFIX = "arpanet/containers/";

/**
 * What Consul knows of one container, under `arpanet/containers/<name>`: its facts, and the keys
 * it holds, leases among them. A container for which no name was asked stands under `.<request id>`
 * until its host's agent learns the name that Docker gave it.
 */
export interface ContainerRecord {
	facts: Facts;
	/** Keys that are deleted with the container. */
	holds: string[];
	/** How many creates have gone by this record; a failed one gives back at once only what no other may be using. */
	attempts: number;
	/** It has the address of the container that it replaces, as whose removal its own must not be taken. */
	tookOver?: true;
}

/** The records of containers in Consul. */
export class Containers {
	readonly #store: Store;

	constructor(store: Store) {
		this.#store = store;
	}

	/** The Consul key of a container's record. */
	key(name: string): string {
		return PREFIX + name;
	}

	/** The name in a record's key. */
	name(key: string): string {
		return key.slice(PREFIX.length);
	}

	get(name: string): Promise<Entry<ContainerRecord> | undefined> {
		return this.#store.get(this.key(name));
	}

	list(): Promise<Entry<ContainerRecord>[]> {
		return this.#store.list(PREFIX);
	}

	/**
	 * The record of a container that exists: by its name, or, if it was renamed or made without
	 * a name, by the lease that its labels tell of.
	 */
	async find(
		name: string,
		facts: Facts,
	): Promise<Entry<ContainerRecord> | undefined> {
		const record = await this.get(name);
		if (record && sameLease(record.value.facts, facts)) return record;
		if (!facts.network || !facts.address) return undefined;
		const lease = await this.#store.get<Lease>(
			leaseKey(facts.network, facts.address),
		);
		if (!lease?.value.container) return undefined;
		const holder = await this.get(lease.value.container);
		return holder && sameLease(holder.value.facts, facts) ? holder : undefined;
	}

	/** Operations that give a record another name, with the leases that point to it. */
	async rename(
		entry: Entry<ContainerRecord>,
		name: string,
	): Promise<Operation[]> {
		const leases = await Promise.all(
			entry.value.holds
				.filter(isLease)
				.map((key) => this.#store.get<Lease>(key)),
		);
		return [
			{ verb: "delete", key: entry.key, index: entry.index },
			{ verb: "create", key: this.key(name), value: entry.value },
			...leases
				.filter((lease) => lease !== undefined)
				.map(
					(lease): Operation => ({
						verb: "update",
						key: lease.key,
						value: { ...lease.value, container: name },
						index: lease.index,
					}),
				),
		];
	}
}

/** Whether two sets of facts are of the same container: a lease is never held by two. */
function sameLease(a: Facts, b: Facts): boolean {
	return a.network === b.network && a.address === b.address;
}
