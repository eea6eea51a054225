import { Netmask } from "netmask";
import { GATEWAYS, type Lease, leaseKey } from "./leases.ts";
import type { NetworkIds } from "./network-ids.ts";
import type { NetworkRecord } from "./networks.ts";
import {
	Conflict,
	ignoreConflict,
	type Operation,
	replacing,
	unchanged,
} from "./operations.ts";
import type { Entry, Store } from "./store.ts";

/** The hosts' bridges in the networks of deployments: each has an address there, on record and leased. */
export class Bridges {
	readonly #store: Store;
	readonly #ids: NetworkIds;

	constructor(store: Store, ids: NetworkIds) {
		this.#store = store;
		this.#ids = ids;
	}

	/** The hosts that have a bridge in a network. */
	async hosts(scope: string): Promise<string[]> {
		const keys = await this.#store.keys(`${GATEWAYS}${scope}/`);
		return keys.map((key) => key.slice(key.lastIndexOf("/") + 1));
	}

	/** The address of a host's bridge in a network; undefined where it has none. */
	async address(scope: string, host: string): Promise<string | undefined> {
		return (await this.#on(scope, host))?.value;
	}

	/**
	 * The address that a host's bridge has in a network, leasing one if it has none.
	 * @param pick gives a free address to try
	 * @throws Conflict if the network has changed or gone
	 */
	async ensure(
		entry: Entry<NetworkRecord>,
		host: string,
		pick: () => Promise<string>,
	): Promise<string> {
		for (;;) {
			const known = await this.address(entry.value.scope, host);
			if (known) return known;
			const address = await pick();
			try {
				await this.#store.commit([
					unchanged(entry),
					{
						verb: "create",
						key: keyOf(entry.value.scope, host),
						value: address,
					},
					lease(entry.value, host, address),
				]);
				return address;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				if (error.operation.verb === "check") throw error;
			}
		}
	}

	/**
	 * What the commit that makes a network says of the bridge on its home. One that is on record keeps its address if
	 * that is of the network's subnet.
	 * @param asked the address that the user asked for, if he did; the first of the subnet without
	 */
	async first(network: NetworkRecord, asked?: string): Promise<Operation[]> {
		const { scope, host } = network;
		const subnet = new Netmask(network.subnet);
		const known = await this.#on(scope, host);
		const kept =
			known && subnet.contains(known.value) ? known.value : undefined;
		const address = asked ?? kept ?? subnet.first;
		const leased = await this.#lease(scope, address);
		// the host gets one when it makes its bridge, or its agent puts down what its bridge has
		if (leased && !isOf(host, leased)) return [];
		return [
			replacing(keyOf(scope, host), known, address),
			...(leased ? [] : [lease(network, host, address)]),
		];
	}

	/**
	 * Puts down the address that a host's bridge has, if another one is on record, or no lease of it.
	 * @returns false if it is leased to another
	 */
	async correct(
		entry: Entry<NetworkRecord>,
		host: string,
		address: string,
	): Promise<boolean> {
		const { scope } = entry.value;
		const [known, leased] = await Promise.all([
			this.#on(scope, host),
			this.#lease(scope, address),
		]);
		if (leased && !isOf(host, leased)) return false;
		if (leased && known?.value === address) return true;
		const commit = this.#store.commit([
			unchanged(entry),
			replacing(keyOf(scope, host), known, address),
			...(leased ? [] : [lease(entry.value, host, address)]),
			...(known && known.value !== address
				? [{ verb: "delete", key: leaseKey(scope, known.value) } as const]
				: []),
		]);
		await ignoreConflict(commit); // it has changed: the next look will tell
		return true;
	}

	/** A host's bridge in a network is gone: gives back its address, and forgets its id. */
	async leave(scope: string, host: string): Promise<void> {
		const known = await this.#on(scope, host);
		if (!known) return;
		await this.#store.commit([
			{ verb: "delete", key: known.key, index: known.index },
			{ verb: "delete", key: leaseKey(scope, known.value) },
			this.#ids.forget(scope, host),
		]);
	}

	#on(scope: string, host: string): Promise<Entry<string> | undefined> {
		return this.#store.get<string>(keyOf(scope, host));
	}

	async #lease(scope: string, address: string): Promise<Lease | undefined> {
		return (await this.#store.get<Lease>(leaseKey(scope, address)))?.value;
	}
}

function keyOf(scope: string, host: string): string {
	return `${GATEWAYS}${scope}/${host}`;
}

function lease(
	{ scope, deployment }: NetworkRecord,
	host: string,
	address: string,
): Operation {
	const value: Lease = { host, deployment };
	return { verb: "create", key: leaseKey(scope, address), value };
}

/** Whether an address is leased to a host's bridge. */
function isOf(host: string, { host: holder, container }: Lease): boolean {
	return holder === host && !container;
}
