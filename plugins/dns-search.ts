import { readFileSync } from "node:fs";
import { pastErrors } from "../pipeline/errors.ts";
import {
	type Attachment,
	type CreateContext,
	definePlugin,
} from "../pipeline/plugin.ts";
import { guestKey } from "../pipeline/state/guests.ts";
import type { NetworkRecord, Networks } from "../pipeline/state/networks.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { changeSearch, MAX_SEARCH } from "./dns-search/resolv-conf.ts";

interface Config {
	/** What follows service and deployment in a name. */
	domain: string;
	/** Name servers to ask instead of the host's Consul. */
	servers: string[];
}

/** What could be searched, in the order in which it is. */
interface SearchList {
	/** The networks that the container is made in. */
	own: string[];
	/** The other networks of its deployment, which it may be connected to later. */
	others: string[];
	/** What its user asks for. */
	asked: string[];
	/** Networks that are for all. */
	forAll: string[];
}

/** Milliseconds after which the host's file is read again: many containers are created at once. */
const REMEMBER_MS = 1_000;

/**
 * dns-search: containers of one deployment call each other by bare name, so `redis` means
 * `redis.<deployment>.<domain>`; names outside that domain resolve as they do on the host.
 *
 *     plugins:
 *       - dns-search: {domain: service.consul}
 */
export default definePlugin<Config>({
	name: "dns-search",
	after: ["dhcp"],
	schema: {
		type: "object",
		additionalProperties: false,
		properties: {
			domain: {
				type: "string",
				format: "domain",
				default: "service.consul",
			},
			servers: { type: "array", items: { type: "string" }, default: [] },
		},
	},
	setup({ domain, servers }, services) {
		const { cluster, networks, store, host: self, log } = services;
		let resolvers: string[] = [];
		let readAt = Number.NEGATIVE_INFINITY;
		const ofHost = () => {
			const now = performance.now();
			if (now - readAt > REMEMBER_MS) {
				resolvers = hostResolvers();
				readAt = now;
			}
			return resolvers;
		};
		return {
			async create(context) {
				const { body, facts, networks: joined } = context;
				if (!facts.deployment || !facts.host || joined.length === 0) return; // not ours to name
				const host = await cluster.hosts.get(facts.host);

				const scopes = joined.map(({ network }) => network.value.scope);
				const others: string[] = [];
				const forAll: string[] = [];
				if (joined.some(({ network }) => !network.value.implicit)) {
					// Compose connects a container to its further networks only after the create
					for (const { value } of await networks.list()) {
						if (value.deployment === facts.deployment) others.push(value.scope);
						else if (value.shared) forAll.push(value.scope);
					}
				}
				for (const { network, address } of joined)
					stay(network, address, context);
				body.HostConfig ??= {};
				const settings = body.HostConfig;
				const domains = (all: string[]) =>
					all.map((scope) => `${scope}.${domain}`);
				settings.DnsSearch = fitting({
					own: domains(scopes),
					others: domains(others),
					asked: settings.DnsSearch ?? [],
					forAll: domains(forAll),
				});
				// who is made from another's inspect, as Watchtower does it, brings what that was given
				const hosts = servers.length > 0 ? [] : await cluster.all();
				const ours = new Set(hosts.map((each) => each.address));
				const asked = settings.Dns ?? [];
				const own = asked.filter((each) => !ours.has(each));
				const all = new Set([
					...(servers.length > 0
						? servers
						: [...(await ends(joined, facts.host, networks)), host.address]),
					// asked in turn: when Consul is away, what is not in it still resolves
					...(asked.length > 0 ? own : ofHost()),
				]);
				settings.Dns = [...all];
				// A bare name goes through the search list first. With Docker's ndots:0 it would be asked
				// as it stands, of Consul and of every name server of the host, before.
				if (
					!settings.DnsOptions?.some((option) => option.startsWith("ndots:"))
				) {
					settings.DnsOptions = [...(settings.DnsOptions ?? []), "ndots:1"];
				}
			},

			/** Compose has connected it by now: a name means first what is where it can get. */
			async started({ container, facts, after }) {
				if (!facts.deployment || facts.host !== self.name) return;
				const { DnsSearch } = container.HostConfig;
				const all = Object.keys(container.NetworkSettings.Networks);
				if (all.length === 1 && (DnsSearch?.length ?? 0) <= 1) return;
				const isMade = (scope: string) => Number(scope === facts.network);
				const own = (await networks.joinedBy(container))
					.map(({ network }) => network.value)
					.filter((each) => each.deployment === facts.deployment || each.shared)
					.map(({ scope }) => scope)
					.sort((a, b) => isMade(b) - isMade(a)) // that in which it was made is first
					.map((scope) => `${scope}.${domain}`);
				if (own.length === 0) return;
				// Docker has just made the file of this
				const isRight = own.every((each, i) => DnsSearch?.[i] === each);
				if (after === "start" && isRight) return;
				const change = (list: string[]) =>
					fitting({
						own,
						others: [],
						asked: list.filter((each) => !each.endsWith(`.${domain}`)),
						forAll: list.filter((each) => each.endsWith(`.${domain}`)),
					});
				// it is to be registered all the same
				await pastErrors(log, container.Name, () =>
					changeSearch(container, change),
				);
			},

			connect(context) {
				const { body, network } = context;
				const address = body.EndpointConfig?.IPAMConfig?.IPv4Address;
				if (address) stay(network, address, context);
			},

			async adopt(context) {
				const joined = await networks.joinedBy(context.container);
				for (const { network, address } of joined) {
					const there = await store.get(guestKey(network.value.scope, address));
					const hold = (key: string, value: unknown) =>
						context.hold(key, value, there);
					stay(network, address, { facts: context.facts, hold });
				}
			},
		};
	},
});

