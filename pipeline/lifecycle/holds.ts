import type { Facts, Services } from "../plugin.ts";
import {
	type ContainerRecord,
	type Holding,
	isHandedOver,
	type TakenOver,
} from "../state/containers.ts";
import { keyIn, type Operation } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";
import { type Identity, isSuccessor } from "../state/successors.ts";
import { isStopped } from "./former.ts";

/** What a container is to hold: written, had already, or taken over from the one that it replaces. */
export class Holds {
	readonly keys: string[] = [];
	readonly #operations: Operation[];
	readonly #own: readonly string[];
	readonly #replaced: Entry<ContainerRecord> | undefined;

	constructor(
		operations: Operation[],
		own: readonly string[] = [],
		replaced: Entry<ContainerRecord> | undefined,
	) {
		this.#operations = operations;
		this.#own = own;
		this.#replaced = replaced;
	}

	add(key: string, value: unknown): void {
		this.keys.push(key);
		// what an earlier create of the name left may say something else
		const had =
			this.#own.includes(key) || this.#replaced?.value.holds.includes(key);
		this.#operations.push({ verb: had ? "set" : "create", key, value });
	}

	/** As `add`, for a key that nobody else can have. */
	set(key: string, value: unknown): void {
		this.keys.push(key);
		this.#operations.push({ verb: "set", key, value });
	}

	/** What of it the replaced container had. */
	get tookOver(): TakenOver | undefined {
		if (!this.#replaced) return undefined;
		const { key: from, value } = this.#replaced;
		const keys = value.holds.filter(
			(held) => isHandedOver(held) && this.keys.includes(held),
		);
		if (keys.length === 0) return undefined;
		return { from, made: value.facts.made, keys };
	}

	/** The operation by which the replaced container holds no longer what this one holds. */
	handOver(): Operation[] {
		if (!this.#replaced) return [];
		const { key, value, index } = this.#replaced;
		const holds = value.holds.filter((held) => !this.keys.includes(held));
		if (holds.length === value.holds.length) return [];
		return [{ verb: "update", key, value: { ...value, holds }, index }];
	}
}

/** The record that holds what this container could not have, if it is its predecessor's. */
export async function replacedBy(
	container: Identity & Pick<Facts, "host">,
	conflicts: readonly Operation[],
	services: Pick<Services, "store" | "containers" | "cluster">,
): Promise<Entry<ContainerRecord> | undefined> {
	const { store, containers } = services;
	const keys = conflicts
		.map((operation) => keyIn(operation) ?? "")
		.filter(isHandedOver);
	for (const key of new Set(keys.reverse())) {
		const holder = (await store.get<Holding>(key))?.value.container;
		if (!holder || holder === container.container) continue;
		const record = await containers.get(holder);
		if (!record) continue;
		const { facts, was } = record.value;
		if (isSuccessor(container, { container: holder, ...facts })) return record;
		// both may be started later, and with one address only an engine that has both refuses it
		const isFormer =
			was === container.container &&
			facts.deployment === container.deployment &&
			facts.host === container.host;
		if (isFormer && (await isStopped(holder, facts.host, services))) {
			return record;
		}
	}
	return undefined;
}
