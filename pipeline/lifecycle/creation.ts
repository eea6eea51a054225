import { isUnheard } from "../answers.ts";
import type { Chain } from "../chain.ts";
import { PATIENCE_MS } from "../cluster.ts";
import { type ContainerCreate, networksAsked } from "../docker.ts";
import { HttpError } from "../errors.ts";
import {
	isDisabled,
	rescheduleAsked,
	withoutForged,
	writeLabels,
} from "../facts.ts";
import type { CreateContext, Facts, Services } from "../plugin.ts";
import type { HookHeaders } from "../protocol.ts";
import { type Body, newBodyKey } from "../state/bodies.ts";
import {
	type ContainerRecord,
	type Reasons,
	reasonsKey,
	takenOver,
} from "../state/containers.ts";
import { isLease, leaseOf } from "../state/leases.ts";
import { Conflict, keyIn, type Operation } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";
import { forgetIds } from "./endpoints.ts";
import { followName, holderOf } from "./holder.ts";
import { Holds, replacedBy } from "./holds.ts";
import { inUse, Names } from "./names.ts";

/** Characters of a plugin's reason that are kept: a cluster of many hosts has much to say of each. */
const MAX_REASON = 400;

/** Tries before a create gives up against other creates that want the same. */
const MAX_TRIES = 50;

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

/** One run of the chain, and what it wants to write. */
interface Attempt {
	context: CreateContext;
	holds: Holds;
	/** What the plugins write, beside what the container holds. */
	operations: Operation[];
	because: Record<string, string>;
	/** What is written in the place of a lost copy. */
	further: Operation[];
}

/**
 * One create: the chain runs over its body, and what it acquired is committed in one transaction. If that loses against
 * another's, the chain runs again and knows the conflicts.
 */
export class Creation {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #names: Names;
	readonly #request: CreateRequest;
	/** The body without labels that only arpanet gives and ids of its networks; undefined if it has none of them. */
	#cleaned: ContainerCreate | undefined;
	/** The same, or the client's own. */
	readonly #body: ContainerCreate;
	/** Name under which it is on record. */
	readonly #recordName: string;
	readonly #conflicts: Operation[] = [];
	/** What an earlier create of that name left, if no container came of it. */
	#previous: Entry<ContainerRecord> | undefined;
	/** The container that Compose makes anew. */
	#replaced: Entry<ContainerRecord> | undefined;
	/** The reasons outlived their record, so they may be overwritten. */
	#unrecorded = false;

	constructor(chain: Chain, services: Services, request: CreateRequest) {
		this.#chain = chain;
		this.#services = services;
		this.#names = new Names(services);
		this.#request = request;
		this.#cleaned = withoutForged(request.body);
		this.#body = this.#cleaned ?? request.body;
		this.#recordName = recordName(request.name, request.headers);
		this.#previous = request.instead?.entry;
	}

