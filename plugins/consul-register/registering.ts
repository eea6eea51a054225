import { isDeepStrictEqual } from "node:util";
import type {
	ContainerContext,
	Facts,
	Services,
} from "../../pipeline/plugin.ts";
import type { Aliased, NamedAlias } from "../../pipeline/state/aliases.ts";
import { deleteService } from "../../pipeline/state/catalog.ts";
import { LEAVING, type Leaving } from "../../pipeline/state/leaving.ts";
import { isCurrent } from "../../pipeline/state/moves.ts";
import { Conflict, type Operation } from "../../pipeline/state/operations.ts";
import type { CatalogService } from "../../pipeline/state/store.ts";
import {
	isOf,
	nodeFor,
	ofContainer,
	ofNumber,
	registration,
} from "./entries.ts";

/** How often another may be faster before that is an error. */
const MAX_TRIES = 20;

/** What is written in one commit beside three more: Consul takes 64 operations. Even, so that a service and its check stay together. */
const MAX_TOGETHER = 60;

/**
 * Registers a container without a look at what is there, as most that start can be: nothing of them is registered, no stop of theirs
 * was announced, and their deployment has no aliases. The commit fails if any of that is not so. Aliases that were seen before are read.
 * @returns false if it failed, or if there is more to do: then look
 */
export async function registerUnseen(
	copy: ContainerContext,
	aliased: Aliased,
	services: Services,
): Promise<boolean> {
	const { container, facts } = copy;
	const { deployment = "", host = services.host.name } = facts;
	const none = aliased.none(deployment);
	const named = none ? [] : await aliased.read(deployment);
	const wanted = await registration(copy, named, [], services);
	const inNone = wanted.length === 1;
	if (inNone || wanted.length > MAX_TOGETHER) return false;
	try {
		await services.store.commit([
			isCurrent(host, container.Id),
			{ verb: "absent", key: LEAVING + container.Id },
			...(none ? [none] : []),
			...wanted.map(ifNew),
		]);
		return true;
	} catch (error) {
		if (!(error instanceof Conflict)) throw error;
		aliased.learn([error.operation]);
		return false;
	}
}

/**
 * Registers a container that runs, and takes out what is registered of it for networks that it has left; nothing while a stop of it is
 * announced, unless that has just come to its end, and the container runs all the same, or again.
 */
export async function register(
	copy: ContainerContext,
	aliased: Aliased,
	services: Services,
): Promise<void> {
	const { container, facts, after } = copy;
	const { store, host } = services;
	const key = LEAVING + container.Id;
	const current = isCurrent(facts.host ?? host.name, container.Id);
	for (let tries = 0; ; tries++) {
		const [mark, named, all] = await Promise.all([
			store.get<Leaving>(key),
			aliased.read(facts.deployment ?? ""),
			store.nodeServices(
				nodeFor(facts, services),
				[ofContainer(container.Id), ...ofNumber(facts)].join(" or "),
			),
		]);
		const isLeaving = mark?.value.startedAt === container.State.StartedAt;
		if (isLeaving && after !== "stop") return;
		const [ofHost, ...operations] = await missing(copy, named, all, services);
		let unannounced: Operation = mark
			? { verb: "delete", key, index: mark.index }
			: { verb: "absent", key };
		try {
			while (operations.length > 0) {
				await store.commit([
					current,
					unannounced,
					...(ofHost ? [ofHost] : []),
					...operations.splice(0, MAX_TOGETHER),
				]);
				unannounced = { verb: "absent", key };
			}
			return;
		} catch (error) {
			const isAnnounced =
				error instanceof Conflict && error.operation === unannounced;
			if (!isAnnounced || tries === MAX_TRIES) throw error;
		}
	}
}

/** What a container's registration has to write, that of its host first; hook and event both tell of a start: the second finds nothing. */
async function missing(
	copy: ContainerContext,
	named: NamedAlias[],
	all: CatalogService[],
	services: Services,
): Promise<Operation[]> {
	const { container, facts } = copy;
	const wanted = await registration(copy, named, all, services);
	const registered = all.filter((each) => isOf(container, each));
	const left = leftNetworks(wanted, registered);
	const hasCheck = container.State.Health && servicesIn(wanted).length > 0;
	if (!hasCheck && left.length === 0 && isRegistered(wanted, registered))
		return [];
	const node = nodeFor(facts, services);
	return [...wanted, ...left.map((each) => deleteService(node, each))];
}

/** A registration that fails if there is a service of that ID. */
function ifNew(wanted: Operation): Operation {
	if (wanted.verb !== "catalog" || !("Service" in wanted.operation)) {
		return wanted;
	}
	const { Service } = wanted.operation;
	return {
		verb: "catalog",
		operation: { Service: { ...Service, Verb: "cas" } },
	};
}

/** Takes a container that does not run out of the catalog. */
export async function leave(
	id: string,
	facts: Facts,
	services: Services,
): Promise<void> {
	const node = nodeFor(facts, services);
	const [mark, registered] = await Promise.all([
		services.store.get(LEAVING + id),
		services.store.nodeServices(node, ofContainer(id)),
	]);
	if (!mark && registered.length === 0) return;
	await deregister(id, facts, services, { verb: "delete", key: LEAVING + id });
}

/**
 * Deletes what is registered of this very container, with one more operation in the same
 * transaction. A new copy of the same number may take over the ServiceID at any moment: then it is looked
 * at again.
 */
export async function deregister(
	id: string,
	facts: Facts,
	services: Services,
	mark: Operation,
): Promise<void> {
	const node = nodeFor(facts, services);
	for (let tries = 0; ; tries++) {
		const registered = await services.store.nodeServices(node, ofContainer(id));
		try {
			await services.store.commit([
				mark,
				...registered
					.slice(0, MAX_TOGETHER)
					.map((each) => deleteService(node, each)),
			]);
			if (registered.length <= MAX_TOGETHER) return;
		} catch (error) {
			if (!(error instanceof Conflict) || tries === MAX_TRIES) throw error;
		}
	}
}

function servicesIn(wanted: Operation[]): Partial<CatalogService>[] {
	return wanted.flatMap((each) =>
		each.verb === "catalog" && "Service" in each.operation
			? [each.operation.Service.Service as Partial<CatalogService>]
			: [],
	);
}

/** What is registered for networks that the container is in no longer. */
function leftNetworks(
	wanted: Operation[],
	registered: CatalogService[],
): CatalogService[] {
	const ids = new Set(servicesIn(wanted).map(({ ID }) => ID));
	return registered.filter(({ ID }) => !ids.has(ID));
}

/** Whether the catalog says already what a registration would write. */
function isRegistered(
	wanted: Operation[],
	registered: CatalogService[],
): boolean {
	return servicesIn(wanted).every((service) =>
		registered.some(
			({ ID, Address, Tags }) =>
				ID === service.ID &&
				Address === service.Address &&
				isDeepStrictEqual(Tags, service.Tags),
		),
	);
}
