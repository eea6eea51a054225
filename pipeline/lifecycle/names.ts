import { setTimeout } from "node:timers/promises";
import { type ContainerSummary, filtered, ownName } from "../docker.ts";
import { HttpError } from "../errors.ts";
import type { Services } from "../plugin.ts";
import { NAMES, type NameHolder } from "../state/names.ts";
import {
	type Conflict,
	ignoreConflict,
	type Operation,
	replacing,
} from "../state/operations.ts";
import type { Entry } from "../state/store.ts";

const WAIT_MS = 100;
/** How long one waits for another create of the same name. */
const PATIENCE_MS = 30_000;

/**
 * Keeps the names of containers unique over all hosts. A container on record has its name by its record; any other, made
 * straight at an engine or without arpanet's plugins, by a key that its host's agent writes as soon as it sees it. So
 * whoever wants a name learns from his own commit whether it is free, and no engine is asked.
 */
export class Names {
	readonly #services: Pick<Services, "cluster" | "containers" | "store">;

	constructor(services: Pick<Services, "cluster" | "containers" | "store">) {
		this.#services = services;
	}

	/** The operation that makes a commit fail if a container that is not on record has the name. */
	free(name: string): Operation {
		return { verb: "absent", key: NAMES + name };
	}

	/** Whether a commit failed by an operation of `free`. */
	isTaken({ operation }: Conflict): boolean {
		return operation.verb === "absent" && operation.key.startsWith(NAMES);
	}

	/**
	 * A name turned out not to be free: returns once it is worth another try.
	 * @throws HttpError 409, in Docker's words, if a container has it
	 */
	async retry(name: string): Promise<void> {
		const holder = await this.#holder(name);
		if (holder) throw inUse(name, holder);
		const isBeingGiven = await this.#services.store.get(NAMES + name);
		if (isBeingGiven) await setTimeout(WAIT_MS);
	}

	/**
	 * Reserves a name while a container that is not on record, or not under that name, gets it.
	 * @param host where it will be
	 * @param own id of the container that may have the name already
	 * @returns is to be called when it has got it, or not
	 * @throws HttpError 409, in Docker's words, if it is taken
	 */
	async reserve(
		name: string,
		host: string,
		own?: string,
	): Promise<() => Promise<void>> {
		const { store, containers } = this.#services;
		const end = performance.now() + PATIENCE_MS;
		for (;;) {
			const value: NameHolder = { host, at: Date.now() };
			const writing = store.commit([
				{ verb: "create", key: NAMES + name, value },
				{ verb: "absent", key: containers.key(name) },
			]);
			if (await ignoreConflict(writing)) {
				return () => this.#settle(name, value);
			}
			const holder = await this.#holder(name);
			if (holder && holder === own) return async () => {};
			if (holder) throw inUse(name, holder);
			if (performance.now() > end) {
				throw new HttpError(
					409,
					`Conflict. The container name "/${name}" is being given to another container; try again`,
				);
			}
			await setTimeout(WAIT_MS);
		}
	}

	/** All names of which no record tells. */
	list(): Promise<Entry<NameHolder>[]> {
		return this.#services.store.list(NAMES);
	}

	/**
	 * Compares the names on this host with what is written down of them.
	 * @param containers all that its engine has
	 */
	async look(containers: ContainerSummary[]): Promise<void> {
		const { self } = this.#services.cluster;
		const known = new Map(
			(await this.list()).map(({ key, value }) => [
				key.slice(NAMES.length),
				value,
			]),
		);
		const foreign = new Map(
			containers
				.filter(({ Labels }) => !Labels["arpanet.host"])
				.map(({ Id, Names }) => [ownName(Names), Id]),
		);
		const changed = new Set<string>();
		for (const [name, id] of foreign) {
			if (known.get(name)?.id !== id) changed.add(name);
		}
		for (const [name, { host, id }] of known) {
			if (id && host === self && !foreign.has(name)) changed.add(name);
		}
		for (const name of changed) await this.#tell(name);
	}

	/** Writes down that a container of this host has a name and is not on record, or no longer that it has. */
	async #tell(name: string): Promise<void> {
		const host = this.#services.cluster.self;
		const { entry, id } = await this.#see(name, host);
		if (entry && entry.value.host !== host) return; // a container there has it as well
		if (id && entry?.value.id !== id) {
			await this.#commit(replacing(NAMES + name, entry, { host, id }));
		} else if (!id && entry?.value.id) await this.#forget(entry);
	}

	/** A name that was reserved has been given, or not. */
	async #settle(name: string, { host, at }: NameHolder): Promise<void> {
		const { entry, id } = await this.#see(name, host);
		if (!entry || entry.value.at !== at) return; // the host's agent has told of it
		if (id) await this.#commit(replacing(NAMES + name, entry, { host, id }));
		else await this.#forget(entry);
	}

	/** What is written down of a name, and the id of a host's container that has it and is not on record. */
	async #see(name: string, host: string) {
		const { store, containers } = this.#services;
		const [entry, record, id] = await Promise.all([
			store.get<NameHolder>(NAMES + name),
			containers.get(name),
			this.#idOn(host, name),
		]);
		return record?.value.facts.host === host ? { entry } : { entry, id };
	}

	/** Id of the container that has a name, as its engine says; what Consul knows wrongly is put right. */
	async #holder(name: string): Promise<string | undefined> {
		const { store, containers } = this.#services;
		const [entry, record] = await Promise.all([
			store.get<NameHolder>(NAMES + name),
			containers.get(name),
		]);
		if (entry) {
			const { host, id } = entry.value;
			// a host that does not answer keeps what it had
			const found = await this.#idOn(host, name).catch(() => id);
			if (found) return found;
			if (id) await this.#forget(entry); // one that a dead gateway was giving the leader takes away
		}
		const host = record?.value.facts.host;
		return host && this.#idOn(host, name);
	}

	async #forget({ key, index }: Entry<NameHolder>): Promise<void> {
		await this.#commit({ verb: "delete", key, index });
	}

	async #commit(operation: Operation): Promise<void> {
		await ignoreConflict(this.#services.store.commit([operation]));
	}

	/** @throws HttpError 502 for a host that does not answer */
	async #idOn(host: string, name: string): Promise<string | undefined> {
		// the list needs no lock of the container
		const path = filtered("/containers/json?all=1", {
			name: [`^/${name.replaceAll(".", "\\.")}$`],
		});
		const rows = await this.#services.cluster.ask(host, (engine) =>
			engine.get<ContainerSummary[]>(path),
		);
		return rows?.find(({ Names }) => ownName(Names) === name)?.Id;
	}
}

/** As Docker refuses a name. @param id of the container that has it */
export function inUse(name: string, id: string): HttpError {
	return new HttpError(
		409,
		`Conflict. The container name "/${name}" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
	);
}
