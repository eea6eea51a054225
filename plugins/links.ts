import { HttpError } from "../pipeline/errors.ts";
import { readLabels } from "../pipeline/facts.ts";
import {
	type ConnectContext,
	type CreateContext,
	definePlugin,
	type Facts,
	type Services,
} from "../pipeline/plugin.ts";
import {
	ALIASES,
	type Alias,
	Aliased,
	isAlias,
	mark,
	type NamedAlias,
} from "../pipeline/state/aliases.ts";
import {
	Conflict,
	commitOverflow,
	type Operation,
} from "../pipeline/state/operations.ts";
import { withoutId } from "../pipeline/state/successors.ts";

/** How often another may be faster before that is an error. */
const MAX_TRIES = 20;

/**
 * links: `redis:cache` makes `cache` a name in DNS for all copies of redis, on whatever host they are,
 * so a link never binds two containers together. A network alias is a name of the copies that
 * have it. The names that Docker always gives (`redis`, `redis_1`, `abc_redis_1`) every copy has anyway.
 *
 *     plugins:
 *       - links
 */
export default definePlugin({
	name: "links",
	after: ["deployment-id", "dhcp"],
	setup: (_, services) => {
		const aliased = new Aliased(services.store);
		return {
			async create(context) {
				const { body, facts, networks, recordName, conflicts } = context;
				if (!facts.deployment || !facts.address) return; // Docker's own links still work there

				const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
				const links = [
					...takeLinks(body.HostConfig),
					...Object.values(endpoints).flatMap(takeLinks),
				];
				const asked = await linked(
					links,
					facts.deployment,
					recordName,
					services,
				);
				const hostnames = [];
				for (const { network, address } of networks) {
					const endpoint =
						endpoints[network.value.name] ??
						endpoints[body.HostConfig?.NetworkMode ?? ""];
					asked.push(...owned(endpoint?.Aliases, address, context));
					hostnames.push(...hostname(body.Hostname, address, context));
				}
				// to save reads, only a service's first copy on a host checks that its name is free
				const isFirst = isFirstCopy(facts, services);
				if (asked.length + hostnames.length === 0) {
					if (!isFirst) return;
					aliased.learn(conflicts);
					const none = aliased.none(facts.deployment);
					if (none) {
						context.commit(none);
						return;
					}
				}
				const known = await aliased.read(facts.deployment);
				asked.push(...unclaimed(hostnames, known));
				if (isFirst) mustBeFree(facts, known);
				await mustBeNoService(asked, known, facts, services);
				await give(asked, known, context, services);
				if (asked.length > 0) facts.aliases = asked.map(asText).join(",");
			},

			async connect(context) {
				const { body, facts, recordName } = context;
				const endpoint = body.EndpointConfig;
				const address = endpoint?.IPAMConfig?.IPv4Address;
				if (!facts.deployment || !facts.address || !address) return; // not ours

				const links = takeLinks(endpoint);
				const asked = await linked(
					links,
					facts.deployment,
					recordName,
					services,
				);
				asked.push(...owned(endpoint.Aliases, address, context));
				const { Hostname } = context.container.Config;
				const hostnames = hostname(Hostname, address, context);
				if (asked.length + hostnames.length === 0) return;
				const known = await aliased.read(facts.deployment);
				asked.push(...unclaimed(hostnames, known));
				await mustBeNoService(asked, known, facts, services);
				await give(asked, known, context, services);
			},

			/** Names that mean something else by now stay with that. */
			async adopt({ facts, recordName, hold, commit }) {
				const { deployment, aliases: text } = facts;
				if (!deployment || !text) return; // asked for none
				const known = await aliased.read(deployment);
				const asked = text
					.split(",")
					.map((each) => fromText(each, recordName))
					.filter((each) => !clashing(each, known));
				const again = (key: string, value: unknown) => {
					const there = known.find((each) => each.key === key);
					hold(key, value, there);
				};
				await give(asked, known, { facts, hold: again, commit }, services);
			},

			/** A name that nobody asks for any more must not outlive its meaning. */
			async removed({ facts, holds }) {
				const keys = holds.filter((key) => key.startsWith(ALIASES));
				if (!facts.deployment || keys.length === 0) return;
				const all = await aliased.read(facts.deployment);
				const rest = all.filter(({ key }) => !keys.includes(key));
				for (const { key, alias, service, address } of all) {
					if (!keys.includes(key) || address) continue;
					const still = rest.some(
						(each) => each.alias === alias && each.service === service,
					);
					if (!still) await untag(facts.deployment, service, alias, services);
				}
			},
		};
	},
});

