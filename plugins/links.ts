import {
	type CreateContext,
	definePlugin,
	type Facts,
	type Services,
} from "../pipeline/plugin.ts";
import {
	ALIASES,
	Aliased,
	mark,
	type NamedAlias,
} from "../pipeline/state/aliases.ts";
import {
	commitOverflow,
	type Operation,
} from "../pipeline/state/operations.ts";
import {
	type Asked,
	asText,
	fromText,
	hostname,
	linked,
	owned,
	takeLinks,
} from "./links/asked.ts";
import {
	clashing,
	mustBeFree,
	mustBeNoService,
	mustMeanOne,
	unclaimed,
} from "./links/meaning.ts";
import { tag, untag } from "./links/tags.ts";

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

function isFirstCopy(
	{ deployment = "", service, host = "" }: Facts,
	{ slots }: Services,
): boolean {
	return Boolean(service && slots.use(host).copies(deployment, service) <= 1);
}

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
