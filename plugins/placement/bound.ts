import { whoHas } from "../../pipeline/answers.ts";
import {
	type ContainerCreate,
	mountsOf,
	networksAsked,
} from "../../pipeline/docker.ts";
import type { CreateContext, Services } from "../../pipeline/plugin.ts";
import { expressions } from "./expressions.ts";
import type { PartMaker } from "./part.ts";

/**
 * What is one host's own keeps a container there: a folder that is mounted is that of the host whose gateway was
 * asked, and so is a port of 127.0.0.1, and a network that Docker has and no deployment; an IPv6 range is its network's home's. Who names the
 * host (`constraint:node==h2`) means the folder there, and the port.
 */
export const bound: PartMaker = ({ shared }, services) => ({
	async place(context) {
		if (services.cluster.alone) return undefined;
		const here = context.lostHost ?? services.host.name;
		const bound = namesHost(context.body)
			? undefined
			: (boundPath(context.body, shared) ??
				(context.lostHost ? undefined : loopbackPort(context.body)));
		const network = await foreignNetwork(context, here, services);
		const fixed = await fixedIPv6(context, services);
		if (!bound && !network && !fixed) return undefined;

		return {
			filter({ name }) {
				if (fixed && name !== fixed.home) {
					return `${fixed.address} is of an IPv6 range that network ${fixed.network} has on ${fixed.home} alone`;
				}
				if (network && name !== network.host) {
					return `network ${network.name} is ${network.host}'s own`;
				}
				if (name === here || !bound) return undefined;
				if (context.lostHost) return `${bound} of ${here}`;
				return `${bound} of ${here}, whose gateway was asked; constraint:node==${name} would mean the one here`;
			},
		};
	},
});

/** The first path of the host that a container mounts, and that is another on each host. */
function boundPath(
	body: ContainerCreate,
	shared: string[],
): string | undefined {
	const own = mountsOf(body)
		.filter(({ type }) => type === "bind")
		.map(({ source }) => source)
		.find((path) => path.startsWith("/") && !isShared(path, shared));
	return own && `bind mount ${own} is a path`;
}

/** The first port that a container publishes for its own host alone. */
function loopbackPort({ HostConfig }: ContainerCreate): string | undefined {
	for (const bindings of Object.values(Object(HostConfig?.PortBindings))) {
		for (const binding of list(bindings)) {
			const { HostIp, HostPort } = Object(binding) as Record<string, unknown>;
			if (!/^(127\.|::1$|localhost$)/.test(String(HostIp))) continue;
			return `port ${HostIp}:${HostPort || "any"} is one`;
		}
	}
	return undefined;
}

function isShared(path: string, shared: string[]): boolean {
	return shared.some((each) => path === each || path.startsWith(`${each}/`));
}

function namesHost(body: ContainerCreate): boolean {
	return expressions("constraint", body).some(
		({ key, operator, soft }) => key === "node" && operator === "==" && !soft,
	);
}

async function foreignNetwork(
	{ body, lostHost }: CreateContext,
	here: string,
	{ networks, cluster }: Services,
): Promise<{ name: string; host: string } | undefined> {
	for (const name of networksAsked(body)) {
		if (await networks.find(name)) continue;
		const path = `/networks/${encodeURIComponent(name)}`;
		const [own] = await cluster.answers(path, [here]);
		// that of a lost host is none that another has under its name
		if (own?.answer !== undefined || lostHost) return { name, host: here };
		const [holder] = whoHas(await cluster.answers(path));
		return { name, host: holder?.host ?? here }; // if it is nowhere, its engine says so
	}
	return undefined;
}

/** An IPv6 address that a container is to have, and the home of its network: only there Docker knows the range. */
async function fixedIPv6(
	{ body }: CreateContext,
	{ networks }: Services,
): Promise<{ address: string; network: string; home: string } | undefined> {
	const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
	for (const [network, endpoint] of Object.entries(endpoints)) {
		const address = endpoint?.IPAMConfig?.IPv6Address;
		if (!address) continue;
		const home = (await networks.find(network))?.value.host;
		if (home) return { address: String(address), network, home };
	}
	return undefined;
}

function list(value: unknown): unknown[] {
	return Array.isArray(value) ? value : [];
}
