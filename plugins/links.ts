import { HttpError } from "../pipeline/errors.ts";
import { definePlugin, type Services } from "../pipeline/plugin.ts";
import type { Operation } from "../pipeline/state/store.ts";

const PREFIX = "arpanet/aliases/";

/** A link's name for a service, under `arpanet/aliases/<deployment>/<alias>/<container that links>`. */
interface Alias {
	service: string;
}

const ALIAS = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/**
 * links: `redis:cache` makes `cache` a name in DNS for all copies of redis, on whatever host they are,
 * so a link never binds two containers together. The names that Docker always gives
 * (`redis`, `redis_1`, `abc_redis_1`) every copy has without a link.
 *
 *     plugins:
 *       - links
 */
export default definePlugin({
	name: "links",
	after: ["deployment-id", "dhcp"],
	setup: (_, services) => ({
		async create({ body, facts, networks, record, hold, commit }) {
			const { deployment } = facts;
			if (!deployment || networks.length === 0) return; // Docker's own links still work there

			const endpoints = Object.values(
				body.NetworkingConfig?.EndpointsConfig ?? {},
			);
			const links = [
				...(body.HostConfig?.Links ?? []),
				...endpoints.flatMap((endpoint) => endpoint?.Links ?? []),
			];
			if (body.HostConfig) delete body.HostConfig.Links;
			for (const endpoint of endpoints) {
				if (endpoint) delete endpoint.Links;
			}
			for (const link of new Set(links)) {
				const [target = "", alias = target] = link
					.replace(/^\//, "")
					.split(":");
				const service = await serviceOf(target, deployment, services);
				if (isUsual(alias, service, target)) continue;
				if (!ALIAS.test(alias)) {
					throw new HttpError(
						400,
						`links: "${alias}" in link ${link} cannot be a name in DNS; use letters, digits, "-" and "_"`,
					);
				}
				await mustMeanOne(alias, service, deployment, services);
				const value: Alias = { service };
				hold(`${PREFIX}${deployment}/${alias}/${record}`, value);
				// copies that run already do not have the new name yet
				for (const operation of await tag(
					deployment,
					service,
					alias,
					services,
				)) {
					commit(operation);
				}
			}
		},
	}),
});

/** All aliases of a deployment, each with the container that links by it. */
export async function aliases(
	deployment: string,
	{ store }: Services,
): Promise<{ alias: string; service: string; container: string }[]> {
	const prefix = `${PREFIX}${deployment}/`;
	const entries = await store.list<Alias>(prefix);
	return entries.map(({ key, value }) => {
		const [alias = "", container = ""] = key.slice(prefix.length).split("/");
		return { alias, container, service: value.service };
	});
}

/** Names that every copy has anyway: container, service, `service_1`. */
function isUsual(alias: string, service: string, target: string): boolean {
	if (alias === service || alias === target) return true;
	return (
		alias.startsWith(service) && /^[_-]\d+$/.test(alias.slice(service.length))
	);
}

/**
 * The service of which a linked container is a copy.
 * @throws HttpError 404 if the deployment has no such container
 */
async function serviceOf(
	target: string,
	deployment: string,
	{ containers, engine }: Services,
): Promise<string> {
	for (const separator of ["_", "-"]) {
		const prefix = `${deployment}${separator}`;
		const number = /[_-]\d+$/.exec(target);
		if (target.startsWith(prefix) && number) {
			return target.slice(prefix.length, number.index);
		}
	}
	const record = await containers.get(target);
	const labels = record
		? undefined
		: (await engine().inspectContainer(target))?.Config.Labels;
	const found = record?.value.facts ?? {
		deployment: labels?.["arpanet.deployment"],
		service: labels?.["arpanet.service"],
	};
	if (found.deployment === deployment && found.service) return found.service;
	throw new HttpError(
		404,
		`links: there is no container ${target} in deployment ${deployment}; start it first, or give both the same deployment`,
	);
}

/** @throws HttpError 409 if the alias stands for another service of the deployment: DNS has one meaning for a name */
async function mustMeanOne(
	alias: string,
	service: string,
	deployment: string,
	services: Services,
): Promise<void> {
	const other = (await aliases(deployment, services)).find(
		(each) => each.alias === alias && each.service !== service,
	);
	if (!other) return;
	throw new HttpError(
		409,
		`links: in deployment ${deployment} the name ${alias} already means service ${other.service} (a link of ${other.container}), not ${service}; use another alias`,
	);
}

/** The operations that add an alias to the copies of a service that are registered. */
async function tag(
	scope: string,
	service: string,
	alias: string,
	{ store }: Services,
): Promise<Operation[]> {
	const copies = await store.ask(
		() =>
			store.consul.catalog.service.nodes({
				service: scope,
				tag: service,
			}) as unknown as Promise<CatalogRow[]>,
	);
	return copies
		.filter(({ ServiceTags }) => !ServiceTags.includes(alias))
		.map((copy) => ({
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
						Tags: [...copy.ServiceTags, alias],
						ModifyIndex: copy.ModifyIndex,
					},
				},
			},
		}));
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
