import type { HostRecord } from "./hosts.ts";
import type { Operation } from "./operations.ts";
import type { CatalogService, Store } from "./store.ts";

/** While it is critical, DNS answers for none of the host's containers; their registrations stay. */
const HOST_CHECK = "arpanet-host";

/** The catalog node under which a host's containers stand. */
export function nodeOf(host: string): string {
	return `arpanet-${host}`;
}

/** The operation that has a host's node in the catalog. Consul's own agent there knows nothing of it: it is external. */
export function setNode({
	name,
	address,
}: Pick<HostRecord, "name" | "address">): Operation {
	const Meta = { "external-node": "true" };
	const Node = { Node: nodeOf(name), Address: address, Meta };
	return { verb: "catalog", operation: { Node: { Verb: "set", Node } } };
}

/** The operation that lets DNS answer for a host's containers, or not. @param output why, for people */
export function setHostCheck(
	host: string,
	status: "passing" | "critical",
	output: string,
): Operation {
	const Check = {
		Node: nodeOf(host),
		CheckID: HOST_CHECK,
		Name: `host ${host}`,
		Status: status,
		Output: output,
	};
	return { verb: "catalog", operation: { Check: { Verb: "set", Check } } };
}

/** The nodes of hosts that the leader has found lost: DNS does not answer for them. */
export async function lostNodes(store: Store): Promise<Set<string>> {
	const checks = (await store.ask(() =>
		store.consul.health.state("critical"),
	)) as { Node: string; CheckID: string }[];
	return new Set(
		checks
			.filter(({ CheckID }) => CheckID === HOST_CHECK)
			.map(({ Node }) => Node),
	);
}

/** A copy of a service, as `/v1/catalog/service` gives it. */
export interface CatalogRow {
	Node: string;
	ServiceID: string;
	ServiceName: string;
	ServiceAddress: string;
	ServicePort: number;
	ServiceTags: string[];
	ServiceMeta: Record<string, string> | null;
	ModifyIndex: number;
}

/** The copies of a service, on whatever node. @param tag that they have */
export async function copiesOf(
	store: Store,
	service: string,
	tag?: string,
): Promise<CatalogRow[]> {
	const options = { service, ...(tag ? { tag } : {}) };
	const rows: unknown = await store.ask(() =>
		store.consul.catalog.service.nodes(options),
	);
	return rows as CatalogRow[];
}

/** What the checks of a node's services say, by CheckID. */
export async function checksOn(
	store: Store,
	node: string,
): Promise<Map<string, string>> {
	const checks = (await store.ask(() =>
		store.consul.health.node(node),
	)) as unknown as { CheckID: string; Status: string }[];
	return new Map(checks.map(({ CheckID, Status }) => [CheckID, Status]));
}

/** Whether somebody else than arpanet has registered a service of that name. */
export async function isForeignService(
	store: Store,
	service: string,
): Promise<boolean> {
	const nodes = await copiesOf(store, service);
	return nodes.some(({ Node }) => !Node.startsWith(nodeOf("")));
}

/** The operation that takes a service out of the catalog, if it has not changed since it was read. */
export function deleteService(
	Node: string,
	{ ID, Service, ModifyIndex }: CatalogService,
): Operation {
	return {
		verb: "catalog",
		operation: {
			Service: {
				Verb: "delete-cas",
				Node,
				Service: { ID, Service, ModifyIndex },
			},
		},
	};
}

/** The operation that takes a host out of the catalog with all that is registered there. */
export function deleteNode(host: string): Operation {
	const Node = { Node: nodeOf(host) };
	return { verb: "catalog", operation: { Node: { Verb: "delete", Node } } };
}
