import { HttpError } from "../errors.ts";
import type { Facts } from "../plugin.ts";
import { isLease, leaseKeyOf, leaseOf } from "./leases.ts";
import { ignoreConflict, type Operation } from "./operations.ts";
import { isCopy, isSlot, slotKeyOf } from "./slots.ts";
import type { Entry, Store } from "./store.ts";

const PREFIX = "arpanet/containers/";
/** Fixed ports, under `arpanet/ports/<host>/<port>`; the value names the container that has it. */
export const PORTS = "arpanet/ports/";
/** Hosts that a service has to itself, one copy each, under `arpanet/exclusive/<deployment>.<service>/<host>`; the same. */
export const EXCLUSIVE = "arpanet/exclusive/";

/** The part of a value that names the container which holds the key. */
export interface Holding {
	container?: string;
}

/** Whether a key is one that a container which is made anew takes over from the old one, if it asks for it. */
export function isHandedOver(key: string): boolean {
	return isLease(key) || key.startsWith(PORTS) || key.startsWith(EXCLUSIVE);
}

/** Whether the value of a key names the container that holds it; an alias, which goes with an address, does not. */
function namesContainer(key: string): boolean {
	return isHandedOver(key) || isSlot(key) || isCopy(key);
}

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
	/** The create that wrote it last, as its hooks are told; none under a stock powerstrip. */
	request?: string;
	/** What it has from its predecessor, whose removal must not give this record back. */
	tookOver?: TakenOver;
	/** Its successor was refused, and what both held beside its address is to be written down again. */
	lacks?: true;
	/** Counts rewrites while a create is under way: a write that changes nothing would not move its ModifyIndex. */
	waited?: number;
	/** The name that it had before it was renamed: who is made under that takes its place if it does not run. */
	was?: string;
	/** Its host is lost, and this is why it is not started elsewhere. */
	stays?: string;
}

/** What a container that is made anew took over from the old one: with a fixed address both want the same. */
export interface TakenOver {
	/** Key of the predecessor's record as it was then. */
	from: string;
	/** When the predecessor was made, as its facts tell. */
	made?: string | undefined;
	keys: string[];
}

/** What has been taken over in the end: of one predecessor all, else what was taken last. */
export function takenOver(
	before: TakenOver | undefined,
	now: TakenOver | undefined,
): TakenOver | undefined {
	if (!before || !now) return now ?? before;
	if (before.from !== now.from || before.made !== now.made) return now;
	return { ...now, keys: [...new Set([...before.keys, ...now.keys])] };
}

/**
 * Why a container got what it has, under `arpanet/reasons/<name>`: apart from its record, which every look at all
 * containers reads.
 */
export interface Reasons {
	/** When it was made, for people. */
	at: string;
	/** Host whose adapter decided. */
	by: string;
	/** By plugin. */
	because: Record<string, string>;
}

/** Where stands why containers have what they have. */
export const REASONS = "arpanet/reasons/";
/** Keys that are deleted in one commit beside what else is in it: Consul takes 64 operations. */
const MAX_TOGETHER = 40;
/** How often the record of a create that is under way is written again. */
const BEAT_MS = 8_000;

/** Key of a container's reasons. */
export function reasonsKey(name: string): string {
	return REASONS + name;
}

/** Whether a key is that of a container's reasons. */
export function isReasons(key: string): boolean {
	return key.startsWith(REASONS);
}

/** A record that is written again and again. */
export interface Kept {
	/** It is not any more. */
	end(): void;
	/** @throws HttpError 503 if it was given back all the same */
	mustBeThere(): Promise<void>;
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

	/** The record under a name; undefined for what can be none, such as `/x` or nothing. */
	async get(name: string): Promise<Entry<ContainerRecord> | undefined> {
		return isName(name) ? this.#store.get(this.key(name)) : undefined;
	}

	/** The records under these names, as far as there are any. */
	some(names: readonly string[]): Promise<Entry<ContainerRecord>[]> {
		const can = names.filter(isName);
		return this.#store.some(can.map((name) => this.key(name)));
	}

