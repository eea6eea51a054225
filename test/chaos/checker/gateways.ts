import { ask, get, type Where } from "./http.ts";
import { homes, REFUSED, type Violation } from "./judge.ts";
import type { Container, Picture, Seen } from "./look.ts";

/** Where every gateway listens. */
const PORT = 2375;
/** Containers whose details are compared, for each gateway. */
const MAX_DETAILS = 4;
/** How long a host may seem silent that has much to do. */
const PATIENCE_MS = 20_000;
/** A create without Consul must be answered so soon. */
const REFUSED_MS = 5_000;
/** What of a container's details is the same whoever tells of it; ports and networks have names of the cluster. */
const SAME = [
	"Id",
	"Created",
	"Name",
	"Image",
	"State",
	"Config",
	"HostConfig",
];

/** 6: a client sees through every gateway what the engines themselves say. */
export async function gateways(
	hosts: readonly Seen[],
	picture: Picture,
): Promise<Violation[]> {
	const { containers } = picture;
	const found = await Promise.all(
		hosts.map(async (host) => {
			try {
				const wrong = [
					...(await listed(host, containers)),
					...(await woven(host, picture)),
				];
				if (wrong.length > 0) return wrong;
				return await detailed(host, hosts, containers);
			} catch (error) {
				return [`6: the gateway of ${host.name}: ${error}`];
			}
		}),
	);
	return found.flat();
}

/** Each network is there once, with the one id that is for clients, and can be asked for by that. */
async function woven(
	host: Seen,
	{ networks, keys }: Picture,
): Promise<Violation[]> {
	const gateway = gatewayOf(host);
	const rows = await get<{ Id: string; Name: string }[]>(gateway, "/networks");
	const found: Violation[] = [];
	const names = new Map(networks.map(({ name, scope }) => [name, scope]));
	for (const [name, scope] of names) {
		const shown = rows.filter((each) => each.Name === name).map(({ Id }) => Id);
		const [home] = homes(keys, scope);
		if (shown.join() !== home) {
			found.push(
				`6: the gateway of ${host.name} shows ${name} as ${shown}, it is ${home}`,
			);
			continue;
		}
		const { Id } = await get<{ Id: string }>(gateway, `/networks/${home}`);
		if (Id !== home) {
			found.push(`6: the gateway of ${host.name} says ${home} is ${Id}`);
		}
	}
	return found;
}

async function listed(
	host: Seen,
	containers: Container[],
): Promise<Violation[]> {
	const rows = await get<
		{
			Id: string;
			Names: string[];
			State: string;
			Labels: Record<string, string>;
		}[]
	>(gatewayOf(host), "/containers/json?all=1");
	const ours = rows.filter(
		({ Labels, Names }) => Labels["arpanet.deployment"] && Names?.length > 0, // look.ts
	);
	const shown = new Map(ours.map(({ Id, State }) => [Id, State === "running"]));
	const found: Violation[] = [];
	if (shown.size < ours.length) {
		found.push(`6: the gateway of ${host.name} shows a container twice`);
	}
	for (const { id, name, running } of containers) {
		if (shown.get(id) !== running) {
			found.push(
				`6: the gateway of ${host.name} shows ${name} as ${inWords(shown.get(id))}, it is ${inWords(running)}`,
			);
		}
		shown.delete(id);
	}
	for (const id of shown.keys()) {
		found.push(`6: the gateway of ${host.name} shows ${id}, which no host has`);
	}
	return found;
}

async function detailed(
	host: Seen,
	hosts: readonly Seen[],
	containers: Container[],
): Promise<Violation[]> {
	const step = Math.max(1, Math.ceil(containers.length / MAX_DETAILS));
	const until = performance.now() + PATIENCE_MS;
	const found = await Promise.all(
		containers
			.filter((_, i) => i % step === 0)
			.map(async ({ id, name, host: home }): Promise<Violation[]> => {
				const engine = hosts.find((each) => each.name === home) as Seen;
				const path = `/containers/${id}/json`;
				const [own, shown] = await Promise.all(
					[engine, gatewayOf(host)].map(async (where) =>
						some(await get<Record<string, unknown>>(where, path, until)),
					),
				);
				if (own === shown) return [];
				return [`6: the gateway of ${host.name} shows ${name} as ${shown}`];
			}),
	);
	return found.flat();
}

/** 8: what a create is answered while Consul is away: a 503 that says so, within seconds. */
export async function refusals(hosts: readonly Seen[]): Promise<Violation[]> {
	const body = {
		Image: "busybox",
		Cmd: ["sleep", "9999"],
		Labels: { "arpanet.deployment": REFUSED, "arpanet.service": "web" },
	};
	const found = await Promise.all(
		hosts.map(async (host): Promise<Violation[]> => {
			const began = performance.now();
			const path = `/containers/create?name=${REFUSED}_web_${host.name}`;
			const answer = await ask(gatewayOf(host), path, body, REFUSED_MS).catch(
				(error) => ({ status: 0, body: { message: String(error) } }),
			);
			const seconds = (performance.now() - began) / 1000;
			const message = String(answer.body?.message);
			const clear = answer.status === 503 && message.startsWith("consul: ");
			if (clear && seconds < REFUSED_MS / 1000) return [];
			return [
				`8: without Consul, ${host.name} answers ${answer.status} after ${seconds.toFixed(1)} s: ${message}`,
			];
		}),
	);
	return found.flat();
}

function gatewayOf({ address }: Seen): Where {
	return { host: address, port: PORT };
}

function some(details: Record<string, unknown>): string {
	return JSON.stringify(SAME.map((key) => details[key]));
}

function inWords(running: boolean | undefined): string {
	if (running === undefined) return "missing";
	return running ? "running" : "not running";
}
