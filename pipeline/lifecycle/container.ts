import type { Chain } from "../chain.ts";
import type { ContainerCreate, ContainerInspect } from "../docker.ts";
import { HttpError, messageOf } from "../errors.ts";
import { readLabels } from "../facts.ts";
import type { ContainerContext, Facts, Services } from "../plugin.ts";
import type { HookHeaders } from "../protocol.ts";
import { areMadeAtOnce, type ContainerRecord } from "../state/containers.ts";
import { isSuperseded } from "../state/moves.ts";
import { ignoreConflict, type Operation } from "../state/operations.ts";
import { Removals } from "../state/removals.ts";
import type { Entry } from "../state/store.ts";
import { Connections } from "./connections.ts";
import { type CreateRequest, Creation, recordName } from "./creation.ts";
import { contextOf, followName, holderOf } from "./holder.ts";
import type { NetworkLifecycle } from "./network.ts";

/** A stop that lasts until the process ends by itself counts as over, if it does not, after a day. */
const ENDLESS_S = 86_400;

/**
 * What happens to containers, told to the plugins in the right order and written to Consul. Hooks and the agent's events both come through here, often about the same
 * thing, so everything can be said twice.
 */
export class ContainerLifecycle {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #networks: NetworkLifecycle;
	readonly #removals: Removals;
	/** The further networks that containers are connected to. */
	readonly connections: Connections;

	constructor(chain: Chain, services: Services, networks: NetworkLifecycle) {
		this.#chain = chain;
		this.#services = services;
		this.#networks = networks;
		this.#removals = new Removals(services.store);
		this.connections = new Connections(chain, services);
	}

