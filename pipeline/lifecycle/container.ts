import type { Chain } from "../chain.ts";
import type { ContainerCreate, ContainerInspect } from "../docker.ts";
import { HttpError } from "../errors.ts";
import {
	isDisabled,
	readLabels,
	rescheduleAsked,
	stripLabels,
	writeLabels,
} from "../facts.ts";
import type {
	ContainerContext,
	CreateContext,
	Facts,
	Services,
} from "../plugin.ts";
import type { HookHeaders } from "../protocol.ts";
import { type Body, newBodyKey } from "../state/bodies.ts";
import {
	type ContainerRecord,
	type Holding,
	isHandedOver,
	type Reasons,
	reasonsKey,
} from "../state/containers.ts";
import { isLease, leaseOf } from "../state/leases.ts";
import { isSuperseded } from "../state/moves.ts";
import { Removals } from "../state/removals.ts";
import { withoutId } from "../state/slots.ts";
import {
	Conflict,
	type Entry,
	ignoreConflict,
	type Operation,
} from "../state/store.ts";
import { Connections } from "./connections.ts";
import { Holds } from "./holds.ts";
import { inUse, Names } from "./names.ts";
import type { NetworkLifecycle } from "./network.ts";

/** Characters of a plugin's reason that are kept: a cluster of many hosts has much to say of each. */
const MAX_REASON = 400;

/** Tries before a create gives up against other creates that want the same. */
const MAX_TRIES = 50;

/** How long a host may seem silent that is asked whether it has a container. */
const PATIENCE_MS = 5_000;

export interface CreateRequest {
	/** `?name=`, if the client gave one. */
	name: string | undefined;
	body: ContainerCreate;
	headers: HookHeaders;
	onlyHost: string | undefined;
	/** The copy for which this one is made, if that is lost with its host. */
	instead?: Instead;
}

/** A copy that is lost with its host, and what is made of it. */
export interface Instead {
	/** Its record: what it holds the new copy takes over, in one commit that fails if the record has changed. */
	entry: Entry<ContainerRecord>;
	/** What it was connected with since it was made. */
	connected: Body["connected"];
	/** What else goes into that commit. @param body as the engine is to be given it */
	operations(body: ContainerCreate): Operation[];
}

/**
 * What happens to containers, told to the plugins in the right order and written to Consul. Hooks and the agent's events both come through here, often about the same
 * thing, so everything can be said twice.
 */
export class ContainerLifecycle {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #networks: NetworkLifecycle;
	readonly #removals: Removals;
	readonly #names: Names;
	/** The further networks that containers are connected to. */
	readonly connections: Connections;

	constructor(chain: Chain, services: Services, networks: NetworkLifecycle) {
		this.#chain = chain;
		this.#services = services;
		this.#networks = networks;
		this.#removals = new Removals(services.store);
		this.#names = new Names(services);
		this.connections = new Connections(chain, services, this);
	}

