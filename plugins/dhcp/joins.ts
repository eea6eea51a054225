import {
	type ContainerCreate,
	isUnasked,
	networksAsked,
} from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { Services } from "../../pipeline/plugin.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import type { Entry } from "../../pipeline/state/store.ts";

/** What may be the start of an id. */
const NETWORK_ID = /^[0-9a-f]{1,64}$/;

/** A network that a create asks for, by the name under which it does. */
interface Joined {
	name: string;
	/** Undefined: the network that the deployment has without asking. */
	network: Entry<NetworkRecord> | undefined;
}

/** The networks that a create asks for and that are ours to number, its own first. */
export async function joins(
	body: ContainerCreate,
	services: Services,
): Promise<Joined[]> {
	const { networks } = services;
	await nameNetworks(body, services);
	const mode = body.HostConfig?.NetworkMode ?? "";
	const asked = networksAsked(body);
	// Docker asks for the mode only where no endpoint says more
	if (isUnasked(mode) && asked.length === 0) {
		return [{ name: mode, network: undefined }];
	}
	const found: Joined[] = [];
	for (const name of asked) {
		const known = await networks.byName(name);
		const network = known && (await networks.joinable(known));
		if (network) found.push({ name, network });
		else await mustNotBeLost(name, services);
	}
	return found;
}

/** Docker takes the id of a network for its name; from here on it goes by its name, which is the same on every host. */
async function nameNetworks(
	body: ContainerCreate,
	{ networks }: Services,
): Promise<void> {
	const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
	const mode = body.HostConfig?.NetworkMode ?? "";
	for (const id of new Set([mode, ...Object.keys(endpoints)])) {
		if (!NETWORK_ID.test(id)) continue;
		const name = (await networks.find(id))?.value.name;
		if (!name || name === id) continue;
		if (body.HostConfig && mode === id) body.HostConfig.NetworkMode = name;
		if (!(id in endpoints)) continue;
		endpoints[name] = endpoints[id] ?? null;
		delete endpoints[id];
	}
}

/**
 * Where Consul has lost a network of ours, it does not know either which addresses are taken.
 * @throws HttpError 503 until the agent has put both back
 */
export async function mustNotBeLost(
	name: string,
	{ engine, networks }: Services,
): Promise<void> {
	const docker = await engine.inspectNetwork(name);
	const scope = docker?.Labels?.["arpanet.network"];
	if (!scope) return;
	networks.forget(scope);
	if (await networks.get(scope)) return; // made just now
	const inUse = await engine.listContainers(`arpanet.network=${scope}`);
	const implicit = docker.Labels?.["arpanet.implicit"] === "true";
	if (implicit && inUse.length === 0) return; // left by who died while he gave it back
	throw new HttpError(
		503,
		`dhcp: Consul has lost network ${name}; the agent puts it back within seconds: try again`,
	);
}
