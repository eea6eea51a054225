import type { Chain } from "../chain.ts";
import type {
	ContainerInspect,
	EndpointSettings,
	NetworkConnect,
} from "../docker.ts";
import { HttpError } from "../errors.ts";
import { isOurs, readLabels } from "../facts.ts";
import type { Facts, Services } from "../plugin.ts";
import { ALIASES, type Alias } from "../state/aliases.ts";
import { type Body, isBody } from "../state/bodies.ts";
import { type ContainerRecord, takenOver } from "../state/containers.ts";
import {
	isLease,
	type Lease,
	leasedAddress,
	leasedScope,
	leaseKey,
} from "../state/leases.ts";
import type { NetworkRecord } from "../state/networks.ts";
import { Conflict, type Operation } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";
import { forgetIds } from "./endpoints.ts";
import { contextOf } from "./holder.ts";
import { Holds, replacedBy } from "./holds.ts";

/** Tries before a connect gives up against others that want the same. */
const MAX_TRIES = 50;

/** A container that is connected: what it has, and how it comes to have more. */
interface Holder {
	/** Name that it is on record under; its own if it is on none. */
	recordName: string;
	/** Keys in Consul. */
	held: readonly string[];
	/**
	 * The operations that write down what it comes to hold.
	 * @param operations the plugins'
	 * @param settings as the client sent them
	 */
	take(
		operations: readonly Operation[],
		holds: Holds,
		settings: EndpointSettings,
	): Promise<Operation[]>;
	/** The record of the container that has what this one could not have, if this one takes its place. */
	replacedBy(
		conflicts: readonly Operation[],
	): Promise<Entry<ContainerRecord> | undefined>;
}

/** What happens when containers are connected to further networks, told to the plugins and written to Consul. */
export class Connections {
	readonly #chain: Chain;
	readonly #services: Services;

	constructor(chain: Chain, services: Services) {
		this.#chain = chain;
		this.#services = services;
	}