	/**
	 * Runs the chain over a create body and commits what it acquired in one transaction.
	 * @returns the body to create with; undefined if it is none of ours and goes on untouched
	 * @throws HttpError with nothing left acquired; Conflict if the copy for which it is made is not lost after all
	 */
	async create(request: CreateRequest): Promise<ContainerCreate | undefined> {
		const stripped = structuredClone(request.body);
		stripLabels(stripped);
		const untouched = () =>
			changedLabels(request.body, stripped) ? stripped : undefined;
		if (isDisabled(stripped.Labels)) return untouched();
		const reschedule = rescheduleAsked(stripped.Labels);
		const record = recordName(request.name, request.headers);
		const { instead } = request;
		const lost: Operation[] = [];
		let previous = instead?.entry;
		let replaced: Entry<ContainerRecord> | undefined;
		let unrecorded = false;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const operations: Operation[] = [];
			const holds = instead
				? new Holds(operations, [], instead.entry)
				: new Holds(operations, previous?.value.holds, replaced);
			const because: Record<string, string> = {};
			const lostHost = instead?.entry.value.facts.host;
			if (lostHost) because.reschedule = `${lostHost}, where it ran, is lost`;
			const context: CreateContext = {
				name: request.name,
				body: structuredClone(stripped),
				facts: {},
				verdicts: [],
				explain: (plugin, why) => {
					because[plugin] = why.slice(0, MAX_REASON);
				},
				networks: [],
				headers: request.headers,
				onlyHost: request.onlyHost,
				record,
				previous: previous?.value,
				replaced: replaced?.value,
				...(lostHost ? { lostHost } : {}),
				lost,
				commit: (operation) => operations.push(operation),
				hold: (key, value) => holds.add(key, value),
			};
			let further: Operation[] = [];
			try {
				await this.#chain.acquire("create", context, (position) =>
					this.#undo(context.facts, position),
				);
				if (Object.keys(context.facts).length === 0) {
					return untouched();
				}
				const at = new Date().toISOString();
				const by = this.#services.host.name;
				const reasons: Reasons = { at, by, because };
				// a second key that has the name in it: who loses the record does not lose the name
				if (previous || unrecorded) holds.set(reasonsKey(record), reasons);
				else holds.add(reasonsKey(record), reasons);
				if (reschedule && context.facts.service) {
					context.facts.reschedule = reschedule;
					const { connected = {} } = instead ?? {};
					const kept: Body = { create: stripped, connected };
					holds.set(newBodyKey(record), kept);
				}
				for (const key of instead?.entry.value.holds.filter(isLease) ?? []) {
					if (holds.keys.includes(key)) continue; // else for a network that it is connected to later
					holds.set(key, leaseOf(context.facts, record));
				}
				writeLabels(context.body, context.facts);
				further = instead?.operations(context.body) ?? [];
				const value: ContainerRecord = {
					facts: context.facts,
					holds: holds.keys,
					attempts: (previous?.value.attempts ?? 0) + 1,
					...(!instead && holds.tookOver ? { tookOver: true } : {}),
				};
				const key = this.#services.containers.key(record);
				const commit = this.#services.store.commit([
					previous
						? { verb: "update", key, value, index: previous.index }
						: { verb: "create", key, value },
					...this.#nameIsFree(request.name),
					...operations,
					...further,
					...(instead ? [] : holds.handOver()),
					...(previous?.value.holds ?? [])
						.filter((held) => !holds.keys.includes(held))
						.map((held): Operation => ({ verb: "delete", key: held })),
				]);
				await commit.catch(async (error) => {
					await this.#undo(context.facts);
					throw error;
				});
				return context.body;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				if (request.name && this.#names.isTaken(error)) {
					await this.#names.retry(request.name);
					continue;
				}
				if (lostKey(error, reasonsKey(record))) {
					await this.#mustBeGone(record);
					unrecorded = true;
				}
				lost.push(error.operation);
				const isAnother = lostKey(error, this.#services.containers.key(record));
				if (instead && (isAnother || further.includes(error.operation))) {
					throw error;
				}
				if (isAnother) {
					previous = await this.#leftBehind(record);
				}
				replaced = await this.replaced(record, lost);
			}
		}
		throw new HttpError(
			503,
			`too many creates at once wanted the same as ${request.name ?? "this one"}; try again`,
		);
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
		// Another create of the same name may be under way with this very record: the sweep will know.
		if (entry.value.attempts > 1) return;
		if (await this.#holder(entry)) return;
		await this.giveBack(entry, undefined);
	}

	/** Docker created a container. */
	async created(id: string, name: string | undefined): Promise<void> {
		if (!this.#chain.has("created")) return;
		const container = (await this.#services.cluster.find(id))?.container;
		if (!container || !isOurs(container)) return;
		const facts = readLabels(container.Config.Labels);
		await this.#chain.acquire("created", { id, name, facts });
	}

	/** Docker is about to start a container. @throws HttpError when a plugin refuses */
	async starting(ref: string): Promise<void> {
		if (isSuperseded(ref)) {
			throw new HttpError(
				409,
				`container ${ref} was started elsewhere while its host was lost, and its address is that one's now; docker rm ${ref}`,
			); // by its id it can be started: then its host's agent stops it
		}
		if (!this.#chain.has("start")) return;
		const context = await this.context(ref);
		if (context) await this.#chain.acquire("start", context);
	}

	/** Docker is about to stop, kill, pause or remove a container; errors are logged, the stop goes on. */
	async stopping(ref: string, seconds: number | undefined): Promise<void> {
		const context = await this.context(ref);
		if (!context?.container.State.Running) return;
		const grace = seconds ?? stopTimeout(context.container);
		await this.#chain.release("stop", { ...context, grace });
	}

	/**
	 * A container's state may have changed: tells the plugins what is true now.
	 * @param settled Docker has just answered a stop, restart or pause of it
	 * @throws HttpError of the first plugin that failed
	 */
	async observe(ref: string, settled = false): Promise<void> {
		const context = await this.context(ref);
		if (!context) return;
		const { Running, Paused, Restarting } = context.container.State;
		const isOther = isSuperseded(context.container.Name);
		if (Running && !Paused && !Restarting && !isOther) {
			await this.#chain.acquire("started", { ...context, settled });
			return;
		}
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
		const another = doubtful && (await this.#holder(entry));
		if (entry && !another) await this.giveBack(entry, id);
		else await this.#chain.release("removed", { id, facts, holds: [] });
	}

	/** A container has a new name; its record goes with it. */
	async renamed(ref: string): Promise<void> {
		const context = await this.context(ref);
		if (!context) return;
		const { containers, store } = this.#services;
		const name = context.container.Name.slice(1);
		const entry = await containers.find(name, context.facts);
		if (!entry || entry.key === containers.key(name)) return;
		const holder = await this.#holder(entry);
		if (holder?.Names.includes(`/${containers.name(entry.key)}`)) return; // of an image committed from that one
		await ignoreConflict(store.commit(await containers.rename(entry, name)));
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

	/** With one host, its engine alone knows. */
	#nameIsFree(name: string | undefined): Operation[] {
		const { alone } = this.#services.cluster;
		return name && !alone ? [this.#names.free(name)] : [];
	}

	/**
	 * The record that an earlier create of that name left, if no container came of it.
	 * @throws HttpError 409, in Docker's words, if one did
	 */
	async #leftBehind(name: string): Promise<Entry<ContainerRecord> | undefined> {
		const entry = await this.#services.containers.get(name);
		const holder = entry && (await this.#holder(entry));
		if (!holder) return entry;
		if (!holder.Names.includes(`/${name}`)) {
			await this.renamed(holder.Id); // its record had not followed yet
			return undefined;
		}
		throw inUse(name, holder.Id);
	}

	/**
	 * Something is left of a container that is not on record: someone deleted its record, or it has another name now.
	 * @throws HttpError 409, in Docker's words, if any host has a container of that name
	 */
	async #mustBeGone(name: string): Promise<void> {
		const found = await this.#services.cluster.find(name, PATIENCE_MS);
		const { Id, Name } = found?.container ?? {};
		if (Id && Name === `/${name}`) throw inUse(name, Id);
	}

	/**
	 * The record that holds what was asked for in vain, if it is that of the same copy: Compose makes a container
	 * anew beside the old one, whose id it puts before the name of either.
	 */
	async replaced(
		name: string,
		lost: readonly Operation[],
	): Promise<Entry<ContainerRecord> | undefined> {
		const keys = lost
			.map((operation) => ("key" in operation ? operation.key : ""))
			.filter(isHandedOver);
		for (const key of new Set(keys.reverse())) {
			const holder = (await this.#services.store.get<Holding>(key))?.value
				.container;
			if (!holder || holder === name) continue;
			if (withoutId(holder) !== withoutId(name)) continue;
			const record = await this.#services.containers.get(holder);
			if (record) return record;
		}
		return undefined;
	}

	/** The container that holds the lease of a record, of several the one of its name; or, without a lease, has its name. */
	async #holder(
		entry: Entry<ContainerRecord>,
	): Promise<{ Id: string; Names: string[] } | undefined> {
		const { address, network, host } = entry.value.facts;
		const engine = await this.#services.cluster.engine(host);
		const name = this.#services.containers.name(entry.key);
		if (!address || !network) {
			const found = await engine.inspectContainer(name);
			return found && { Id: found.Id, Names: [found.Name] };
		}
		const holders = (
			await engine.listContainers(`arpanet.address=${address}`)
		).filter(
			({ Labels, Names }) =>
				Labels["arpanet.network"] === network && !Names.some(isSuperseded),
		);
		return (
			holders.find(({ Names }) => Names.includes(`/${name}`)) ?? holders[0]
		);
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
		await ignoreConflict(
			this.#services.store.commit([
				{ verb: "delete", key: entry.key, index: entry.index },
				...holds.map((key): Operation => ({ verb: "delete", key })),
				...note,
			]),
		);
		if (!facts.network) return;
		const network = await this.#services.networks.get(facts.network);
		if (network?.value.implicit) await this.#networks.retire(network.value);
	}

	async #undo(facts: Facts, from?: number): Promise<void> {
		const context = { id: undefined, facts, holds: [] };
		await this.#chain.release("removed", context, from);
	}

	/** A container of ours by id, prefix or name. */
	async find(ref: string): Promise<ContainerInspect | undefined> {
		return (await this.context(ref))?.container;
	}

	/** A container of ours, as the engine shows it now. */
	async context(ref: string): Promise<ContainerContext | undefined> {
		const container = (await this.#services.cluster.find(ref))?.container;
		if (!container || !isOurs(container)) return undefined;
		return { container, facts: readLabels(container.Config.Labels) };
	}
}

/** Whether a container went through the chain. */
export function isOurs(container: ContainerInspect): boolean {
	return Boolean(container.Config.Labels?.["arpanet.host"]);
}

/** A container without a name is on record under its request until the agent learns the name Docker made up. */
function recordName(name: string | undefined, headers: HookHeaders): string {
	return name ?? `.${headers["x-arpanet-request"] ?? crypto.randomUUID()}`;
}

function changedLabels(
	before: ContainerCreate,
	after: ContainerCreate,
): boolean {
	return (
		Object.keys(before.Labels ?? {}).length !==
		Object.keys(after.Labels ?? {}).length
	);
}

function lostKey({ operation }: Conflict, key: string): boolean {
	return "key" in operation && operation.key === key;
}

/** Seconds between Docker's first signal and its kill. */
function stopTimeout(container: ContainerInspect): number {
	const timeout = container.Config.StopTimeout;
	return typeof timeout === "number" ? timeout : 10;
}
