import { isDeepStrictEqual } from "node:util";
import { type ContainerSummary, ownName } from "../pipeline/docker.ts";
import { pastErrors } from "../pipeline/errors.ts";
import { readLabels } from "../pipeline/facts.ts";
import { definePlugin, type Facts, type Hooks } from "../pipeline/plugin.ts";
import {
	Aliased,
	aliasesByDeployment,
	asCalled,
	type NamedAlias,
} from "../pipeline/state/aliases.ts";
import { checksOn } from "../pipeline/state/catalog.ts";
import { LEAVING, type Leaving } from "../pipeline/state/leaving.ts";
import { ignoreConflict } from "../pipeline/state/operations.ts";
import { Ripening } from "../pipeline/state/ripening.ts";
import type { CatalogService } from "../pipeline/state/store.ts";
import { checkId, dnsId, namesOf, nodeFor } from "./consul-register/entries.ts";
import {
	deregister,
	leave,
	register,
	registerUnseen,
} from "./consul-register/registering.ts";

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
			async started(context) {
				const { container, facts, after } = context;
				if (!facts.service) return; // a one-off is no copy of a service
				const called = asCalled(facts, container.Name.slice(1));
				const copy = { ...context, facts: called };
				const isDone =
					after === "start" && (await registerUnseen(copy, aliased, services));
				if (!isDone) await register(copy, aliased, services);
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
					checksOn(store, node),
					aliasesByDeployment(store),
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
					const facts = asCalled(readLabels(Labels), ownName(summary.Names));
					if (!facts.service) continue;
					const own = registered.get(Id) ?? [];
					const aliases = named.get(facts.deployment ?? "") ?? [];
					const right =
						State === "running"
							? isWhole(own, summary, facts, aliases) &&
								isHealthRight(own, summary, checks) &&
								!mayHaveNumber(own, all, facts)
							: own.length === 0;
					if (right) continue;
					await pastErrors(services.log, Id, async () => {
						const container = await services.engine.inspectContainer(Id);
						if (!container) return;
						const { Running, Paused, Restarting } = container.State;
						const runs = Running && !Paused && !Restarting;
						await hooks[runs ? "started" : "stopped"]({ container, facts });
					});
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
			const names = namesOf(Id, ownName(Names), facts, Address, named);
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

/** Whether a copy that stands there by its address could by its number, which nobody has any more. */
function mayHaveNumber(
	own: CatalogService[],
	all: CatalogService[],
	facts: Facts,
): boolean {
	const { index } = facts;
	if (index === undefined) return false;
	const numbers = own
		.filter(({ ID }) => /^ip\d+\./.test(ID))
		.map(({ ID }) => ID.replace(/^ip\d+/, String(index)));
	return numbers.length > 0 && all.every(({ ID }) => !numbers.includes(ID));
}
