import { readFileSync } from "node:fs";
import { definePlugin } from "../pipeline/plugin.ts";

interface Config {
	/** What follows service and deployment in a name. */
	domain: string;
	/** Name servers to ask instead of the host's Consul. */
	servers: string[];
}

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
			domain: { type: "string", default: "service.consul" },
			servers: { type: "array", items: { type: "string" }, default: [] },
		},
	},
	setup: ({ domain, servers }, { cluster, networks }) => ({
		async create({ body, facts, networks: joined }) {
			if (!facts.deployment || !facts.host || joined.length === 0) return; // not ours to name
			const host = await cluster.hosts.get(facts.host);

			const scopes = new Set(joined.map(({ network }) => network.value.scope));
			if (joined.some(({ network }) => !network.value.implicit)) {
				// Compose connects a container to its further networks only after the create
				for (const { value } of await networks.list()) {
					if (value.deployment === facts.deployment) scopes.add(value.scope);
				}
			}
			body.HostConfig ??= {};
			const settings = body.HostConfig;
			settings.DnsSearch = [
				...[...scopes].map((scope) => `${scope}.${domain}`),
				...(settings.DnsSearch ?? []),
			];
			const own = settings.Dns ?? [];
			settings.Dns = [
				...(servers.length > 0 ? servers : [host.address]),
				// asked in turn: when Consul is away, what is not in it still resolves
				...(own.length > 0 ? own : hostResolvers()),
			];
			// A bare name goes through the search list first. With Docker's ndots:0 it would be asked
			// as it stands, of Consul and of every name server of the host, before.
			if (!settings.DnsOptions?.some((option) => option.startsWith("ndots:"))) {
				settings.DnsOptions = [...(settings.DnsOptions ?? []), "ndots:1"];
			}
		},
	}),
});

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
