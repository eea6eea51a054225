import { askEach, whoHas } from "../../pipeline/answers.ts";
import type { Chain } from "../../pipeline/chain.ts";
import type { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import { holderOf } from "../../pipeline/lifecycle/holder.ts";
import { inParallel } from "../../pipeline/parallel.ts";
import type { Services } from "../../pipeline/plugin.ts";
import {
	ALIASES,
	deploymentIn,
	isMark,
	mark,
	markOf,
} from "../../pipeline/state/aliases.ts";
import { BODIES } from "../../pipeline/state/bodies.ts";
import {
	type ContainerRecord,
	EXCLUSIVE,
	PORTS,
	REASONS,
} from "../../pipeline/state/containers.ts";
import { EXPOSED } from "../../pipeline/state/exposed.ts";
import { GUESTS } from "../../pipeline/state/guests.ts";
import {
	isLease,
	LEASES,
	type Lease,
	leasedAddress,
	leasedScope,
} from "../../pipeline/state/leases.ts";
import {
	ignoreConflict,
	type Operation,
} from "../../pipeline/state/operations.ts";
import type { Repair, Repairs } from "../../pipeline/state/repairs.ts";
import { Ripening } from "../../pipeline/state/ripening.ts";
import { COPIES, isSlot, SLOTS } from "../../pipeline/state/slots.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import { couldTell } from "./could-tell.ts";

/**
 * Where containers hold keys: what stands here and is in no record's `holds` belongs to nobody, but for addresses of containers that are
 * none of arpanet's.
 */
const HELD = {
	lease: LEASES,
	alias: ALIASES,
	slot: SLOTS,
	copy: COPIES,
	reason: REASONS,
	body: BODIES,
	port: PORTS,
	"host to itself": EXCLUSIVE,
	exposure: EXPOSED,
	guest: GUESTS,
};
/**
 * Of these the keys alone are read, and the values of orphans: there is one for each container, and a reason names every host. With 200 hosts
 * and 10,000 containers they are 40 MB, which would keep the leader's process from all else while it reads them.
 */
const BY_KEY: readonly string[] = [SLOTS, COPIES, REASONS, BODIES];
/** Orphans that are read at once. */
const AT_ONCE = 8;
/** Repairs in one look: a mistake of ours, or of someone's script, must not take everything at once. */
const MAX_EACH_LOOK = 60;

type Found = Entry<Partial<Lease>>;

/**
 * Gives back what a container held that is on no record: its record was deleted behind our back, or written by
 * halves. A container that lives is put back on record by its own host first. And gives back what is on record of a host in none of its
 * slots: by them its agent knows what it should have.
 */
export class Orphans {
	readonly #services: Services;
	readonly #chain: Chain;
	readonly #repairs: Repairs;
	readonly #containers: ContainerLifecycle;
	readonly #ripening = new Ripening<Partial<Lease>>();
	readonly #unslotted = new Ripening<ContainerRecord>();

	/** @param services with a fenced store, as `containers` has it */
	constructor(
		services: Services,
		chain: Chain,
		containers: ContainerLifecycle,
		repairs: Repairs,
	) {
		this.#services = services;
		this.#chain = chain;
		this.#containers = containers;
		this.#repairs = repairs;
	}

	async look(): Promise<void> {
		const { store, containers, cluster } = this.#services;
		const held: Found[] = [];
		const keys: string[] = [];
		for (const prefix of Object.values(HELD)) {
			if (BY_KEY.includes(prefix)) keys.push(...(await store.keys(prefix)));
			else held.push(...(await store.list<Lease>(prefix)));
		}
		const records = await containers.list(); // after: what was made meanwhile is on record
		const known = new Set(records.flatMap(({ value }) => value.holds));
		const unknown = keys.filter((key) => !known.has(key));
		await inParallel(unknown, AT_ONCE, async (key) => {
			held.push(...(await this.#read(key)));
		});
		const hosts = await cluster.hosts.list();
		const aliased = new Set(
			held
				.filter(({ key }) => key.startsWith(ALIASES) && !isMark(key))
				.map(({ key }) => deploymentIn(key)),
		);
		const orphans = held.filter(
			(entry) =>
				!known.has(entry.key) &&
				!isGateway(entry) &&
				!(isMark(entry.key) && aliased.has(deploymentIn(entry.key))) &&
				couldTell(hosts, entry.value?.host),
		);
		await this.#mark([...aliased], held);
		let repairs = 0;
		for (const orphan of this.#ripening.ripe(orphans)) {
			if (isMark(orphan.key)) {
				await this.#unmark(orphan);
				continue;
			}
			if (await this.#isHeld(orphan)) continue;
			if (++repairs > MAX_EACH_LOOK) return;
			await this.#giveBack(orphan);
		}
		const slots = new Set(keys);
		const unslotted = records.filter(({ value: { facts, holds } }) => {
			const isSeen = holds.some((key) => isSlot(key) && slots.has(key));
			return facts.host && !isSeen && couldTell(hosts, facts.host);
		});
		for (const entry of await this.#gone(this.#unslotted.ripe(unslotted))) {
			if (++repairs > MAX_EACH_LOOK) return;
			await this.#giveBackRecord(entry);
		}
	}

	/**
	 * Those of whose names their hosts have no container. Where there is no placement, all containers are without slots: so
	 * each host is asked once for all that it has.
	 */
	async #gone(
		entries: Entry<ContainerRecord>[],
	): Promise<Entry<ContainerRecord>[]> {
		const { cluster, containers } = this.#services;
		const hosts = entries.map(({ value }) => value.facts.host ?? cluster.self);
		const told = await askEach([...new Set(hosts)], (host) =>
			cluster.ask(host, (engine) => engine.listContainers("arpanet.host")),
		);
		const living = new Map(
			whoHas(told).map(({ host, answer }) => [
				host,
				new Set(answer.flatMap(({ Names }) => Names)),
			]),
		);
		return entries.filter(({ key }, i) => {
			const names = living.get(hosts[i] ?? "");
			return names && !names.has(`/${containers.name(key)}`);
		});
	}

	/** Unless its container exists: then its host's agent is about to write down again what it lacks. */
	async #giveBackRecord(entry: Entry<ContainerRecord>): Promise<void> {
		const { containers, log } = this.#services;
		const holder = holderOf(entry, this.#services);
		if (await holder.catch(() => true)) return; // or may do so
		const why = "it has no slot on its host, and there is no such container";
		const repair = { what: "container given back", to: entry.key, why };
		const container = containers.name(entry.key);
		const note = this.#repairs.note({ ...repair, container });
		await this.#containers.giveBack(entry, undefined, [note]);
		log.warn({ container, why }, "given back");
	}

	/** What stands under a key: nothing if it is gone meanwhile, or is no JSON. */
	async #read(key: string): Promise<Found[]> {
		const found = await this.#services.store.list<Partial<Lease>>(key);
		return found.filter((each) => each.key === key);
	}

	/** Somebody deleted the mark that a deployment has aliases. */
	async #mark(aliased: string[], held: Found[]): Promise<void> {
		const marks = new Set(held.map(({ key }) => key).filter(isMark));
		for (const deployment of aliased) {
			if (marks.has(markOf(deployment))) continue;
			await this.#services.store.commit([mark(deployment)]);
		}
	}

	/** Of a deployment whose last alias went and no network of its own with it: nothing was amiss. */
	async #unmark({ key, index }: Found): Promise<void> {
		const deletion: Operation = { verb: "delete", key, index };
		await ignoreConflict(this.#services.store.commit([deletion]));
	}

	async #giveBack({ key, value, index }: Found): Promise<void> {
		if (key.startsWith(HELD.alias)) {
			const deployment = deploymentIn(key);
			const context = { id: undefined, facts: { deployment }, holds: [key] };
			await this.#chain.release("removed", context); // from the copies that answer to it, too
		}
		const why = "no container is on record with it";
		const [kind] =
			Object.entries(HELD).find(([, prefix]) => key.startsWith(prefix)) ?? [];
		const repair: Omit<Repair, "at" | "by"> = {
			what: `${kind} given back`,
			to: key,
			why,
			...(value?.container ? { container: value.container } : {}),
		};
		const deletion: Operation = { verb: "delete", key, index };
		const { store, log } = this.#services;
		const writing = store.commit([deletion, this.#repairs.note(repair)]);
		if (await ignoreConflict(writing)) log.warn({ key, why }, "given back");
	}

	/** Whether a container has a leased address after all; so too if its engine cannot be asked. */
	async #isHeld({ key, value }: Found): Promise<boolean> {
		if (!isLease(key)) return false;
		const { cluster } = this.#services;
		const { host = cluster.self, foreign } = value ?? {};
		const address = leasedAddress(key);
		try {
			if (foreign) {
				const container = await cluster.ask(host, (engine) =>
					engine.inspectContainer(foreign),
				);
				const networks = container?.NetworkSettings.Networks ?? {};
				return Object.values(networks).some(
					({ IPAMConfig }) => IPAMConfig?.IPv4Address === address,
				);
			}
			const made = await cluster.ask(host, (engine) =>
				engine.listContainers(`arpanet.address=${address}`),
			);
			const scope = leasedScope(key);
			return made.some(({ Labels }) => Labels["arpanet.network"] === scope);
		} catch {
			return true;
		}
	}
}

/** A host's lease is its bridge's; see subnets.ts. */
function isGateway({ key, value }: Found): boolean {
	return isLease(key) && !value?.container;
}