	/**
	 * Runs the chain over a create body and commits what it acquired in one transaction.
	 * @returns the body to create with; undefined if it is none of ours and goes on untouched
	 * @throws HttpError with nothing left acquired; Conflict if the copy for which it is made is not lost after all
	 */
	async create(request: CreateRequest): Promise<ContainerCreate | undefined> {
		return new Creation(this.#chain, this.#services, request).run();
	}

	/**
	 * Docker refused a create: gives back what it had acquired, unless a container of that name
	 * came from another create after all.
	 */
	async createFailed(
		name: string | undefined,
		headers: HookHeaders,
	): Promise<void> {
		const entry = await this.#services.containers.get(
			recordName(name, headers),
		);
		if (!entry) return;
		const { request } = entry.value;
		if (request && request !== headers["x-arpanet-request"]) return; // another create's, which goes on
		// Another create of the same name may be under way with this very record: the sweep will know.
		if (entry.value.attempts > 1) return;
		if (await holderOf(entry, this.#services)) return;
		await this.giveBack(entry, undefined);
	}

	/** Docker created a container. */
	async created(id: string, name: string | undefined): Promise<void> {
		if (!this.#chain.has("created")) return;
		const context = await contextOf(id, this.#services);
		if (!context) return;
		const { facts } = context;
		await this.#chain.acquire("created", { id, name, facts });
	}

	/**
	 * Docker is about to start a container.
	 * @param anew with a HostConfig in the place of the one that it was created with
	 * @throws HttpError when a plugin refuses, or the container would lose its network and its DNS
	 */
	async starting(ref: string, anew = false): Promise<void> {
		if (isSuperseded(ref)) {
			throw new HttpError(
				409,
				`container ${ref} was started elsewhere while its host was lost, and its address is that one's now; docker rm ${ref}`,
			); // by its id it can be started: then its host's agent stops it
		}
		if (!anew && !this.#chain.has("start")) return;
		const context = await contextOf(ref, this.#services);
		if (!context) return;
		if (anew && context.facts.deployment) {
			throw new HttpError(
				400,
				`container ${ref} gets its HostConfig when it is created, and this start brings another, without its network; use a client that speaks API 1.24 or later`,
			);
		}
		await this.#chain.acquire("start", context);
	}

	/** Docker is about to stop, kill, pause or remove a container; errors are logged, the stop goes on. */
	async stopping(ref: string, seconds: number | undefined): Promise<void> {
		const context = await this.contextOrNone(ref);
		if (!context?.container.State.Running) return;
		const asked = seconds ?? stopTimeout(context.container);
		const grace = asked < 0 ? ENDLESS_S : asked;
		await this.#chain.release("stop", { ...context, grace });
	}

	/**
	 * A container's state may have changed: tells the plugins what is true now.
	 * @param after what Docker has just answered, see `ContainerContext`
	 * @throws HttpError of the first plugin that failed
	 */
	async observe(ref: string, after?: ContainerContext["after"]): Promise<void> {
		const context = await contextOf(ref, this.#services);
		if (!context) return;
		const { Running, Paused, Restarting } = context.container.State;
		const isOther = isSuperseded(context.container.Name);
		if (Running && !Paused && !Restarting && !isOther) {
			await this.#chain.acquire("started", {
				...context,
				...(after ? { after } : {}),
			});
			return;
		}
		await this.#stopped(context);
	}

	/** A container has come to its end and its engine cannot be asked. @param container what is known of it */
	async ended(container: ContainerInspect): Promise<void> {
		const facts = readLabels(container.Config.Labels);
		await this.#stopped({ container, facts });
	}

	async #stopped(context: ContainerContext): Promise<void> {
		const error = await this.#chain.release("stopped", context);
		if (error) throw error;
	}

	/** A container is gone: gives back what it held. One that is not on record any more is success. */
	async removed(name: string, facts: Facts, id?: string): Promise<void> {
		const { containers } = this.#services;
		const entry = await containers.find(name, facts);
		// The lease that led there may have gone over to the container that replaces this one, or the
		// labels that tell of it may have come with an image that was committed.
		const doubtful =
			entry && (entry.value.tookOver || entry.key !== containers.key(name));
		const holder = doubtful ? await holderOf(entry, this.#services) : undefined;
		const another = holder && areMadeAtOnce(holder.made, facts.made);
		if (entry && !another) await this.giveBack(entry, id);
		else await this.#chain.release("removed", { id, facts, holds: [] });
	}

	/** A container has a new name; its record goes with it. */
	renamed(ref: string): Promise<void> {
		return followName(ref, this.#services);
	}

	/** Notes who a container is that is about to be removed: afterwards nothing tells. */
	async removing(container: ContainerInspect): Promise<void> {
		await this.#removals.note(container.Id, {
			name: container.Name.slice(1),
			facts: readLabels(container.Config.Labels),
		});
	}

	/** Docker removed the container that was noted under that id, prefix or name. */
	async removedByRef(ref: string): Promise<void> {
		const note = await this.#removals.find(ref);
		if (!note) return; // none of ours
		const { name, facts } = note.value;
		await this.removed(name, facts, this.#removals.id(note));
		await this.#removals.forget(note);
	}

	/** Docker did not remove the container that was noted so: it may get another name, and another this one. */
	async removalRefused(ref: string): Promise<void> {
		const note = await this.#removals.find(ref);
		if (note) await this.#removals.forget(note);
	}

	/**
	 * Deletes a record with all that it holds, after every plugin had its turn.
	 * @param note goes into the same commit
	 */
	async giveBack(
		entry: Entry<ContainerRecord>,
		id: string | undefined,
		note: Operation[] = [],
	): Promise<void> {
		const { facts, holds } = entry.value;
		await this.#chain.release("removed", { id, facts, holds });
		const { containers, store } = this.#services;
		const rest = await containers.shed(entry);
		if (!rest) return; // another's by now
		await ignoreConflict(
			store.commit([
				{ verb: "delete", key: rest.key, index: rest.index },
				...(await containers.letGo(rest)),
				...note,
			]),
		);
		if (!facts.network) return;
		const network = await this.#services.networks.get(facts.network);
		if (network?.value.implicit) await this.#networks.retire(network.value);
	}

	/** A container of ours; undefined also where it cannot be told: Docker, which is asked next, says what is wrong. */
	async contextOrNone(ref: string): Promise<ContainerContext | undefined> {
		try {
			return await contextOf(ref, this.#services);
		} catch (error) {
			this.#services.log.warn(
				{ ref, err: messageOf(error) },
				"container not looked up; its stop or removal goes on unnoted",
			);
			return undefined;
		}
	}
}

/** Seconds between Docker's first signal and its kill; less than none: it does not kill. */
function stopTimeout(container: ContainerInspect): number {
	const timeout = container.Config.StopTimeout;
	return typeof timeout === "number" ? timeout : 10;
}
