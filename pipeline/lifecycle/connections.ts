import type { Chain } from "../chain.ts";
import type { EndpointSettings, NetworkConnect } from "../docker.ts";
import { HttpError } from "../errors.ts";
import { isOurs, readLabels } from "../facts.ts";
import type { Services } from "../plugin.ts";
import { type Body, isBody } from "../state/bodies.ts";
import { type ContainerRecord, takenOver } from "../state/containers.ts";
import {
	isLease,
	type Lease,
	leasedAddress,
	leasedScope,
	leaseKey,
} from "../state/leases.ts";
import { Conflict, type Operation } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";
import type { ContainerLifecycle } from "./container.ts";
import { Holds, replacedBy } from "./holds.ts";

/** Tries before a connect gives up against others that want the same. */
const MAX_TRIES = 50;

/** What happens when containers are connected to further networks, told to the plugins and written to Consul. */
export class Connections {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #containers: ContainerLifecycle;

	constructor(
		chain: Chain,
		services: Services,
		containers: ContainerLifecycle,
	) {
		this.#chain = chain;
		this.#services = services;
		this.#containers = containers;
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
		const { cluster, containers, networks, store } = this.#services;
		const known = await networks.find(ref);
		const found = known && (await cluster.surelyFind(body.Container));
		if (!found) return undefined;
		const { container } = found;
		const isForeign = !isOurs(container);
		const facts = isForeign
			? { host: found.host }
			: readLabels(container.Config.Labels);
		const name = container.Name.slice(1);
		const conflicts: Operation[] = [];
		let replaced: Entry<ContainerRecord> | undefined;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const network = await networks.get(known.value.scope);
			if (!network) return undefined; // went meanwhile
			const entry = isForeign ? undefined : await containers.find(name, facts);
			if (!entry && !isForeign) {
				throw new HttpError(
					503,
					`container ${name} is not on record, so it can be given no address in network ${known.value.name}; its host's agent puts it back within seconds: try again`,
				);
			}
			const operations: Operation[] = [];
			const leases = isForeign
				? await this.#foreignLeases(container.Id, network.value.scope)
				: [];
			const held = entry?.value.holds ?? leases.map(({ key }) => key);
			const holds = new Holds(operations, held, replaced);
			const changed = structuredClone(body);
			try {
				await this.#chain.acquire("connect", {
					container,
					facts,
					network,
					body: changed,
					recordName: entry ? containers.name(entry.key) : name,
					holds: held,
					replaced: replaced?.value,
					conflicts,
					commit: (operation) => operations.push(operation),
					hold: (key, value) => holds.add(key, value),
				});
				if (!entry) {
					// the leader gives it back when the container does not have it any more
					await store.commit(asForeign(operations, leases, container.Id));
				} else if (operations.length > 0) {
					const value = withMore(entry.value, holds);
					await store.commit([
						{ verb: "update", key: entry.key, value, index: entry.index },
						...operations,
						...holds.handOver(),
						...(await this.#noted(entry, network.value.name, {
							...body.EndpointConfig,
						})),
					]);
				}
				return changed;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				conflicts.push(error.operation);
				replaced = entry && (await replacedBy(name, conflicts, this.#services));
			}
		}
		throw new HttpError(503, `network ${ref}: too many at once; try again`);
	}

	/** What is leased in a network to a container that is none of arpanet's. */
	async #foreignLeases(id: string, scope: string): Promise<Entry<Lease>[]> {
		const leases = await this.#services.store.list<Lease>(leaseKey(scope, ""));
		return leases.filter(({ value }) => value.foreign === id);
	}

	/**
	 * A container is in a network no longer, or Docker refused to connect it: gives back the lease and the names there. While it is in it
	 * after all nothing is given back, nor is the address that the container was made with.
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
		const context = network && (await this.#containers.context(container));
		if (!context) return;
		const { facts } = context;
		const { Name, NetworkSettings } = context.container;
		const inIt = network.name in NetworkSettings.Networks;
		if (inIt || facts.network === network.scope) return;
		const entry = await containers.find(Name.slice(1), facts);
		const lease = entry?.value.holds.find(
			(key) => isLease(key) && leasedScope(key) === network.scope,
		);
		if (!entry || !lease) return;
		const names = `/${leasedAddress(lease)}`; // an alias's key ends in the address
		const holds = entry.value.holds.filter((key) => !key.endsWith(names));
		const gone = entry.value.holds.filter((key) => key.endsWith(names));
		await store.commit([
			{
				verb: "update",
				key: entry.key,
				value: { ...entry.value, holds },
				index: entry.index,
			},
			...gone.map((key): Operation => ({ verb: "delete", key })),
			...(await this.#noted(entry, network.name, undefined)),
		]);
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
