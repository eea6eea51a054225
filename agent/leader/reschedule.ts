import { type ContainerCreate, imagesOf } from "../../pipeline/docker.ts";
import { HttpError, messageOf } from "../../pipeline/errors.ts";
import type { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import {
	type BringImage,
	imageCarrier,
	isAnywhere,
} from "../../pipeline/lifecycle/image-carrier.ts";
import { Images } from "../../pipeline/lifecycle/images.ts";
import { inParallel } from "../../pipeline/parallel.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { type Body, isBody } from "../../pipeline/state/bodies.ts";
import {
	deleteService,
	lostNodes,
	nodeOf,
} from "../../pipeline/state/catalog.ts";
import type { ContainerRecord } from "../../pipeline/state/containers.ts";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { Deposed } from "../../pipeline/state/leader.ts";
import { isLease, leasedScope } from "../../pipeline/state/leases.ts";
import {
	MOVES,
	type Move,
	moveKey,
	NO_ADDRESS,
	type Superseded,
	supersededKey,
} from "../../pipeline/state/moves.ts";
import {
	Conflict,
	ignoreConflict,
	type Operation,
	replacing,
} from "../../pipeline/state/operations.ts";
import type { Repairs } from "../../pipeline/state/repairs.ts";
import type { CatalogService, Entry } from "../../pipeline/state/store.ts";
import { probe } from "./lost-hosts.ts";

/** A host that is back so soon after it was found lost keeps what it has. */
const PATIENCE_MS = 10_000;
/** How soon a container that could not be placed is tried again. */
const RETRY_MS = 10_000;
/** Containers that are made at once: images may have to be carried. */
const AT_ONCE = 4;

type Lost = Entry<ContainerRecord>;

/**
 * Starts containers elsewhere whose host is lost, if their label `arpanet.reschedule=on-host-failure` asks for it: those
 * that answered in DNS, so ran. What decides it is one commit: it fails unless this agent leads, the host is still
 * silent, and the record is as it was. From then on the new copy has the name, the address and all else, and what the host
 * has is superseded.
 */
export class Reschedule {
	readonly #services: Services;
	readonly #containers: ContainerLifecycle;
	readonly #repairs: Repairs;
	readonly #bringImage: BringImage;
	/** When, by a monotonic clock, each host was first seen to be lost. */
	readonly #since = new Map<string, number>();
	/** When containers that had to stay were tried last, by their records' keys. */
	readonly #tried = new Map<string, number>();
	/** When all containers of a lost host were considered last: until one is tried again, all records need not be read for it. */
	readonly #settled = new Map<string, number>();
	/** What has failed, by what it was about. */
	readonly #complained = new Map<string, string>();

	/** @param services with a fenced store, as `containers` has it */
	constructor(
		services: Services,
		containers: ContainerLifecycle,
		repairs: Repairs,
	) {
		this.#services = services;
		this.#containers = containers;
		this.#repairs = repairs;
		this.#bringImage = imageCarrier(services.cluster, new Images(services));
	}

	/** One look at all lost hosts; goes on with what has been begun, too. */
	async look(): Promise<void> {
		const { store, containers } = this.#services;
		const moves = await store.list<Move>(MOVES);
		const lost = (await this.#lost()).filter((host) => !this.#isSettled(host));
		if (moves.length + lost.length === 0) return;
		const records = lost.length > 0 ? await containers.list() : [];
		for (const host of lost) {
			const left = records.filter(
				({ key, value: { facts } }) =>
					facts.host === host &&
					facts.reschedule &&
					!containers.name(key).startsWith("."), // never got a name
			);
			if (left.length > 0 && (await this.#lives(host))) continue;
			if (await this.#considerAll(host, left, moves)) {
				this.#settled.set(host, performance.now());
			}
		}
		const begun = await store.list<Move>(MOVES);
		// one that carries an image keeps few waiting
		await inParallel(begun, AT_ONCE, async (move) => {
			await this.#pastErrors(move.key, () => this.#finish(move));
		});
	}

	#isSettled(host: string): boolean {
		const at = this.#settled.get(host);
		return at !== undefined && performance.now() - at < RETRY_MS;
	}

	/** @param left a lost host's containers that are to be started elsewhere @returns false if that of one has failed */
	async #considerAll(
		host: string,
		left: readonly Lost[],
		moves: readonly Entry<Move>[],
	): Promise<boolean> {
		if (left.length === 0) return true;
		const { store, containers } = this.#services;
		const registered = await store.nodeServices(nodeOf(host));
		let done = true;
		for (const entry of left) {
			const name = containers.name(entry.key);
			const begun = moves.find(({ key }) => key === moveKey(name));
			const considered = await this.#pastErrors(name, () =>
				this.#consider(entry, registered, begun),
			);
			done &&= considered;
		}
		return done;
	}

	/** What cannot be done now must not keep the rest from it; it is tried again, and told once. @returns whether it was done */
	async #pastErrors(what: string, work: () => Promise<void>): Promise<boolean> {
		try {
			await work();
			this.#complained.delete(what);
			return true;
		} catch (error) {
			if (error instanceof Conflict) return false; // it has changed, or the host is back
			if (error instanceof Deposed) throw error;
			const err = messageOf(error);
			if (this.#complained.get(what) !== err) {
				this.#services.log.warn({ what, err }, "cannot be started yet");
			}
			this.#complained.set(what, err);
			return false;
		}
	}

	/** Whether a lost host's machine answers after all: only arpanet and Consul are away, and its containers may run. */
	async #lives(host: string): Promise<boolean> {
		const { cluster, log } = this.#services;
		const lives = (await probe(await cluster.hosts.get(host))) !== "none";
		if (lives && !this.#complained.has(host)) {
			log.warn({ host }, "its machine answers: nothing is started elsewhere");
			this.#complained.set(host, "lives");
		}
		if (!lives) this.#complained.delete(host);
		return lives;
	}

	/** Hosts that have been lost for long enough. */
	async #lost(): Promise<string[]> {
		const { cluster, store } = this.#services;
		const silent = (await cluster.hosts.list()).filter(
			({ name, state, removed }) => !state && !removed && name !== cluster.self,
		);
		const nodes = silent.length > 0 ? await lostNodes(store) : new Set();
		const now = performance.now();
		const lost = silent
			.map(({ name }) => name)
			.filter((name) => nodes.has(nodeOf(name)));
		for (const name of this.#since.keys()) {
			if (!lost.includes(name)) this.#since.delete(name);
		}
		return lost.filter((name) => {
			const since = this.#since.get(name) ?? now;
			this.#since.set(name, since);
			return now - since > PATIENCE_MS;
		});
	}

	/** @param begun its move to that very host, if it was not done when the host was lost */
	async #consider(
		entry: Lost,
		registered: CatalogService[],
		begun: Entry<Move> | undefined,
	): Promise<void> {
		if (!entry.value.facts.address) return this.#stays(entry, NO_ADDRESS);
		const own = servicesOf(entry.value, registered);
		if (own.length === 0 && !begun) return; // it did not run
		const now = performance.now();
		const tried = this.#tried.get(entry.key);
		if (tried !== undefined && now - tried < RETRY_MS) return;
		try {
			await this.#claim(entry, own, begun);
			this.#tried.delete(entry.key);
		} catch (error) {
			if (!(error instanceof HttpError) || error.status >= 500) throw error;
			this.#tried.set(entry.key, now);
			await this.#stays(entry, error.message);
		}
	}

	/**
	 * Decides that a container is started elsewhere, by the same create as any gateway's.
	 * @throws HttpError why it cannot be
	 */
	async #claim(
		entry: Lost,
		own: CatalogService[],
		begun: Entry<Move> | undefined,
	): Promise<void> {
		const { deployment, host: from = "" } = entry.value.facts;
		const name = this.#services.containers.name(entry.key);
		const { create, connected, connect } = await this.#madeFrom(entry.value);
		await this.#containers.create({
			name,
			body: create,
			headers: deployment ? { "x-arpanet-deployment": deployment } : {},
			onlyHost: undefined,
			instead: {
				entry,
				connected,
				operations: (made) => {
					const to = made.Labels?.["arpanet.host"] ?? "";
					const move: Move = { from, to, create: made, connect };
					return [
						{ verb: "absent", key: hostKeys(from).beat },
						replacing(moveKey(name), begun, move),
						...this.#superseding(entry, own, move, begun?.value.id),
						this.#repairs.note({
							what: "container started elsewhere",
							to,
							why: `${from}, where it ran, is lost`,
							container: name,
						}),
					];
				},
			},
		});
		this.#services.log.warn({ container: name, from }, "started elsewhere");
	}

	/**
	 * What a container is made from elsewhere.
	 * @returns the body, all networks that it was connected to, and those to connect it to when it is made
	 * @throws HttpError 409 if that is lost, or an image of it
	 */
	async #madeFrom({ facts, holds }: ContainerRecord): Promise<{
		create: ContainerCreate;
		connected: Body["connected"];
		connect: Move["connect"];
	}> {
		const { store, cluster, networks } = this.#services;
		const key = holds.find(isBody);
		const body = key && (await store.get<Body>(key));
		if (!body) {
			throw new HttpError(
				409,
				"Consul has lost what it was made from; make it anew",
			);
		}
		const { connected } = body.value;
		for (const image of imagesOf(body.value.create)) {
			if (await isAnywhere(image, cluster)) continue;
			throw new HttpError(
				409,
				`no host that lives has image ${image}; docker pull it`,
			);
		}
		const ownNetwork = facts.network
			? (await networks.get(facts.network))?.value.name
			: undefined;
		const { [ownNetwork ?? ""]: again, ...connect } = connected;
		const create = withoutInherited(body.value.create);
		if (again && ownNetwork) {
			create.NetworkingConfig ??= {};
			create.NetworkingConfig.EndpointsConfig = {
				...create.NetworkingConfig.EndpointsConfig,
				[ownNetwork]: again,
			};
		}
		return { create, connected, connect };
	}

	/**
	 * The operations by which what a lost host has of a container is superseded, and DNS answers with it no more.
	 * @param own what is registered of it
	 * @param made id of the copy that an earlier move has made there
	 */
	#superseding(
		{ key, value: { holds } }: Lost,
		own: CatalogService[],
		{ from, to }: Move,
		made: string | undefined,
	): Operation[] {
		const value: Superseded = {
			container: this.#services.containers.name(key),
			to,
			scopes: holds.filter(isLease).map(leasedScope),
		};
		const ids = new Set([...own.map(({ Meta }) => Meta?.container), made]);
		return [
			...[...ids]
				.filter((id): id is string => Boolean(id))
				.map((id) => supersededKey(from, id))
				.map((key): Operation => ({ verb: "set", key, value })),
			...own.map((each) => deleteService(nodeOf(from), each)),
		];
	}

	/** Why a container stays where it is, for whoever asks; said once. */
	async #stays(entry: Lost, why: string): Promise<void> {
		if (entry.value.stays === why) return;
		const { store, containers, log } = this.#services;
		const container = containers.name(entry.key);
		const value: ContainerRecord = { ...entry.value, stays: why };
		const writing = store.commit([
			{ verb: "update", key: entry.key, value, index: entry.index },
			this.#repairs.note({
				what: "container not started elsewhere",
				to: entry.value.facts.host ?? "",
				why,
				container,
			}),
		]);
		if (!(await ignoreConflict(writing))) return;
		log.warn({ container, why }, "not started elsewhere");
	}

	/** Makes and starts what was decided; whatever of it is done already is success. */
	async #finish(entry: Entry<Move>): Promise<void> {
		const { store, containers, cluster, log } = this.#services;
		const { to, create, connect } = entry.value;
		const container = entry.key.slice(MOVES.length);
		const record = await containers.get(container);
		if (record?.value.facts.host !== to) {
			await store.commit([
				{ verb: "delete", key: entry.key, index: entry.index },
			]);
			return; // removed meanwhile
		}
		if (!(await cluster.hosts.get(to)).state) return; // lost too: it is considered again
		let { index } = entry;
		const note: Operation[] = [];
		let id: string | undefined;
		try {
			id = await this.#make(container, to, create);
			// nothing starts unless this agent still leads, and the move is as it was read
			index = await this.#noted(entry, id);
			await this.#start(id, to, connect);
			log.info({ container, host: to }, "runs again");
		} catch (error) {
			if (!isFinal(error, id !== undefined)) throw error;
			const why = error.message;
			log.warn({ container, host: to, why }, "does not start");
			const what = "container not started";
			note.push(this.#repairs.note({ what, to, why, container }));
		}
		await store.commit([{ verb: "delete", key: entry.key, index }, ...note]);
	}

	/** @returns index of the move with the id in it */
	async #noted(entry: Entry<Move>, id: string): Promise<number> {
		const { store } = this.#services;
		const value: Move = { ...entry.value, id };
		const { key, index } = entry;
		await store.commit([{ verb: "update", key, value, index }]);
		return (await store.get<Move>(key))?.index ?? 0;
	}

	/** @returns id of the container, which may be there already */
	async #make(
		name: string,
		to: string,
		create: ContainerCreate,
	): Promise<string> {
		const engine = await this.#services.cluster.engine(to);
		const there = await engine.containerNamed(name);
		const isIt =
			there?.Config.Labels?.["arpanet.slot"] ===
			create.Labels?.["arpanet.slot"];
		if (there && isIt) return there.Id;
		for (const image of imagesOf(create)) await this.#bringImage(image, to);
		const record = await this.#services.containers.get(name); // that took its time
		if (record?.value.facts.host !== to) {
			throw new HttpError(409, `${name} was removed meanwhile`); // the next look ends the move
		}
		const { Id } = await engine.post<{ Id: string }>(
			`/containers/create?name=${encodeURIComponent(name)}`,
			create,
		);
		await this.#containers.created(Id, name);
		return Id;
	}

	async #start(
		id: string,
		to: string,
		connect: Move["connect"],
	): Promise<void> {
		const engine = await this.#services.cluster.engine(to);
		const container = await engine.inspectContainer(id);
		for (const [network, EndpointConfig] of Object.entries(connect)) {
			if (container?.NetworkSettings.Networks[network]) continue;
			const asked = { Container: id, EndpointConfig };
			const body = await this.#containers.connections.connect(network, asked);
			await engine.post(
				`/networks/${encodeURIComponent(network)}/connect`,
				body ?? asked,
			);
		}
		await this.#containers.starting(id);
		await engine.post(`/containers/${id}/start`);
	}
}

