import type { Cluster } from "../pipeline/cluster.ts";
import { inTime } from "../pipeline/deadline.ts";
import type { ContainerSummary } from "../pipeline/docker.ts";
import { messageOf } from "../pipeline/errors.ts";
import { asCalled } from "../pipeline/state/aliases.ts";
import {
	type ContainerRecord,
	Containers,
} from "../pipeline/state/containers.ts";
import {
	isLease,
	leasedAddress,
	leasedScope,
} from "../pipeline/state/leases.ts";
import { NETWORKS, type NetworkRecord } from "../pipeline/state/networks.ts";
import type { Entry, Store } from "../pipeline/state/store.ts";

/** How long an engine may take to list its containers. */
const PATIENCE_MS = 5_000;

/** A deployment as `arpanet ps` shows it. */
export interface Deployment {
	deployment: string;
	networks: { name: string; scope: string; subnet: string }[];
	/** By service and number; one-offs, which have no service, last. */
	copies: Copy[];
}

export interface Copy {
	service?: string;
	index?: number;
	container: string;
	host: string;
	/** `Up 3 minutes (healthy)`, as Docker says it; `unknown` on a host whose engine did not tell. */
	state: string;
	/** One for each network, the container's own first. */
	addresses: Address[];
}

export interface Address {
	network: string;
	address: string;
	/** `passing` if it answers, `critical` if its health keeps it out, `-` if it is not registered. */
	dns: string;
	/** `pricing.abc.service.consul`; a one-off has none. */
	name?: string;
}

interface Registration {
	Service: { Address: string; Service: string };
	Checks: { Status: string }[];
}

/**
 * All deployments, from Consul, with the states of containers that an engine has told.
 * @param domain what follows service and deployment in a name
 * @throws HttpError 503 when Consul does not answer
 */
export async function readCluster(
	store: Store,
	containers: ContainerSummary[],
	domain: string,
): Promise<Deployment[]> {
	const [networks, records] = await Promise.all([
		store.list<NetworkRecord>(NETWORKS),
		new Containers(store).list(),
	]);
	const registered = new Map<string, string>();
	for (const { value } of networks) {
		for (const [address, status] of await registrations(store, value.scope)) {
			registered.set(`${value.scope} ${address}`, status);
		}
	}
	const ids = new Set([
		...networks.map(({ value }) => value.deployment),
		...records.map(({ value }) => value.facts.deployment),
	]);
	return [...ids]
		.filter((id) => id !== undefined)
		.sort()
		.map((deployment) => ({
			deployment,
			networks: networks
				.filter(({ value }) => value.deployment === deployment)
				.map(({ value: { name, scope, subnet } }) => ({ name, scope, subnet })),
			copies: records
				.filter(({ value }) => value.facts.deployment === deployment)
				.map((record) => copyOf(record, containers, registered, domain))
				.sort(byService),
		}));
}

/**
 * The containers of all hosts, as their engines have them.
 * @returns with a sentence for each host whose engine does not tell
 */
export async function listEverywhere(
	cluster: Cluster,
): Promise<{ containers: ContainerSummary[]; silent: string[] }> {
	const silent: string[] = [];
	const lists = await Promise.all(
		(await cluster.all()).map(async ({ name, state, engine: url }) => {
			const own = name === cluster.self;
			if (!own && !(state && url)) {
				silent.push(
					`no states of ${name}: ${state ? "it lets nobody reach its engine" : "it is lost"}`,
				);
				return [];
			}
			try {
				const engine = await cluster.engine(name);
				return await inTime(
					engine.listContainers("arpanet.host"),
					PATIENCE_MS,
					() => new Error(`engine ${engine.url} does not answer in time`),
				);
			} catch (error) {
				silent.push(
					`no states${own ? "" : ` of ${name}`}: ${messageOf(error)}`,
				);
				return [];
			}
		}),
	);
	return { containers: lists.flat(), silent };
}

/** What DNS knows of a network: address → the worst of its checks. */
async function registrations(
	store: Store,
	scope: string,
): Promise<[string, string][]> {
	const rows = (await store.ask(() =>
		store.consul.health.service({ service: scope }),
	)) as unknown as Registration[];
	return rows.map(({ Service, Checks }) => {
		const bad = Checks.find(({ Status }) => Status !== "passing");
		return [Service.Address, bad?.Status ?? "passing"];
	});
}

function copyOf(
	{ key, value: { facts, holds, stays } }: Entry<ContainerRecord>,
	containers: ContainerSummary[],
	registered: Map<string, string>,
	domain: string,
): Copy {
	const container = key.slice(key.lastIndexOf("/") + 1);
	const { service, index, host = "-" } = asCalled(facts, container);
	const { network, address } = facts;
	// a host that was lost still has the copy that was started elsewhere, with the same network and address
	const local = containers.filter(
		({ Labels }) => Labels["arpanet.host"] === facts.host,
	);
	const running =
		local.find(({ Names }) => Names.includes(`/${container}`)) ??
		local.find(
			({ Labels }) =>
				address &&
				Labels["arpanet.network"] === network &&
				Labels["arpanet.address"] === address,
		);
	const leases = holds.filter(isLease).map((lease) => ({
		network: leasedScope(lease),
		address: leasedAddress(lease),
	}));
	return {
		...(service ? { service } : {}),
		...(index === undefined ? {} : { index }),
		container,
		host,
		state: running?.Status ?? (stays ? `lost; stays: ${stays}` : "unknown"),
		addresses: leases.map((lease) => ({
			...lease,
			dns: registered.get(`${lease.network} ${lease.address}`) ?? "-",
			...(service ? { name: `${service}.${lease.network}.${domain}` } : {}),
		})),
	};
}

function byService(a: Copy, b: Copy): number {
	if (!a.service !== !b.service) return a.service ? -1 : 1;
	const [first = "", second = ""] = [a.service, b.service];
	return first === second
		? (a.index ?? 0) - (b.index ?? 0)
		: first < second
			? -1
			: 1;
}