/** Notes that a container is in a network of another deployment: from there, too, it asks for names of its own. */
function stay(
	{ value: { deployment, scope } }: Entry<NetworkRecord>,
	address: string,
	{ facts, hold }: Pick<CreateContext, "facts" | "hold">,
): void {
	const own = facts.deployment;
	if (!own || own === deployment) return;
	hold(guestKey(scope, address), { deployment: own });
}

/**
 * The host's ends of a container's networks, if no way leads out of these: there DNS is answered as at the host's own address
 * (`agent/guard/ends.ts`).
 */
async function ends(
	joined: readonly Attachment[],
	host: string,
	networks: Networks,
): Promise<string[]> {
	if (!joined.every(({ network }) => network.value.body?.Internal)) return [];
	const found = await Promise.all(
		joined.map(({ network }) =>
			networks.bridges.address(network.value.scope, host),
		),
	);
	return found.filter((address) => address !== undefined);
}

/** A search list: what a container is in and what its user asks for, and of the rest what there is room for. */
function fitting({ own, others, asked, forAll }: SearchList): string[] {
	const kept = new Set([...own, ...asked]);
	for (const each of [...others, ...forAll]) {
		const longer = [...kept, each].join(" ").length;
		if (longer <= MAX_SEARCH) kept.add(each);
	}
	const all = new Set([...own, ...others, ...asked, ...forAll]);
	return [...all].filter((each) => kept.has(each));
}

/**
 * The host's name servers that a container can reach too. A stub on loopback (systemd-resolved)
 * is left for the file that it keeps of its own name servers, as Docker does.
 */
export function hostResolvers(
	files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"],
): string[] {
	for (const file of files) {
		const found = nameServers(file).filter(
			(address) => !address.startsWith("127."),
		);
		if (found.length > 0) return found;
	}
	return [];
}

/** The IPv4 name servers that a resolv.conf lists; none if there is no such file. */
export function nameServers(file = "/etc/resolv.conf"): string[] {
	let text: string;
	try {
		text = readFileSync(file, "utf8");
	} catch {
		return []; // no such file on this machine
	}
	return [...text.matchAll(/^nameserver\s+(\d+\.\d+\.\d+\.\d+)/gm)].map(
		(match) => match[1] as string,
	);
}
