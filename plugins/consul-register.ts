import { isDeepStrictEqual } from "node:util";
import {
	type ContainerInspect,
	type ContainerSummary,
	ownName,
} from "../pipeline/docker.ts";
import { readLabels } from "../pipeline/facts.ts";
import {
	definePlugin,
	type Facts,
	type Hooks,
	type Services,
} from "../pipeline/plugin.ts";
import {
	Aliased,
	allAliases,
	type NamedAlias,
} from "../pipeline/state/aliases.ts";
import { deleteService } from "../pipeline/state/catalog.ts";
import { LEAVING, type Leaving } from "../pipeline/state/leaving.ts";
import { isCurrent } from "../pipeline/state/moves.ts";
import {
	Conflict,
	ignoreConflict,
	type Operation,
} from "../pipeline/state/operations.ts";
import { Ripening } from "../pipeline/state/ripening.ts";
import type { CatalogService } from "../pipeline/state/store.ts";
import {
	checkId,
	copyId,
	dnsId,
	isOf,
	namesOf,
	nodeFor,
	ofContainer,
	ofNumber,
	registration,
} from "./consul-register/entries.ts";

/** How often another may be faster before that is an error. */
const MAX_TRIES = 20;

/** What is written in one commit beside two more: Consul takes 64 operations. Even, so that a service and its check stay together. */
const MAX_TOGETHER = 60;

/** Time that Docker may need beyond the container's own grace before its process is dead. */
const MARGIN_MS = 15_000;

/**
 * consul-register: a running container answers in DNS, a stopped, paused or unhealthy one does not.
 * Copy 1 of pricing in deployment abc stands in the catalog as service `pricing.abc`, ServiceID
 * `1.pricing.abc`, under the external node `arpanet-<host>`.
 *
 *     plugins:
 *       - consul-register
 *
 * Consul's DNS reads `pricing.abc.service.consul` as service `abc`, tag `pricing`. So each copy is
 * registered a second time in that form, and there its link aliases are tags as well.
 */
export default definePlugin({
	name: "consul-register",
	after: ["deployment-id", "dhcp"],
	setup: (_, services) => {
		/** Stops that were announced, until they should be over. */
		const leavings = new Ripening<Leaving>(({ grace }) => grace);
		const aliased = new Aliased(services.store);
		const hooks = {
			async started({ container, facts, after }) {
				if (!facts.service) return; // a one-off is no copy of a service
				if (after === "start") {
					const isDone = await registerUnseen(
						container,
						facts,
						aliased,
						services,
					);
					if (isDone) return;
				}
				const [leaving, named, all] = await Promise.all([
					after !== "stop" && isLeaving(container, services),
					aliased.read(facts.deployment ?? ""),
					services.store.nodeServices(
						nodeFor(facts, services),
						[ofContainer(container.Id), ...ofNumber(facts)].join(" or "),
					),
				]);
				if (leaving) return;
				const wanted = await registration(
					container,
					facts,
					named,
					all,
					services,
				);
				const registered = all.filter((each) => isOf(container, each));
				// Hook and event both tell of a start: the second finds nothing to write.
				const left = leftNetworks(wanted, registered);
				const hasCheck =
					container.State.Health && servicesIn(wanted).length > 0;
				if (!hasCheck && left.length === 0 && isRegistered(wanted, registered))
					return;
				const node = nodeFor(facts, services);
				const current = isCurrent(
					facts.host ?? services.host.name,
					container.Id,
				);
				const [ofHost, ...others] = wanted;
				const operations = [
					...others,
					...left.map((each) => deleteService(node, each)),
				];
				while (operations.length > 0) {
					await services.store.commit([
						current,
						...(ofHost ? [ofHost] : []),
						...operations.splice(0, MAX_TOGETHER),
					]);
				}
			},
			async stop({ container, facts, grace }) {
				if (!facts.service) return;
				const startedAt = container.State.StartedAt;
				const host = facts.host ?? services.host.name;
				const value: Leaving = {
					host,
					startedAt,
					grace: grace * 1000 + MARGIN_MS,
				};
				await deregister(container.Id, facts, services, {
					verb: "set",
					key: LEAVING + container.Id,
					value,
				});
			},
			async stopped({ container, facts }) {
				if (!facts.service) return;
				await leave(container.Id, facts, services);
			},
			async removed({ id, facts }) {
				if (!id || !facts.service) return; // never ran
				await leave(id, facts, services);
			},
			/** What happened while Consul or the agent was away, and a stop that was announced and never came. */
			async sweep({ containers }) {
				const { store } = services;
				const node = nodeFor({}, services);
				const [all, checks, named] = await Promise.all([
					store.nodeServices(node),
					nodeChecks(node, services),
					allAliases(store),
				]);
				const registered = new Map<string, CatalogService[]>();
				for (const each of all) {
					const id = each.Meta?.container ?? "";
					registered.set(id, [...(registered.get(id) ?? []), each]);
				}
				const leaving = (await store.list<Leaving>(LEAVING)).filter(
					({ value }) => value.host === services.host.name,
				);
				for (const { key, index } of leavings.ripe(leaving)) {
					await ignoreConflict(store.commit([{ verb: "delete", key, index }]));
				}
				const marked = leaving.map(({ key }) => key.slice(LEAVING.length));
				const known = new Set(containers.map(({ Id }) => Id));
				for (const id of new Set([...registered.keys(), ...marked])) {
					if (!id || known.has(id)) continue;
					if (await services.engine.inspectContainer(id)) continue; // made just now
					await leave(id, {}, services);
				}
				for (const summary of containers) {
					const { Id, State, Labels } = summary;
					const facts = readLabels(Labels);
					if (!facts.service) continue;
					const own = registered.get(Id) ?? [];
					const right =
						State === "running"
							? isWhole(own, summary, facts, named) &&
								isHealthRight(own, summary, checks) &&
								!mayHaveNumber(own, all, facts)
							: own.length === 0;
					if (right) continue;
					const container = await services.engine.inspectContainer(Id);
					if (!container) continue;
					const { Running, Paused, Restarting } = container.State;
					const runs = Running && !Paused && !Restarting;
					await hooks[runs ? "started" : "stopped"]({ container, facts });
				}
			},
		} satisfies Hooks;
		return hooks;
	},
});

