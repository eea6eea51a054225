import { Netmask } from "netmask";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import type {
	ContainerContext,
	Facts,
	Services,
} from "../../pipeline/plugin.ts";
import type { NamedAlias } from "../../pipeline/state/aliases.ts";
import { nodeOf, setNode } from "../../pipeline/state/catalog.ts";
import { toNumber } from "../../pipeline/state/leases.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import type { Operation } from "../../pipeline/state/operations.ts";
import type { CatalogService } from "../../pipeline/state/store.ts";

// What stands in the catalog for a container that runs: under which ids, with which names, at which addresses.

/** The catalog node under which a container stands. */
export function nodeFor(facts: Facts, { host }: Services): string {
	return nodeOf(facts.host ?? host.name);
}

/**
 * The operations that register a container in all its networks, that of its host's node first.
 * @param named aliases of its deployment
 * @param found what is registered of the container, or under its number
 */
export async function registration(
	copy: ContainerContext,
	named: NamedAlias[],
	found: CatalogService[],
	services: Services,
): Promise<Operation[]> {
	const { container, facts } = copy;
	const node = nodeFor(facts, services);
	const host = facts.host ?? services.host.name;
	// one that was renamed runs beside the copy that was made in its place
	const isAnothers = found.some((each) => !isOf(container, each));
	const number = isAnothers ? undefined : facts.index;
	const { address: hostAddress } = await services.cluster.hosts.get(host);
	const operations = [setNode({ name: host, address: hostAddress })];
	for (const place of await places(copy, services)) {
		const { scope, address, subnet, shared } = place;
		const inSubnet = toNumber(address) - toNumber(new Netmask(subnet).base);
		const meta = {
			container: container.Id,
			deployment: facts.deployment ?? "",
		};
		const name = container.Name.slice(1);
		const names = namesOf(container.Id, name, facts, address, named);
		const common = { Address: address, Port: 0, Meta: meta };
		const forms = [
			{
				ID: copyId(
					number ?? `ip${inSubnet}`,
					facts,
					shared ? amongOthers(facts, scope) : scope,
				),
				Service: `${facts.service}.${scope}`,
				Tags: [],
				...common,
			},
			{
				ID: dnsId(container.Id, scope),
				Service: scope,
				Tags: [...names],
				...common,
			},
		];
		for (const Service of forms) {
			operations.push({
				verb: "catalog",
				operation: { Service: { Verb: "set", Node: node, Service } },
			});
			const health = container.State.Health;
			if (!health || health.Status === "none") continue;
			operations.push({
				verb: "catalog",
				operation: {
					Check: {
						Verb: "set",
						Check: {
							Node: node,
							CheckID: checkId(Service.ID),
							Name: "Docker HEALTHCHECK",
							ServiceID: Service.ID,
							Status: health.Status === "healthy" ? "passing" : "critical",
							Output: health.Status,
						},
					},
				},
			});
		}
	}
	return operations;
}

/** The ServiceID of a copy in a network: `1.pricing.abc`. */
function copyId(
	index: number | string | undefined,
	{ service }: Facts,
	scope: string | undefined,
): string {
	return `${index}.${service}.${scope}`;
}

/** A shared network in a ServiceID: services of two deployments may have one name there. */
function amongOthers({ deployment }: Facts, scope: string | undefined): string {
	return `${deployment}.${scope}`;
}

/** CheckID of the HEALTHCHECK of a service. */
export function checkId(serviceId: string): string {
	return `health:${serviceId}`;
}

/** Consul's filter for what is registered of a container. */
export function ofContainer(id: string): string {
	return `Meta.container == "${id}"`;
}

/** Consul's filters for what is registered under a copy's number: none for one without, or that no filter can name. */
export function ofNumber(facts: Facts): string[] {
	const { index, network } = facts;
	if (index === undefined) return [];
	return [network, amongOthers(facts, network)] // its own network may be a shared one
		.map((scope) => copyId(index, facts, scope))
		.filter((id) => /^[\w.-]+$/.test(id))
		.map((id) => `ID == "${id}"`);
}

/** Whether an entry is that of a container. */
export function isOf(
	{ Id }: ContainerInspect,
	{ Meta }: CatalogService,
): boolean {
	return Meta?.container === Id;
}

/** The DNS form's ServiceID: one of a kind for each container and network. */
export function dnsId(id: string, scope: string): string {
	return `${shortId(id)}.${scope}`;
}

function shortId(id: string): string {
	return id.slice(0, 12);
}

/**
 * Names of one copy at one of its addresses: those under which Docker too would find it, and its aliases.
 * @param id of it, the first digits of which are its hostname unless it was given another: programs tell each other that
 * @param named aliases of its deployment
 */
export function namesOf(
	id: string,
	name: string,
	{ service = "", index }: Facts,
	address: string,
	named: NamedAlias[],
): Set<string> {
	const own = [service, name, shortId(id)];
	// not redis-1 as well: that is more often another service's name
	if (index !== undefined) own.push(`${service}_${index}`);
	const further = named
		.filter((each) =>
			each.address ? each.address === address : each.service === service,
		)
		.filter((each) => !each.hostname || !isLinked(each, named))
		.map(({ alias }) => alias);
	return new Set([
		...own.filter((each) => /^[a-z0-9_-]{1,63}$/i.test(each)),
		...further,
	]);
}

/** Whether a link of the deployment means another service by a name. */
function isLinked(
	{ alias, service }: NamedAlias,
	named: NamedAlias[],
): boolean {
	return named.some(
		(each) => each.alias === alias && each.service !== service && !each.address,
	);
}

interface Place extends Pick<NetworkRecord, "scope" | "subnet" | "shared"> {
	address: string;
}

/** The networks of its own deployment, and those for all, in which a container has an address. */
async function places(
	{ container, facts }: ContainerContext,
	{ networks }: Services,
): Promise<Place[]> {
	const found: Place[] = [];
	for (const [name, endpoint] of Object.entries(
		container.NetworkSettings.Networks,
	)) {
		const network = (await networks.byName(name))?.value;
		const address = endpoint.IPAddress || endpoint.IPAMConfig?.IPv4Address;
		if (!network || !address) continue;
		const { scope, subnet, deployment, shared } = network;
		if (deployment !== facts.deployment && !shared) continue;
		found.push({ scope, subnet, address, ...(shared ? { shared } : {}) });
	}
	if (found.length > 0 || !facts.network || !facts.address) return found;
	// weave gives the address, Docker does not know of it
	const cidr = `WEAVE_CIDR=${facts.address}/`;
	if (!container.Config.Env?.some((pair) => pair.startsWith(cidr))) return [];
	const own = await networks.get(facts.network);
	return own
		? [
				{
					scope: own.value.scope,
					subnet: own.value.subnet,
					address: facts.address,
				},
			]
		: [];
}
