import { Resolver } from "node:dns/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ask, get } from "./http.ts";

// Nothing here is the product's: what it reads and believes, the checker must not share.

/** A host as the checker reaches it. */
export interface Seen {
	name: string;
	address: string;
	/** The engine's socket. */
	socketPath: string;
	/** `http://10.0.0.1:8500` */
	consul: string;
}

/** A container as an engine tells of it. */
export interface Container {
	host: string;
	id: string;
	name: string;
	running: boolean;
	deployment: string;
	service: string;
	/** Label `arpanet.address`. */
	address: string;
	/** Addresses that Docker itself has for it while it runs. */
	actual: string[];
}

/** A network of a deployment as one host's engine tells of it. */
export interface Network {
	host: string;
	id: string;
	/** `abc_default` */
	name: string;
	scope: string;
	subnet: string;
	/** The address of the host's bridge. */
	gateway: string;
}

/** All that is true at one moment, as far as engines and Consul tell. */
export interface Picture {
	containers: Container[];
	networks: Network[];
	/** Consul's keys under `arpanet/`, and their values. */
	keys: Map<string, unknown>;
	/** By service and deployment (`web.abc`) and host: what that host's DNS answers, sorted. */
	names: Map<string, Map<string, string[]>>;
	/** By service and deployment: addresses in the catalog under the name `web.abc`, sorted. */
	catalog: Map<string, string[]>;
}

/** How long a Consul that has just lost its leader is asked again, in milliseconds. */
const ELECTION_MS = 15_000;

/** Consul answers that it cannot. */
class NoLeader extends Error {}

/** @throws NoLeader */
async function askConsul(consul: string, path: string): Promise<Response> {
	const answer = await fetch(`${consul}/v1/${path}`);
	if (answer.status < 500) return answer;
	throw new NoLeader(`${consul}/v1/${path}: ${await answer.text()}`);
}

/** Reads it again, all of it, where Consul has just lost its leader. */
async function oncePossible<T>(read: () => Promise<T>): Promise<T> {
	const until = performance.now() + ELECTION_MS;
	for (;;) {
		try {
			return await read();
		} catch (error) {
			if (!(error instanceof NoLeader) || performance.now() > until)
				throw error;
			await sleep(500);
		}
	}
}

/** Reads everything. @param services names to ask DNS for, `web.abc` */
export function look(
	hosts: readonly Seen[],
	services: readonly string[],
): Promise<Picture> {
	return oncePossible(() => lookOnce(hosts, services));
}

async function lookOnce(
	hosts: readonly Seen[],
	services: readonly string[],
): Promise<Picture> {
	const [first] = hosts as [Seen];
	const [containers, networks, keys, names, catalog] = await Promise.all([
		Promise.all(hosts.map(containersOf)),
		Promise.all(hosts.map(networksOf)),
		keysOf(first),
		Promise.all(
			services.map(async (service) => {
				const answers = hosts.map(
					async (host) => [host.name, await resolve(host, service)] as const,
				);
				return [service, new Map(await Promise.all(answers))] as const;
			}),
		),
		Promise.all(
			services.map(
				async (service) => [service, await listed(first, service)] as const,
			),
		),
	]);
	return {
		containers: containers.flat(),
		networks: networks.flat(),
		keys,
		names: new Map(names),
		catalog: new Map(catalog),
	};
}

async function containersOf(host: Seen): Promise<Container[]> {
	const rows = await get<
		{
			Id: string;
			Names: string[];
			State: string;
			Labels: Record<string, string>;
			NetworkSettings: { Networks: Record<string, { IPAddress: string }> };
		}[]
	>(host, "/containers/json?all=1");
	const found = rows.filter(({ Labels }) => Labels["arpanet.deployment"]);
	// Docker 20.10 may list what it has removed, without a name, until it is started again
	const removed = new Set<string>();
	for (const { Id, Names } of found) {
		if (Names?.length > 0) continue;
		const { status } = await ask(host, `/containers/${Id}/json`);
		if (status === 404) removed.add(Id);
	}
	return found
		.filter(({ Id }) => !removed.has(Id))
		.map(({ Id, Names, State, Labels, NetworkSettings }) => ({
			host: host.name,
			id: Id,
			name: (Names[0] ?? `/${Id} (${State}, without a name)`).slice(1),
			running: State === "running",
			deployment: Labels["arpanet.deployment"] ?? "",
			service: Labels["arpanet.service"] ?? "",
			address: Labels["arpanet.address"] ?? "",
			actual: Object.values(NetworkSettings.Networks)
				.map(({ IPAddress }) => IPAddress)
				.filter(Boolean),
		}));
}

async function networksOf(host: Seen): Promise<Network[]> {
	const rows = await get<
		{
			Id: string;
			Name: string;
			Labels: Record<string, string>;
			IPAM: { Config: { Subnet: string; Gateway?: string }[] | null };
		}[]
	>(host, "/networks");
	return rows
		.filter(({ Labels }) => Labels["arpanet.network"])
		.map(({ Id, Name, Labels, IPAM }) => ({
			host: host.name,
			id: Id,
			name: Name,
			scope: Labels["arpanet.network"] ?? "",
			subnet: IPAM.Config?.[0]?.Subnet ?? "",
			gateway: IPAM.Config?.[0]?.Gateway ?? "",
		}));
}

async function keysOf({ consul }: Seen): Promise<Map<string, unknown>> {
	const answer = await askConsul(consul, "kv/arpanet/?recurse&consistent");
	if (answer.status === 404) return new Map();
	const rows = (await answer.json()) as { Key: string; Value: string | null }[];
	return new Map(
		rows.map(({ Key, Value }) => [
			Key,
			JSON.parse(Buffer.from(Value ?? "bnVsbA==", "base64").toString()),
		]),
	);
}

/** The address that is leased to a container in the network of its deployment. */
export async function leaseOf(
	host: Seen,
	deployment: string,
	container: string,
): Promise<string | undefined> {
	for (const [key, value] of await oncePossible(() => keysOf(host))) {
		const [, kind, scope, address] = key.split("/");
		const lease = value as { container?: string } | null;
		if (kind === "leases" && scope === deployment) {
			if (lease?.container === container) return address;
		}
	}
	return undefined;
}

async function resolve(host: Seen, service: string): Promise<string[]> {
	const resolver = new Resolver({ timeout: 2_000, tries: 2 });
	resolver.setServers([host.address]);
	try {
		return (await resolver.resolve4(`${service}.service.consul`)).sort();
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code === "ENOTFOUND" || code === "ENODATA") return [];
		throw error;
	}
}

async function listed({ consul }: Seen, service: string): Promise<string[]> {
	const path = `health/service/${service}?passing&consistent`;
	const answer = await askConsul(consul, path);
	const rows = (await answer.json()) as { Service: { Address: string } }[];
	return rows.map(({ Service }) => Service.Address).sort();
}

/** Runs a command in a container by the engine's own API. @returns its exit code, and what it said */
export async function run(
	host: Seen,
	container: string,
	command: string[],
): Promise<{ code: number; said: string }> {
	const wanted = { Cmd: command, AttachStdout: true, Tty: true };
	const made = await ask(host, `/containers/${container}/exec`, wanted);
	const { Id } = made.body as { Id: string };
	const { body } = await ask(
		host,
		`/exec/${Id}/start`,
		{ Detach: false, Tty: true },
		120_000,
	);
	const { ExitCode } = await get<{ ExitCode: number }>(
		host,
		`/exec/${Id}/json`,
	);
	return { code: ExitCode, said: String(body) };
}