/** Whether a container that runs is in the catalog in both forms and with all its names, as far as its labels tell. */
function isWhole(
	registered: CatalogService[],
	{ Id, Names }: ContainerSummary,
	facts: Facts,
	named: NamedAlias[],
): boolean {
	const { service = "", network, address } = facts;
	if (!network) return registered.length > 0;
	const forDns = registered.filter(
		({ ID, Service }) => ID === dnsId(Id, Service),
	);
	const inNetwork = (all: CatalogService[], name: string) =>
		all.some((each) => each.Address === address && each.Service === name);
	return (
		inNetwork(registered, `${service}.${network}`) &&
		inNetwork(forDns, network) &&
		forDns.every(({ Tags, Address }) => {
			const names = namesOf(ownName(Names), facts, Address, named);
			return isDeepStrictEqual(new Set(Tags), names);
		})
	);
}

/** Whether the catalog says of a container's health what Docker says. */
function isHealthRight(
	registered: CatalogService[],
	{ Status }: ContainerSummary,
	checks: Map<string, string>,
): boolean {
	if (!/\((un)?healthy\)|\(health:/.test(Status)) return true; // it has no HEALTHCHECK
	const wanted = Status.includes("(healthy)") ? "passing" : "critical";
	return registered.every(({ ID }) => checks.get(checkId(ID)) === wanted);
}

/** Checks of a node's services, by CheckID. */
async function nodeChecks(
	node: string,
	{ store }: Services,
): Promise<Map<string, string>> {
	const checks = (await store.ask(() =>
		store.consul.health.node(node),
	)) as unknown as { CheckID: string; Status: string }[];
	return new Map(checks.map(({ CheckID, Status }) => [CheckID, Status]));
}

/**
 * Registers a container without a look at what is there, as most that start can be: nothing of them is registered, no stop of theirs
 * was announced, and their deployment has no aliases. The commit fails if any of that is not so. Aliases that were seen before are read.
 * @returns false if it failed, or if there is more to do: then look
 */
async function registerUnseen(
	container: ContainerInspect,
	facts: Facts,
	aliased: Aliased,
	services: Services,
): Promise<boolean> {
	const { deployment = "", host = services.host.name } = facts;
	const none = aliased.none(deployment);
	const named = none ? [] : await aliased.read(deployment);
	const wanted = await registration(container, facts, named, [], services);
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
async function leave(
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
async function deregister(
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

async function isLeaving(
	{ Id, State }: ContainerInspect,
	{ store }: Services,
): Promise<boolean> {
	const entry = await store.get<Leaving>(LEAVING + Id);
	if (!entry) return false;
	if (entry.value.startedAt === State.StartedAt) return true;
	await store.commit([{ verb: "delete", key: entry.key }]);
	return false;
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

/** Whether a copy that stands there by its address could by its number, which nobody has any more. */
function mayHaveNumber(
	own: CatalogService[],
	all: CatalogService[],
	facts: Facts,
): boolean {
	if (facts.index === undefined) return false;
	const number = copyId(facts.index, facts, facts.network);
	return (
		own.some(({ ID }) => /^ip\d+\./.test(ID)) &&
		all.every(({ ID }) => ID !== number)
	);
}