/**
 * Whether the engine would say so again. While it is being made, only of what it is asked to make (400): an image may come
 * yet, a disk may be emptied, and a name in use may be that of the engine's own old copy.
 * @param made the container is there, and does not start
 */
function isFinal(error: unknown, made: boolean): error is HttpError {
	if (!(error instanceof HttpError)) return false;
	if (!made) return error.status === 400;
	return ![409, 502, 503, 504].includes(error.status);
}

/** What is registered of a container that was there when its host was lost. */
function servicesOf(
	{ facts: { address } }: ContainerRecord,
	registered: CatalogService[],
): CatalogService[] {
	const ids = registered
		.filter(({ Address }) => Address === address)
		.map(({ Meta }) => Meta?.container);
	return registered.filter(({ Meta }) => ids.includes(Meta?.container));
}

/** How Compose keeps a container on the host of the one that it replaces. */
const BESIDE_THE_OLD = /^affinity:container==[0-9a-f]{64}$/;
/** A volume without a name, by its id, and the path where it is mounted. */
const INHERITED = /^[0-9a-f]{64}(?::([^:]+)|$)/;

/**
 * What a container is made from elsewhere. To the one that replaces another Compose hands on its volumes without a name, by
 * their ids and with an affinity; elsewhere they begin empty, as they did for the first.
 */
export function withoutInherited(body: ContainerCreate): ContainerCreate {
	const create = structuredClone(body);
	create.Env = create.Env?.filter((pair) => !BESIDE_THE_OLD.test(pair));
	const { Binds, Mounts } = create.HostConfig ?? {};
	if (create.HostConfig && Array.isArray(Binds)) {
		const paths = Binds.flatMap((bind) => INHERITED.exec(bind)?.[1] ?? []);
		create.HostConfig.Binds = Binds.filter((bind) => !INHERITED.test(bind));
		create.Volumes = {
			...(create.Volumes as object),
			...Object.fromEntries(paths.map((path) => [path, {}])),
		};
	}
	for (const mount of Array.isArray(Mounts) ? Mounts : []) {
		if (INHERITED.test(mount?.Source)) delete mount.Source;
	}
	return create;
}