/** A name that a container asks for. */
type Asked = Alias & { alias: string };

/** Docker's own links bind containers to one host: they go no further than here. */
function takeLinks(
	from: { Links?: string[] | null } | null | undefined,
): string[] {
	const links = from?.Links ?? [];
	if (from) delete from.Links;
	return links;
}

function isFirstCopy(
	{ deployment = "", service, host = "" }: Facts,
	{ slots }: Services,
): boolean {
	return Boolean(service && slots.use(host).copies(deployment, service) <= 1);
}

/**
 * Sees to it that no link's alias has the name of a new container's service.
 * @throws HttpError 409 if one has
 */
function mustBeFree(
	{ deployment = "", service = "" }: Facts,
	known: NamedAlias[],
): void {
	const other = known.find(
		(each) =>
			isSame(each.alias, service) && each.service !== service && !each.address,
	);
	if (other) throw secondMeaning(service, service, deployment, other);
}

/** What links ask for. @throws HttpError for a link that leaves the deployment or cannot be a name */
async function linked(
	links: string[],
	deployment: string,
	container: string,
	services: Services,
): Promise<Asked[]> {
	const asked = [];
	const known = new Map<string, string>(); // Compose links thrice to each
	for (const link of new Set(links)) {
		const [target = "", given = target] = link.replace(/^\//, "").split(":");
		const alias = given.toLowerCase(); // as DNS has it
		const service =
			known.get(target) ?? (await serviceOf(target, deployment, services));
		known.set(target, service);
		if (isUsual(alias, service, target)) continue;
		if (!isAlias(alias)) {
			throw new HttpError(
				400,
				`links: "${given}" in link ${link} cannot be a name in DNS; use letters, digits, "-" and "_"`,
			);
		}
		asked.push({ alias, service, container });
	}
	return asked;
}

/**
 * Sees to it that no alias of a link has the name of another service. One that is known has been looked at when it was first asked for.
 * @throws HttpError 409 if one has
 */
async function mustBeNoService(
	asked: Asked[],
	known: NamedAlias[],
	{ deployment, service: own }: Facts,
	{ containers }: Services,
): Promise<void> {
	const isKnown = ({ alias, service }: Asked) =>
		known.some(
			(each) =>
				!each.address && each.alias === alias && each.service === service,
		);
	const fresh = asked.filter((each) => !each.address && !isKnown(each));
	if (fresh.length === 0) return;
	const named = new Set([own?.toLowerCase()]);
	for (const { value } of await containers.list()) {
		const { service } = value.facts;
		if (value.facts.deployment === deployment)
			named.add(service?.toLowerCase());
	}
	const taken = fresh.find(({ alias }) => named.has(alias));
	if (!taken) return;
	throw new HttpError(
		409,
		`links: in deployment ${deployment} the name ${taken.alias} is that of service ${taken.alias}, not ${taken.service}; use another alias`,
	);
}

/** What a copy is called in one of its networks beside the names that every copy has. */
function owned(
	names: readonly unknown[] | null | undefined,
	address: string,
	{ facts: { service }, recordName }: CreateContext | ConnectContext,
): Asked[] {
	if (!service) return []; // a one-off is in no DNS
	return (names ?? [])
		.filter((name) => typeof name === "string")
		.map((name) => name.toLowerCase()) // as DNS has it
		.filter((alias) => isAlias(alias) && !isUsual(alias, service, recordName))
		.filter((alias) => !SHORT_ID.test(alias)) // Compose 1 sends it when it connects
		.map((alias) => ({ alias, service, address, container: recordName }));
}

/** The hostname of a copy, which Docker has answered for since 20.10. */
function hostname(
	name: unknown,
	address: string,
	context: CreateContext | ConnectContext,
): Asked[] {
	const asked = owned([name], address, context);
	return asked.map((each) => ({ ...each, hostname: true }));
}

/** A hostname that is a link's alias stays that. */
function unclaimed(hostnames: Asked[], known: NamedAlias[]): Asked[] {
	return hostnames.filter((each) => !clashing(each, known));
}

/**
 * An alias as it stands in `facts.aliases`: `cache:redis`, or `pantry:db:10.32.1.7` for the copy at that address alone, with
 * `:hostname` where it is that.
 */
function asText({ alias, service, address, hostname }: Asked): string {
	const parts = [alias, service, address, hostname && "hostname"];
	return parts.filter((part) => part !== undefined).join(":");
}

function fromText(text: string, container: string): Asked {
	const [alias = "", service = "", address, hostname] = text.split(":");
	return {
		alias,
		service,
		container,
		...(address ? { address } : {}),
		...(hostname ? { hostname: true } : {}),
	};
}

const SHORT_ID = /^[0-9a-f]{12}$/;

/** Puts names on record, and on the copies that run already. @throws HttpError 409 for a name that has another meaning */
async function give(
	asked: Asked[],
	known: NamedAlias[],
	{ facts, hold, commit }: Pick<CreateContext, "facts" | "hold" | "commit">,
	services: Services,
): Promise<void> {
	const { deployment = "", address: own = "" } = facts;
	const keys = new Set<string>();
	const byService = new Map<string, string[]>();
	for (const { alias, ...value } of asked) {
		mustMeanOne({ alias, ...value }, deployment, known);
		const key = `${ALIASES}${deployment}/${alias}/${value.address ?? own}`;
		if (keys.has(key)) continue;
		if (keys.size === 0) commit(mark(deployment)); // first: it must not be the part that is missing
		keys.add(key);
		hold(key, value);
		if (value.address) continue; // this copy is registered with it when it runs
		const { service } = value;
		byService.set(service, [...(byService.get(service) ?? []), alias]);
	}
	const tags: Operation[] = [];
	for (const [service, all] of byService) {
		tags.push(...(await tag(deployment, service, all, services)));
	}
	for (const operation of await commitOverflow(services.store, tags))
		commit(operation);
}

/** Names that every copy has anyway: container, service, `service_1`. */
function isUsual(alias: string, service: string, target: string): boolean {
	if (isSame(alias, service) || isSame(alias, target)) return true;
	const [, stem = ""] = /^(.*)_\d+$/.exec(alias) ?? [];
	return isSame(stem, service);
}

/** Whether DNS tells two names apart. */
function isSame(a: string, b: string): boolean {
	return a.toLowerCase() === b.toLowerCase();
}

/**
 * The service of which a linked container is a copy.
 * @throws HttpError 400 if the deployment has no such container
 */
async function serviceOf(
	target: string,
	deployment: string,
	{ containers, cluster }: Services,
): Promise<string> {
	const record = await containers.get(target); // first: a container_name may look like a copy's
	let found: Facts | undefined = record?.value.facts;
	if (!found) {
		for (const separator of ["_", "-"]) {
			const prefix = `${deployment}${separator}`;
			const number = /[_-]\d+$/.exec(target);
			if (target.startsWith(prefix) && number) {
				return target.slice(prefix.length, number.index);
			}
		}
		const container = (await cluster.find(target))?.container;
		found = readLabels(container?.Config.Labels ?? null);
	}
	if (found.deployment === deployment && found.service) return found.service;
	throw new HttpError(
		400, // the docker CLI takes a 404 for a missing image, and pulls
		`links: there is no container ${target} in deployment ${deployment}; start it first, or give both the same deployment`,
	);
}

/** An alias with which this one would have two meanings: a link's stands for one service. Network aliases may be shared. */
function clashing(
	{ alias, service, address, container }: Asked,
	known: NamedAlias[],
): NamedAlias | undefined {
	return known.find(
		(each) =>
			isSame(each.alias, alias) &&
			!each.hostname &&
			each.service !== service &&
			withoutId(each.container) !== withoutId(container) && // the one that this one replaces
			!(each.address && address),
	);
}

/** DNS has one meaning for a name. @throws HttpError 409 if it stands for another service of the deployment */
function mustMeanOne(
	asked: Asked,
	deployment: string,
	known: NamedAlias[],
): void {
	const other = clashing(asked, known);
	if (other) throw secondMeaning(asked.alias, asked.service, deployment, other);
}

function secondMeaning(
	alias: string,
	service: string,
	deployment: string,
	other: NamedAlias,
): HttpError {
	return new HttpError(
		409,
		`links: in deployment ${deployment} the name ${alias} already means service ${other.service} (${other.address ? "an alias" : "a link"} of ${other.container}), not ${service}; use another alias`,
	);
}

/** Takes an alias from the copies of a service that are registered. */
async function untag(
	deployment: string,
	service: string,
	alias: string,
	services: Services,
): Promise<void> {
	for (let tries = 0; ; tries++) {
		const copies = await copiesOf(deployment, service, services);
		const operations = copies
			.filter(({ ServiceTags }) => ServiceTags.includes(alias))
			.map((copy) => {
				const tags = copy.ServiceTags.filter((each) => each !== alias);
				return retagged(copy, tags);
			});
		try {
			const rest = await commitOverflow(services.store, operations);
			if (rest.length > 0) await services.store.commit(rest);
			return;
		} catch (error) {
			if (!(error instanceof Conflict) || tries === MAX_TRIES) throw error;
		}
	}
}

/** The operations that add aliases to the copies of a service that are registered, one for each: two of one would lose against each other. */
async function tag(
	deployment: string,
	service: string,
	all: string[],
	services: Services,
): Promise<Operation[]> {
	const copies = await copiesOf(deployment, service, services);
	return copies.flatMap((copy) => {
		const missing = all.filter((alias) => !copy.ServiceTags.includes(alias));
		return missing.length > 0
			? [retagged(copy, [...copy.ServiceTags, ...missing])]
			: [];
	});
}

/** The DNS forms of a service's copies, in all networks of the deployment and those for all. */
async function copiesOf(
	deployment: string,
	service: string,
	{ store, networks }: Services,
): Promise<CatalogRow[]> {
	const rows = await Promise.all(
		(await networks.list())
			.filter(({ value }) => value.deployment === deployment || value.shared)
			.map(({ value }) =>
				store.ask(
					() =>
						store.consul.catalog.service.nodes({
							service: value.scope,
							tag: service,
						}) as unknown as Promise<CatalogRow[]>,
				),
			),
	);
	return rows
		.flat()
		.filter(({ ServiceMeta }) => ServiceMeta?.deployment === deployment);
}

/** The operation that gives a registered copy other tags, if it has not changed meanwhile. */
function retagged(copy: CatalogRow, tags: string[]): Operation {
	return {
		verb: "catalog",
		operation: {
			Service: {
				Verb: "cas",
				Node: copy.Node,
				Service: {
					ID: copy.ServiceID,
					Service: copy.ServiceName,
					Address: copy.ServiceAddress,
					Port: copy.ServicePort,
					Meta: copy.ServiceMeta,
					Tags: tags,
					ModifyIndex: copy.ModifyIndex,
				},
			},
		},
	};
}

interface CatalogRow {
	Node: string;
	ServiceID: string;
	ServiceName: string;
	ServiceAddress: string;
	ServicePort: number;
	ServiceTags: string[];
	ServiceMeta: Record<string, string> | null;
	ModifyIndex: number;
}