	/**
	 * Runs the chain before a container is connected to a network. One that did not go through the chain itself has an address leased, too:
	 * its host's Docker would take one that another host's container has.
	 * @param ref name, id or start of the id of the network
	 * @returns the body to connect with; undefined if there is no such container, or the network is none of ours
	 * @throws HttpError
	 */
	async connect(
		ref: string,
		body: NetworkConnect,
	): Promise<NetworkConnect | undefined> {
		const { locator, networks, store } = this.#services;
		const endpoint = body.EndpointConfig;
		const isChanged = await forgetIds({ [ref]: endpoint }, this.#services);
		const known = await networks.find(ref);
		const found = known && (await locator.surelyFind(body.Container));
		if (!found) return isChanged ? body : undefined;
		const { container, host } = found;
		const facts = isOurs(container)
			? readLabels(container.Config.Labels)
			: { host };
		const conflicts: Operation[] = [];
		let replaced: Entry<ContainerRecord> | undefined;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const there = await networks.get(known.value.scope);
			const network = there && (await networks.joinable(there));
			if (!network) return isChanged ? body : undefined; // went meanwhile
			const holder = isOurs(container)
				? await this.#onRecord(container, facts, network.value)
				: await this.#foreign(container, network.value);
			const operations: Operation[] = [];
			const holds = new Holds(operations, holder.held, replaced);
			const changed = structuredClone(body);
			try {
				await this.#chain.acquire("connect", {
					container,
					facts,
					network,
					body: changed,
					recordName: holder.recordName,
					holds: holder.held,
					replaced: replaced?.value,
					conflicts,
					commit: (operation) => operations.push(operation),
					hold: (key, value) => holds.add(key, value),
				});
				if (operations.length > 0) {
					const settings = { ...body.EndpointConfig };
					await store.commit(await holder.take(operations, holds, settings));
				}
				return changed;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				conflicts.push(error.operation);
				replaced = await holder.replacedBy(conflicts);
			}
		}
		throw new HttpError(503, `network ${ref}: too many at once; try again`);
	}

	/** @throws HttpError 503 while it is not on record */
	async #onRecord(
		{ Name }: ContainerInspect,
		facts: Facts,
		network: NetworkRecord,
	): Promise<Holder> {
		const { containers } = this.#services;
		const name = Name.slice(1);
		const entry = await containers.find(name, facts);
		if (!entry) {
			throw new HttpError(
				503,
				`container ${name} is not on record, so it can be given no address in network ${network.name}; its host's agent puts it back within seconds: try again`,
			);
		}
		const { key, value, index } = entry;
		return {
			recordName: containers.name(key),
			held: value.holds,
			take: async (operations, holds, settings) => [
				{ verb: "update", key, value: withMore(value, holds), index },
				...operations,
				...holds.handOver(),
				...(await this.#noted(entry, network.name, settings)),
			],
			replacedBy: (conflicts) =>
				replacedBy({ container: name, ...facts }, conflicts, this.#services),
		};
	}

	/** A container that is none of arpanet's. The leader gives its lease back when it does not have the address any more. */
	async #foreign(
		{ Id, Name }: ContainerInspect,
		{ scope }: NetworkRecord,
	): Promise<Holder> {
		const all = await this.#services.store.list<Lease>(leaseKey(scope, ""));
		const leases = all.filter(({ value }) => value.foreign === Id);
		return {
			recordName: Name.slice(1),
			held: leases.map(({ key }) => key),
			take: async (operations) => asForeign(operations, leases, Id),
			replacedBy: async () => undefined,
		};
	}

	/**
	 * A container is in a network no longer, or Docker refused to connect it: gives back what it does not have there, leases and names. What
	 * it was made with stays its own.
	 */
	async ended(ref: string, container: string): Promise<void> {
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			try {
				await this.#giveBack(ref, container);
				return;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error; // the record has changed for another reason
			}
		}
	}

	async #giveBack(ref: string, container: string): Promise<void> {
		const { containers, networks, store } = this.#services;
		const network = (await networks.find(ref))?.value;
		const context = network && (await contextOf(container, this.#services));
		if (!context) return;
		const { facts } = context;
		const { Name, NetworkSettings } = context.container;
		const endpoint = NetworkSettings.Networks[network.name];
		const own = endpoint?.IPAMConfig?.IPv4Address;
		if (endpoint && !own) return; // nobody knows which is its own
		const entry = await containers.find(Name.slice(1), facts);
		if (!entry) return;
		const left = entry.value.holds
			.filter((key) => isLease(key) && leasedScope(key) === network.scope)
			.map((key) => leasedAddress(key))
			.filter((address) => address !== own);
		const gone: string[] = [];
		for (const address of left) {
			const there = entry.value.holds.filter((key) =>
				key.endsWith(`/${address}`),
			);
			const isFirst =
				facts.network === network.scope && facts.address === address;
			gone.push(...(isFirst ? await this.#namesAt(address, there) : there));
		}
		if (gone.length === 0) return;
		const holds = entry.value.holds.filter((key) => !gone.includes(key));
		const noted = endpoint
			? []
			: await this.#noted(entry, network.name, undefined);
		await store.commit([
			{
				verb: "update",
				key: entry.key,
				value: { ...entry.value, holds },
				index: entry.index,
			},
			...gone.map((key): Operation => ({ verb: "delete", key })),
			...noted,
		]);
	}

	/** Those among a container's keys that are its own names at an address: not its links, whose keys end in the address that it was made with. */
	async #namesAt(address: string, keys: string[]): Promise<string[]> {
		const aliases = await this.#services.store.some<Alias>(
			keys.filter((key) => key.startsWith(ALIASES)),
		);
		return aliases
			.filter(({ value }) => value.address === address)
			.map(({ key }) => key);
	}

	/**
	 * The operation that keeps what a container would be made from elsewhere as it is now; none for one that stays where
	 * it is.
	 * @param settings as the client sent them; undefined: it is in the network no longer
	 */
	async #noted(
		{ value: { holds } }: Entry<ContainerRecord>,
		network: string,
		settings: EndpointSettings | undefined,
	): Promise<Operation[]> {
		const key = holds.find(isBody);
		const before = key && (await this.#services.store.get<Body>(key));
		if (!before) return [];
		const { [network]: _, ...others } = before.value.connected;
		const connected = settings ? { ...others, [network]: settings } : others;
		const value: Body = { ...before.value, connected };
		return [{ verb: "update", key: before.key, value, index: before.index }];
	}
}

/** The record of a container that has come to hold more. */
function withMore(record: ContainerRecord, holds: Holds): ContainerRecord {
	const tookOver = takenOver(record.tookOver, holds.tookOver);
	return {
		...record,
		holds: [...new Set([...record.holds, ...holds.keys])],
		...(tookOver ? { tookOver } : {}),
	};
}

/**
 * The operations of a connect for a container that is none of arpanet's: its lease says so, and is written anew each time, so that a leader
 * who saw it without its container before gives it back no more.
 */
function asForeign(
	operations: readonly Operation[],
	known: readonly Entry<Lease>[],
	foreign: string,
): Operation[] {
	return operations.map((operation) => {
		if (!("value" in operation) || !isLease(operation.key)) return operation;
		const { key } = operation;
		const before = known.find((each) => each.key === key);
		const at = new Date().toISOString();
		const value = { ...(operation.value as Lease), foreign, at };
		return before
			? { verb: "update", key, value, index: before.index }
			: { verb: "create", key, value };
	});
}
