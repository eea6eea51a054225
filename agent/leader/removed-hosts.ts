import { messageOf } from "../../pipeline/errors.ts";
import type { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { deleteNode } from "../../pipeline/state/catalog.ts";
import { type HostRecord, hostKeys } from "../../pipeline/state/hosts.ts";
import { IMAGES, TAGGING } from "../../pipeline/state/images.ts";
import { Deposed } from "../../pipeline/state/leader.ts";
import { GATEWAYS, gatewayIn, LEASES } from "../../pipeline/state/leases.ts";
import { LEAVING } from "../../pipeline/state/leaving.ts";
import { supersededOn } from "../../pipeline/state/moves.ts";
import { NAMES } from "../../pipeline/state/names.ts";
import type { HostNetworkId } from "../../pipeline/state/network-ids.ts";
import { NETWORKS, type NetworkRecord } from "../../pipeline/state/networks.ts";
import {
	Conflict,
	commitOverflow,
	type Operation,
} from "../../pipeline/state/operations.ts";
import type { Repairs } from "../../pipeline/state/repairs.ts";
import { COUNTS } from "../../pipeline/state/slots.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import { VOLUMES } from "../../pipeline/state/volumes.ts";

/** Where keys name the host that they are about: its stops under way, the volumes, names and images that it has, addresses that no record holds. */
const OF_HOSTS = [LEAVING, VOLUMES, NAMES, IMAGES, TAGGING, LEASES];
/** Containers given back in one look. */
const MAX_EACH_LOOK = 60;

/**
 * Gives back all that a host had which an operator removed (`arpanet host rm`): its containers' leases and names, its
 * place in the catalog and in networks, its own record last. One that gives a sign of life takes
 * its record over again, and keeps what is left.
 */
export class RemovedHosts {
	readonly #services: Services;
	readonly #containers: ContainerLifecycle;
	readonly #repairs: Repairs;

	/** @param services with a fenced store, as `containers` has it */
	constructor(
		services: Services,
		containers: ContainerLifecycle,
		repairs: Repairs,
	) {
		this.#services = services;
		this.#containers = containers;
		this.#repairs = repairs;
	}

	async look(): Promise<void> {
		const { store, cluster } = this.#services;
		for (const { name, removed } of await cluster.hosts.list()) {
			if (!removed) continue;
			const entry = await store.get<HostRecord>(hostKeys(name).record);
			if (!entry?.value.removed) continue;
			if (await store.get(hostKeys(name).beat)) continue; // it lives
			if (await this.#giveBackContainers(name)) await this.#forget(entry);
		}
	}

	/** @returns whether all are given back */
	async #giveBackContainers(host: string): Promise<boolean> {
		const { containers, log } = this.#services;
		const records = await containers.list();
		const left = records.filter(({ value }) => value.facts.host === host);
		const why = `host ${host} was removed`;
		for (const entry of left.slice(0, MAX_EACH_LOOK)) {
			const container = containers.name(entry.key);
			const repair = { what: "container given back", to: entry.key, why };
			const note = this.#repairs.note({ ...repair, container });
			try {
				await this.#containers.giveBack(entry, undefined, [note]);
			} catch (error) {
				if (error instanceof Deposed) throw error;
				// its network, which goes with this host; anything else the next look finds again
				const err = messageOf(error);
				log.info({ container, err }, "not given back as a whole");
			}
		}
		return left.length === 0; // seen by a look of its own: what is given back may have changed meanwhile
	}

	async #forget({ key, value: { name }, index }: Entry<HostRecord>) {
		const { store, networks, log } = this.#services;
		const deletions: Operation[] = [];
		// by index: what is another's by then stays
		const giveBack = (entry: Entry<unknown>) =>
			deletions.push({ verb: "delete", key: entry.key, index: entry.index });
		for (const entry of await store.list(GATEWAYS)) {
			if (gatewayIn(entry.key).host === name) giveBack(entry);
		}
		for (const prefix of OF_HOSTS) {
			for (const entry of await store.list<{ host: string }>(prefix)) {
				if (entry.value.host === name) giveBack(entry);
			}
		}
		for (const entry of await supersededOn(store, name)) giveBack(entry);
		const homeless: string[] = [];
		for (const network of await store.list<NetworkRecord>(NETWORKS)) {
			const { scope, host } = network.value;
			const all = await networks.ids.list(scope);
			const own = all.find((each) => each.host === name);
			if (own) deletions.push({ verb: "delete", key: own.key });
			if (host !== name) continue;
			const next = all.find((each) => each.host !== name);
			if (next) deletions.push(...moveHome(network, next));
			else homeless.push(scope);
		}
		const repair = { what: "host forgotten", to: name, why: "it was removed" };
		try {
			for (const scope of homeless) {
				await networks.retire(scope, async () => {}); // no other host has it
			}
			const rest = await commitOverflow(store, deletions);
			await store.commit([
				{ verb: "absent", key: hostKeys(name).beat },
				{ verb: "delete", key, index },
				{ verb: "delete", key: hostKeys(name).alive },
				{ verb: "delete", key: COUNTS + name },
				deleteNode(name),
				...rest,
				this.#repairs.note(repair),
			]);
			log.warn({ host: name }, "host is forgotten");
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
		}
	}
}

/** A network is at home on another host from now on: its id there is the one that clients see. */
function moveHome(
	{ key, value, index }: Entry<NetworkRecord>,
	{ key: id, host, value: known }: HostNetworkId,
): Operation[] {
	return [
		{ verb: "update", key, value: { ...value, host }, index },
		{ verb: "set", key: id, value: { ...known, home: true } },
	];
}