	/**
	 * @returns the body to create with; undefined if it is none of ours, has nothing to be taken out, and goes on untouched
	 * @throws HttpError with nothing left acquired; Conflict if the copy for which it is made is not lost after all
	 */
	async run(): Promise<ContainerCreate | undefined> {
		const endpoints = this.#body.NetworkingConfig?.EndpointsConfig ?? {};
		if (await forgetIds(endpoints, this.#services)) this.#cleaned = this.#body;
		if (isDisabled(this.#body.Labels)) {
			await this.#mustStayOut();
			return this.#cleaned;
		}
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const attempt = this.#attempt();
			try {
				await this.#chain.acquire("create", attempt.context, (position) =>
					this.#undo(attempt.context.facts, position),
				);
				const { facts } = attempt.context;
				if (Object.keys(facts).length === 0) return this.#cleaned;
				// by its host it is known as ours; where nobody has placed it, it is on the only one
				facts.host ??= this.#request.onlyHost ?? this.#services.host.name;
				facts.made = crypto.randomUUID().slice(0, 8);
				await this.#commit(attempt);
				return attempt.context.body;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				await this.#learn(error, attempt);
			}
		}
		const key = keyIn(this.#conflicts.at(-1));
		throw new HttpError(
			503,
			`too many creates at once wanted the same as ${this.#request.name ?? "this one"} (${key}); try again`,
		);
	}

	#attempt(): Attempt {
		const { name, headers, onlyHost, instead } = this.#request;
		const previous = this.#previous?.value;
		const operations: Operation[] = [];
		const holds = instead
			? new Holds(operations, [], instead.entry)
			: new Holds(operations, previous?.holds, this.#replaced);
		const because: Record<string, string> = {};
		const lostHost = instead?.entry.value.facts.host;
		if (lostHost) because.reschedule = `${lostHost}, where it ran, is lost`;
		const context: CreateContext = {
			name,
			headers,
			onlyHost,
			previous,
			body: structuredClone(this.#body),
			facts: {},
			verdicts: [],
			explain: (plugin, why) => {
				because[plugin] = why.slice(0, MAX_REASON);
			},
			networks: [],
			recordName: this.#recordName,
			replaced: instead ? undefined : this.#replaced?.value,
			...(lostHost ? { lostHost } : {}),
			conflicts: this.#conflicts,
			commit: (operation) => operations.push(operation),
			hold: (key, value) => holds.add(key, value),
		};
		return { context, holds, operations, because, further: [] };
	}

	/** @throws Conflict, or HttpError 400 for a label that is not known, with nothing written, and nothing left acquired */
	async #commit(attempt: Attempt): Promise<void> {
		const { context, holds, operations } = attempt;
		const { headers, instead, name } = this.#request;
		const previous = this.#previous;
		const request = headers["x-arpanet-request"];
		const key = this.#services.containers.key(this.#recordName);
		const given = previous?.value.holds ?? [];
		try {
			this.#holdMore(attempt);
			writeLabels(context.body, context.facts);
			attempt.further = instead?.operations(context.body) ?? [];
			const tookOver = takenOver(previous?.value.tookOver, holds.tookOver);
			const value: ContainerRecord = {
				facts: context.facts,
				holds: holds.keys,
				...(request ? { request } : {}),
				attempts: (previous?.value.attempts ?? 0) + 1,
				...(!instead && tookOver ? { tookOver } : {}),
			};
			await this.#services.store.commit([
				previous
					? { verb: "update", key, value, index: previous.index }
					: { verb: "create", key, value },
				...this.#nameIsFree(name),
				...operations,
				...attempt.further,
				...(instead ? [] : holds.handOver()),
				...given
					.filter((held) => !holds.keys.includes(held))
					.map((held): Operation => ({ verb: "delete", key: held })),
			]);
		} catch (error) {
			await this.#undo(context.facts);
			throw error;
		}
	}

