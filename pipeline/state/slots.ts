import { randomUUID } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import type { Facts } from "../plugin.ts";
import { type Operation, replacing } from "./operations.ts";
import { parse, type Store } from "./store.ts";
import { formerMark, type Identity, marks } from "./successors.ts";
import { addTo, type Placed, removeFrom, Use } from "./use.ts";
import { followPrefix } from "./watch.ts";

/** Places on hosts, each one container's. */
export const SLOTS = "arpanet/slots/";
/** Numbers of a service's copies on a host, under `arpanet/copies/<deployment>.<service>/<host>/<number>`. */
export const COPIES = "arpanet/copies/";
/** Written by each create that reserves something of a host: of two that have counted the same the second counts anew. */
export const COUNTS = "arpanet/counts/";
/** A choice whose create is not on record after so long has failed. */
const KEEP_MS = 10_000;
/** Between two reads of all slots, and for each slot: so a change costs a twentieth of a processor at most. */
const PAUSE_MS = 100;
const PAUSE_MS_EACH = 0.2;
/** Out of so many two seldom pick the same number. */
const MANY = 1_000_000;

/** A place on a host and the container that has it, under `arpanet/slots/<host>/<number>`. */
export interface Slot {
	key: string;
	host: string;
	number: number;
	placed: Placed;
}

interface Known extends Slot {
	/** ModifyIndex; undefined for one taken here and not committed yet. */
	index: number | undefined;
	/** When it was taken, or read singly; a list requested earlier may lack it. */
	since: number;
	/** The read that saw it last. */
	round: number;
}

interface HostSlots {
	use: Use;
	numbers: Set<number>;
	/** No lower number is free. */
	lowest: number;
}

/** Key of a slot. */
export function slotKey(host: string, number: number): string {
	return `${SLOTS}${host}/${number}`;
}

/** Whether a key is that of a slot. */
export function isSlot(key: string): boolean {
	return key.startsWith(SLOTS);
}

/** Key of the number that a copy has among those of its service on its host; a one-off has none. */
export function copyKey({ host, placed }: Slot): string | undefined {
	const { deployment, service, copy } = placed;
	return copy ? `${COPIES}${deployment}.${service}/${host}/${copy}` : undefined;
}

/** Whether a key is that of a copy. */
export function isCopy(key: string): boolean {
	return key.startsWith(COPIES);
}

/** Whether a key is that of a host's count. */
export function isCount(key: string): boolean {
	return key.startsWith(COUNTS);
}

/** Key of the slot that a container's facts tell of; undefined for one that is not placed. */
export function slotKeyOf({ host, slot }: Facts): string | undefined {
	return host && slot ? slotKey(host, slot) : undefined;
}

/** The host and the number in a slot's key. */
export function slotOf(key: string): { host: string; number: number } {
	const mark = key.lastIndexOf("/");
	return {
		host: key.slice(SLOTS.length, mark),
		number: Number(key.slice(mark + 1)),
	};
}

/**
 * Which containers are on which hosts, as a view that Consul keeps fresh. Who chooses between hosts takes the lowest
 * number that seems free on the chosen one; the commit fails if another has it. So two gateways that place at the same
 * moment from the same view meet on the same number, and the one that comes second learns of the first: the outcome
 * is one that placing them one after the other would have had, without a counter that every create must write.
 */
export class Slots {
	readonly #store: Store;
	readonly #known = new Map<string, Known>();
	readonly #hosts = new Map<string, HostSlots>();
	/** By what a container and its successor have in common. */
	readonly #marks = new Map<string, Set<Known>>();
	#round = 0;
	#stop: (() => void) | undefined;
	/** The reading that is under way, and the one that follows it. */
	#counting: Promise<unknown> = Promise.resolve();
	#next: Promise<ReadonlyMap<string, { index: number }>> | undefined;
	/** The read with which a view begins. */
	#reading: Promise<void> | undefined;