	/** All records. @param stale also while Consul's servers have no leader, perhaps a moment old */
	list(stale = false): Promise<Entry<ContainerRecord>[]> {
		return this.#store.list(PREFIX, stale);
	}

	/**
	 * The record of a container that exists: by its name, or, if it was renamed or made without
	 * a name, by the lease or the slot that its labels tell of, or without both by when it was made.
	 */
	async find(
		name: string,
		facts: Facts,
	): Promise<Entry<ContainerRecord> | undefined> {
		const record = await this.get(name);
		if (record && isSame(record.value.facts, facts)) return record;
		if (identity(facts) === undefined) {
			const all = facts.made ? await this.list() : [];
			return all.find(({ value }) => {
				return value.facts.made === facts.made && isSame(value.facts, facts);
			});
		}
		// its successor has the lease by now, if both want the same; a slot is nobody else's
		for (const key of [leaseKeyOf(facts), slotKeyOf(facts)]) {
			const holder = key ? await this.#holder(key) : undefined;
			if (holder && isSame(holder.value.facts, facts)) return holder;
		}
		return undefined;
	}

	/** The record that a key belongs to, also while that is given another name: a client is no slower than the agent that learns it. */
	async #holder(key: string): Promise<Entry<ContainerRecord> | undefined> {
		for (let before: string | undefined; ; ) {
			const held = await this.#store.get<Holding>(key);
			const current = held?.value.container;
			if (!current || current === before) return undefined;
			const holder = await this.get(current);
			if (holder) return holder;
			before = current;
		}
	}

	/**
	 * Writes the record of a create again until it is ended: one that nobody writes and of which no container has come is given
	 * back, and an engine may take minutes, where an image has much that is copied into a volume.
	 */
	keep(name: string, facts: Facts): Kept {
		let beats = 0;
		const write = async () => {
			beats++;
			const entry = await this.find(name, facts);
			if (!entry) return;
			const { key, index } = entry;
			const value = { ...entry.value, waited: beats };
			await this.#store.commit([{ verb: "update", key, value, index }]);
		};
		const beat = setInterval(() => void write().catch(() => {}), BEAT_MS);
		beat.unref();
		return {
			end: () => clearInterval(beat),
			mustBeThere: async () => {
				if (beats === 0 || (await this.find(name, facts))) return;
				throw new HttpError(
					503,
					`the create of ${name || "the container"} was given up meanwhile; try again`,
				);
			},
		};
	}

	/**
	 * Deletes what a record of a container that is gone holds beyond what fits into one commit: each connect to a further
	 * network was small.
	 * @returns the record with the rest; undefined if it is gone or another's by now
	 */
	async shed(
		entry: Entry<ContainerRecord>,
	): Promise<Entry<ContainerRecord> | undefined> {
		const { key, index, value } = entry;
		if (value.holds.length <= MAX_TOGETHER) return entry;
		const holds = value.holds.slice(0, -MAX_TOGETHER);
		await ignoreConflict(
			this.#store.commit([
				{ verb: "update", key, value: { ...value, holds }, index },
				...value.holds
					.slice(-MAX_TOGETHER)
					.map((held): Operation => ({ verb: "delete", key: held })),
			]),
		);
		const now = await this.get(this.name(key));
		return now && isSame(now.value.facts, value.facts)
			? this.shed(now)
			: undefined;
	}

	/**
	 * Operations by which all goes that a record holds. With a fixed address a successor takes over what its predecessor holds; if Docker refuses
	 * to make it, that is the predecessor's again, which lives on. The rest of what both held its agent writes down again.
	 */
	async letGo({
		key,
		value: { holds, tookOver },
	}: Entry<ContainerRecord>): Promise<Operation[]> {
		const from =
			tookOver && tookOver.from !== key
				? await this.#predecessor(tookOver)
				: undefined;
		const back = from
			? holds.filter((held) => tookOver?.keys.includes(held))
			: [];
		const operations = holds
			.filter((held) => !back.includes(held))
			.map((held): Operation => ({ verb: "delete", key: held }));
		if (!from || back.length === 0) return operations;
		const { facts, holds: left } = from.value;
		const value: ContainerRecord = {
			...from.value,
			holds: [...left, ...back],
			lacks: true,
		};
		operations.push({ ...from, verb: "update", value });
		const container = this.name(from.key);
		for (const { key, value, index } of await this.#store.some<Holding>(back)) {
			const holding = isLease(key) ? leaseOf(facts, container) : { container };
			const given = { ...value, ...holding };
			operations.push({ verb: "update", key, value: given, index });
		}
		return operations;
	}

	/** The record of a predecessor, if that is on record under the same name still. */
	async #predecessor({
		from,
		made,
	}: TakenOver): Promise<Entry<ContainerRecord> | undefined> {
		const entry = await this.#store.get<ContainerRecord>(from);
		return entry?.value.facts.made === made ? entry : undefined;
	}

	/** Operations that give a record another name, with its reasons and with what names its holder. */
	async rename(
		entry: Entry<ContainerRecord>,
		name: string,
	): Promise<Operation[]> {
		const held = await this.#store.some<Holding>(
			entry.value.holds.filter(namesContainer),
		);
		const was = this.name(entry.key);
		const former = was.startsWith(".") ? {} : { was }; // Docker has named it only now
		const before = reasonsKey(was);
		const after = reasonsKey(name);
		const reasons = await this.#store.get<Reasons>(before);
		const holds = entry.value.holds.map((key) =>
			key === before ? after : key,
		);
		return [
			{ verb: "delete", key: entry.key, index: entry.index },
			{
				verb: "create",
				key: this.key(name),
				value: { ...entry.value, ...former, holds },
			},
			...(reasons && holds.includes(after)
				? [
						{ verb: "delete", key: before, index: reasons.index } as const,
						{ verb: "set", key: after, value: reasons.value } as const,
					]
				: []),
			...held.map(
				({ key, value, index }): Operation => ({
					verb: "update",
					key,
					value: { ...value, container: name, ...(isSlot(key) ? former : {}) },
					index,
				}),
			),
		];
	}

	/** Operations that give each of two records the other's name. */
	async exchange(
		one: Entry<ContainerRecord>,
		other: Entry<ContainerRecord>,
	): Promise<Operation[]> {
		const operations = [
			...(await this.rename(one, this.name(other.key))),
			...(await this.rename(other, this.name(one.key))),
		];
		// what stood under a name has to go before the other can have it
		return [
			...operations.filter(({ verb }) => verb === "delete"),
			...operations.filter(({ verb }) => verb !== "delete"),
		];
	}
}

/** Whether a record can stand under it: not under `x/y`, or nothing. */
function isName(name: string): boolean {
	return name !== "" && !name.includes("/");
}

/**
 * Whether two sets of facts are of the same container: a lease, or a slot, is never held by two at once, and those that had
 * it one after the other were not made at once. What a lost host still has of one that was started elsewhere tells of the same
 * lease, and of another host.
 */
export function isSame(a: Facts, b: Facts): boolean {
	return areMadeAtOnce(a.made, b.made) && holdSame(a, b);
}

/** Whether two containers can be one by when they were made, as their facts tell; older ones do not. */
export function areMadeAtOnce(
	a: string | undefined,
	b: string | undefined,
): boolean {
	return !a || !b || a === b;
}

/** Whether they hold the same, be it one after the other: as two tries of one create do. */
export function holdSame(a: Facts, b: Facts): boolean {
	return identity(a) === identity(b) && a.host === b.host;
}

/** The key by which a container is known whatever its name: its lease or, without an address, its slot. */
function identity(facts: Facts): string | undefined {
	return leaseKeyOf(facts) ?? slotKeyOf(facts);
}