	/**
	 * What a container holds that no plugin gave it: the reasons, and what it takes to start it elsewhere.
	 * @throws HttpError 400
	 */
	#holdMore({ context, holds, because }: Attempt): void {
		const { instead } = this.#request;
		const reasons: Reasons = {
			at: new Date().toISOString(),
			by: this.#services.host.name,
			because,
		};
		// a second key with the name: if the record is deleted, this one still keeps the name taken
		const key = reasonsKey(this.#recordName);
		if (this.#previous || this.#unrecorded) holds.set(key, reasons);
		else holds.add(key, reasons);
		const reschedule = rescheduleAsked(this.#body.Labels);
		const { service, serviceFrom } = context.facts;
		const isNamed = context.name !== undefined || serviceFrom !== "name";
		if (reschedule && service && isNamed) {
			context.facts.reschedule = reschedule;
			const connected = instead?.connected ?? {};
			const kept: Body = { create: this.#body, connected };
			holds.set(newBodyKey(this.#recordName), kept);
		}
		for (const lease of instead?.entry.value.holds.filter(isLease) ?? []) {
			if (holds.keys.includes(lease)) continue; // else for a network that it is connected to later
			holds.set(lease, leaseOf(context.facts, this.#recordName));
		}
	}

	/**
	 * A commit lost: finds out what that means for the next try.
	 * @throws HttpError 409 if the name is another's; the Conflict if the copy is not lost after all
	 */
	async #learn(error: Conflict, attempt: Attempt): Promise<void> {
		const { further, context } = attempt;
		const { name, instead } = this.#request;
		if (name && this.#names.isTaken(error)) {
			await this.#names.retry(name);
			return;
		}
		if (isAbout(error, reasonsKey(this.#recordName))) {
			await this.#mustBeGone(this.#recordName);
			this.#unrecorded = true;
		}
		this.#conflicts.push(error.operation);
		const isAnother = isAbout(
			error,
			this.#services.containers.key(this.#recordName),
		);
		if (instead && (isAnother || further.includes(error.operation))) {
			throw error;
		}
		if (isAnother) this.#previous = await this.#leftBehind(this.#recordName);
		this.#replaced = await replacedBy(
			{ container: this.#recordName, ...context.facts },
			this.#conflicts,
			this.#services,
		);
	}

	/**
	 * The record that an earlier create of that name left, if no container came of it.
	 * @throws HttpError 409, in Docker's words, if one did; 503 if its host does not answer
	 */
	async #leftBehind(name: string): Promise<Entry<ContainerRecord> | undefined> {
		const { containers } = this.#services;
		const entry = await containers.get(name);
		const holder = entry && (await this.#holder(entry));
		if (!holder) return entry && containers.shed(entry);
		if (!holder.Names.includes(`/${name}`)) {
			await followName(holder.Id, this.#services); // its record had not followed yet
			return undefined;
		}
		throw inUse(name, holder.Id);
	}

	async #holder(entry: Entry<ContainerRecord>) {
		try {
			return await holderOf(entry, this.#services);
		} catch (error) {
			if (!isUnheard(error)) throw error;
			const { host } = entry.value.facts;
			throw new HttpError(
				503,
				`container name "/${this.#recordName}" is on record on host ${host}, which does not answer; bring it back, or arpanet host rm ${host}`,
				{ cause: error },
			);
		}
	}

	/**
	 * Something is left of a container that is not on record: someone deleted its record, or it has another name now.
	 * @throws HttpError 409, in Docker's words, if any host has a container of that name
	 */
	async #mustBeGone(name: string): Promise<void> {
		const found = await this.#services.locator.find(name, PATIENCE_MS);
		const { Id, Name } = found?.container ?? {};
		if (Id && Name === `/${name}`) throw inUse(name, Id);
	}

	/**
	 * Docker alone would give it an address there that is leased to another, on this host or elsewhere.
	 * @throws HttpError 400
	 */
	async #mustStayOut(): Promise<void> {
		for (const name of networksAsked(this.#body)) {
			// its engine knows, also without Consul
			const network = await this.#services.engine.inspectNetwork(name);
			if (!network?.Labels?.["arpanet.network"]) continue;
			throw new HttpError(
				400,
				`label arpanet.enabled=false: network ${name} is arpanet's, where who has no lease could get another's address; use network_mode bridge or host, or give the network that label, too`,
			);
		}
	}

	/** With one host, its engine alone knows. */
	#nameIsFree(name: string | undefined): Operation[] {
		const { alone } = this.#services.cluster;
		return name && !alone ? [this.#names.free(name)] : [];
	}

	async #undo(facts: Facts, from?: number): Promise<void> {
		const context = { id: undefined, facts, holds: [] };
		await this.#chain.release("removed", context, from);
	}
}

/** A container without a name is on record under its request until the agent learns the name Docker made up. */
export function recordName(
	name: string | undefined,
	headers: HookHeaders,
): string {
	return name ?? `.${headers["x-arpanet-request"] ?? crypto.randomUUID()}`;
}

function isAbout({ operation }: Conflict, key: string): boolean {
	return keyIn(operation) === key;
}