	constructor(store: Store) {
		this.#store = store;
	}

	/** Begins to follow what Consul says. */
	follow(): void {
		if (this.#stop) return;
		const { consul } = this.#store;
		const ended = new AbortController();
		let asked = 0;
		const question = async (options: object) => {
			const pause = PAUSE_MS + this.#known.size * PAUSE_MS_EACH;
			await setTimeout(pause, undefined, { signal: ended.signal });
			asked = performance.now();
			return consul.kv.get(options as never);
		};
		const stop = followPrefix(
			consul,
			{ key: SLOTS, recurse: true },
			question,
			(items) => {
				this.#apply(
					(items ?? []).map(({ Key, Value, ModifyIndex }) => ({
						key: Key,
						index: ModifyIndex,
						value: () => parse<Placed>(Value),
					})),
					asked,
				);
			},
		);
		this.#stop = () => {
			stop();
			ended.abort();
		};
	}

	/**
	 * Waits until there is something to go by. Without `follow` that is a read for all who wait together.
	 * @throws HttpError 503 when Consul does not answer
	 */
	async ready(): Promise<void> {
		this.#reading ??= this.refresh();
		const reading = this.#reading;
		try {
			await reading;
		} catch (error) {
			if (this.#reading === reading) this.#reading = undefined;
			throw error;
		}
		if (!this.#stop && this.#reading === reading) this.#reading = undefined;
	}

	/** Reads all slots now. */
	async refresh(): Promise<void> {
		const asked = performance.now();
		const entries = await this.#store.list<Placed>(SLOTS);
		this.#apply(
			entries.map((each) => ({ ...each, value: () => each.value })),
			asked,
		);
	}

	/**
	 * Reads all slots now. Who comes while they are being read shares the next reading: this one may have begun too early
	 * for him.
	 * @returns what `count` goes by: each that is written later was counted after this
	 */
	counted(): Promise<ReadonlyMap<string, { index: number }>> {
		this.#next ??= this.#counting
			.catch(() => {})
			.then(() => {
				this.#next = undefined;
				const reading = this.#counted();
				this.#counting = reading;
				return reading;
			});
		return this.#next;
	}

	async #counted(): Promise<ReadonlyMap<string, { index: number }>> {
		const counts = await this.#store.list(COUNTS); // before the slots
		await this.refresh();
		return new Map(counts.map((each) => [each.key, each]));
	}

	/**
	 * The operation that fails if something of a host was reserved since it was counted.
	 * @param counted undefined: it never fails, and lets others count anew
	 */
	count(
		host: string,
		counted: ReadonlyMap<string, { index: number }> | undefined,
	): Operation {
		const key = COUNTS + host;
		const value = { id: randomUUID() }; // Consul passes over what changes nothing
		return counted
			? replacing(key, counted.get(key), value)
			: { verb: "set", key, value };
	}

	/** Reads now who has what a commit could not have: a slot, or a copy's number. */
	async learn(lost: string): Promise<void> {
		let key: string | undefined = lost;
		if (isCopy(lost)) {
			key = (await this.#store.get<Copy>(lost))?.value.slot;
		} else if (this.#known.get(lost)?.index === undefined) {
			this.#drop(lost); // until it is known who
			this.#put(lost, { container: "" }, undefined, performance.now());
		}
		if (!key) return; // given back meanwhile
		const entry = await this.#store.get<Placed>(key);
		this.#drop(key);
		if (entry) this.#put(key, entry.value, entry.index, performance.now());
	}

	/** What the containers of a host take of it. */
	use(host: string): Use {
		return this.#hosts.get(host)?.use ?? new Use();
	}

	/** The slots of a copy: its own, and that of the container which it replaces under Compose. */
	of(copy: Identity): Slot[] {
		const slots = marks(copy).flatMap((mark) => [
			...(this.#marks.get(mark) ?? []),
		]);
		return [...new Set(slots)];
	}

	/** The slots of those of its deployment that had a container's name before they were renamed. */
	former({ container, deployment }: Identity): Slot[] {
		return [...(this.#marks.get(formerMark(container, deployment)) ?? [])];
	}

	/** The host of a container that uses a volume. */
	hostOfVolume(name: string): string | undefined {
		for (const { placed, host } of this.#known.values()) {
			if (placed.volumes?.includes(name)) return host;
		}
		return undefined;
	}

	/** The slot of the container of that very name. */
	named(name: string): Slot | undefined {
		const slots = this.of({ container: name });
		return slots.find(({ placed }) => placed.container === name);
	}

	/**
	 * Takes a place on a host, for as long as a create may take.
	 * @param freely any number will do: nobody else has to notice
	 */
	take(host: string, placed: Placed, freely: boolean): Slot {
		const slots = this.#of(host);
		while (slots.numbers.has(slots.lowest)) slots.lowest++;
		let number = slots.lowest;
		while (freely && (slots.numbers.has(number) || number === slots.lowest)) {
			number = slots.lowest + Math.ceil(Math.random() * MANY);
		}
		const key = slotKey(host, number);
		const counted = placed.service && !freely;
		const copy = counted ? { copy: slots.use.freeCopy(placed) } : {};
		const taken = { ...placed, ...copy };
		return this.#put(key, taken, undefined, performance.now());
	}

	/** The create for which a slot was taken does not go on. */
	release(key: string): void {
		if (this.#known.get(key)?.index === undefined) this.#drop(key);
	}

	/** Ends the watch. */
	close(): void {
		this.#stop?.();
	}

	/** @param asked when the list was asked for */
	#apply(
		entries: {
			key: string;
			index: number;
			value: () => Placed | undefined;
		}[],
		asked: number,
	): void {
		this.#round++;
		const recently = performance.now() - KEEP_MS;
		for (const { key, index, value } of entries) {
			const known = this.#known.get(key);
			// what was read of it by itself may be newer than this list
			const newer = (known?.index ?? 0) > index && (known?.since ?? 0) > asked;
			if (known && (known.index === index || newer)) {
				known.round = this.#round;
				continue;
			}
			this.#drop(key);
			const placed = value();
			if (placed) this.#put(key, placed, index, Number.NEGATIVE_INFINITY);
		}
		for (const [key, { round, since, index }] of this.#known) {
			const believed = index === undefined ? recently : asked;
			if (round < this.#round && since < believed) this.#drop(key);
		}
	}

	#put(
		key: string,
		placed: Placed,
		index: number | undefined,
		since: number,
	): Slot {
		const { host, number } = slotOf(key);
		const slot: Known = {
			key,
			host,
			number,
			placed,
			index,
			since,
			round: this.#round,
		};
		this.#known.set(key, slot);
		const { use, numbers } = this.#of(host);
		use.add(placed);
		numbers.add(number);
		for (const mark of marksOf(placed)) addTo(this.#marks, mark, slot);
		return slot;
	}

	#drop(key: string): void {
		const slot = this.#known.get(key);
		if (!slot) return;
		this.#known.delete(key);
		const slots = this.#of(slot.host);
		slots.use.remove(slot.placed);
		slots.numbers.delete(slot.number);
		slots.lowest = Math.min(slots.lowest, slot.number);
		for (const mark of marksOf(slot.placed))
			removeFrom(this.#marks, mark, slot);
	}

	#of(host: string): HostSlots {
		const known = this.#hosts.get(host);
		if (known) return known;
		const slots = { use: new Use(), numbers: new Set<number>(), lowest: 1 };
		this.#hosts.set(host, slots);
		return slots;
	}
}

function marksOf(placed: Placed): string[] {
	const { was, deployment } = placed;
	return [...marks(placed), ...(was ? [formerMark(was, deployment)] : [])];
}

/** What stands under a copy's number. */
export interface Copy {
	container: string;
	/** Key of its slot. */
	slot: string;
}
