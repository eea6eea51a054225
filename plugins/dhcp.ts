import { isIPv4 } from "node:net";
import { networkInterfaces } from "node:os";
import { Netmask } from "netmask";
import type {
	ContainerCreate,
	ContainerInspect,
	EndpointSettings,
	NetworkInspect,
} from "../pipeline/docker.ts";
import { HttpError } from "../pipeline/errors.ts";
import {
	type Attachment,
	type CreateContext,
	definePlugin,
	type Services,
} from "../pipeline/plugin.ts";
import {
	isLease,
	type Lease,
	Leases,
	leasedAddress,
	leasedNetwork,
	leaseKey,
} from "../pipeline/state/leases.ts";
import type { NetworkRecord, Pool } from "../pipeline/state/networks.ts";
import type { Entry, Operation } from "../pipeline/state/store.ts";

interface Config extends Pool {
	/** Addresses that a network is made for unless it asks (label `arpanet.size`). */
	size: number;
}

type Network = Entry<NetworkRecord>;

/** Docker's own networks, where we give no addresses. */
const NOT_OURS = /^(bridge|host|none|container:.*)$/;
const NETWORK_ID = /^[0-9a-f]{12,64}$/;
/** The network mode of who did not ask for one. */
const UNASKED = new Set(["", "default"]);

/**
 * dhcp: a subnet for each network of a deployment and an address in it for each container, for
 * its whole life. Who holds what stands in Consul: `consul kv get -recurse arpanet/leases/abc`.
 *
 *     plugins:
 *       - dhcp: {pool: 10.32.0.0/12, reserved: [10.40.0.0/16], size: 254}
 */
export default definePlugin<Config>({
	name: "dhcp",
	after: ["deployment-id", "placement"],
	schema: {
		type: "object",
		additionalProperties: false,
		properties: {
			pool: { type: "string", format: "subnet", default: "10.32.0.0/12" },
			reserved: {
				type: "array",
				items: { type: "string", format: "subnet" },
				default: [],
			},
			size: { type: "integer", minimum: 1, maximum: 65_534, default: 254 },
		},
	},
	setup(config, services) {
		const { networks, host } = services;
		const leases = new Leases(services.store);

		return {
			async create(context) {
				const { body, facts, lost } = context;
				if (!facts.deployment || !facts.host) return; // not ours

				learn(lost, leases, services);
				const given: string[] = [];
				for (const joined of await joins(context.body, facts.deployment)) {
					const wanted = requested(body, joined);
					const network = await joined.network();
					const held = heldAddress(context.previous?.holds ?? [], network);
					const address = wanted ?? held ?? (await leases.pick(network.value));
					if (wanted) await mustBeFree(wanted, network, context);
					context.commit(networks.check(network));
					context.hold(
						leaseKey(network.value.scope, address),
						leaseOf(context),
					);
					context.networks.push({ network, address } satisfies Attachment);
					const why = wanted
						? "the client asked for it"
						: held
							? "an earlier create of that name had leased it"
							: `free in ${network.value.subnet}`;
					const after = lost.length > 0 ? `, try ${lost.length + 1}` : "";
					given.push(`${address} in ${network.value.scope}: ${why}${after}`);
				}
				const [own] = context.networks;
				context.explain("dhcp", given.join("; "));
				if (!own) return; // shares a network that is not ours to number
				facts.network = own.network.value.scope;
				facts.address = own.address;
			},

			async connect(context) {
				const { network, facts, lost, holds, body } = context;
				if (!facts.deployment || !facts.host) return; // not ours

				learn(lost, leases, services);
				body.EndpointConfig ??= {};
				const settings: EndpointSettings = body.EndpointConfig;
				const wanted = settings.IPAMConfig?.IPv4Address || undefined;
				const held = heldAddress(holds, network);
				const address = wanted ?? held ?? (await leases.pick(network.value));
				if (wanted && wanted !== held) {
					await mustBeFree(wanted, network, context);
				}
				context.commit(networks.check(network));
				context.hold(leaseKey(network.value.scope, address), leaseOf(context));
				settings.IPAMConfig = { ...settings.IPAMConfig, IPv4Address: address };
			},

			async networkCreate({ body, facts }) {
				if (!facts.deployment) return; // not ours
				if (body.Driver && body.Driver !== "bridge") return; // the user's own driver has its own addresses

				const ranges = body.IPAM?.Config ?? [];
				const asked = ranges.find(({ Subnet }) => !Subnet?.includes(":"));
				const scope = scopeOf(facts.deployment, facts.network ?? "default");
				networks.forget(scope); // no commit of ours checks it: another adapter may have given it back
				const { value } = await networks.ensure(
					{
						scope,
						deployment: facts.deployment,
						name: body.Name,
						implicit: false,
						...(asked?.Subnet ? { subnet: asked.Subnet } : {}),
						...(asked?.Gateway ? { gateway: asked.Gateway } : {}),
					},
					host.name,
					sizeAsked(body.Labels?.["arpanet.size"], config.size),
					config,
					routes,
				);
				const gateway = await gatewayOf(value);
				body.IPAM = {
					...body.IPAM,
					Config: [
						{ ...asked, Subnet: value.subnet, Gateway: gateway },
						...ranges.filter((range) => range !== asked), // IPv6 is Docker's
					],
				};
				body.Labels = { ...body.Labels, "arpanet.network": value.scope };
			},

			async adopt(context) {
				const { container, facts } = context;
				if (!facts.deployment || !facts.host) return;
				const held = new Map<string, Attachment>();
				for (const [name, endpoint] of Object.entries(
					container.NetworkSettings.Networks,
				)) {
					const network =
						(await networks.byName(name)) ?? (await restore(name));
					const address = endpoint.IPAMConfig?.IPv4Address;
					if (!network || !address) continue;
					held.set(network.key, { network, address });
				}
				// no network of Docker's: weave carries the address
				const own =
					facts.network &&
					((await networks.get(facts.network)) ??
						(await restoreWoven(container, facts.deployment)));
				if (own && facts.address) {
					held.set(own.key, { network: own, address: facts.address });
				}
				for (const { network, address } of held.values()) {
					await putBack(network, address);
				}

				async function putBack(network: Network, address: string) {
					const key = leaseKey(network.value.scope, address);
					const known = await services.store.get<Lease>(key);
					if (known && known.value.container !== context.record) {
						services.log.error(
							{ address, holder: known.value, container: context.record },
							"two containers hold one address; remove one of them",
						);
						return;
					}
					context.commit(networks.check(network));
					if (known)
						context.commit({ verb: "delete", key, index: known.index });
					context.hold(key, leaseOf(context));
				}
			},

			/** Networks that Consul has lost and in which no container is. */
			async sweep() {
				const known = await networks.list();
				for (const { Name } of await services
					.engine()
					.listNetworks("arpanet.network")) {
					if (known.some(({ value }) => value.name === Name)) continue;
					await restore(Name);
				}
			},
		};

		/** The networks that a create asks for and that are ours to number, its own first. */
		async function joins(
			body: ContainerCreate,
			deployment: string,
		): Promise<{ name: string; network: () => Promise<Network> }[]> {
			await nameNetworks(body);
			const mode = body.HostConfig?.NetworkMode ?? "";
			if (UNASKED.has(mode)) {
				return [{ name: mode, network: () => ownNetwork(body, deployment) }];
			}
			const names = new Set([
				mode,
				...Object.keys(body.NetworkingConfig?.EndpointsConfig ?? {}),
			]);
			const found = [];
			for (const name of names) {
				if (NOT_OURS.test(name)) continue;
				const network = await networks.byName(name);
				if (network) found.push({ name, network: async () => network });
				else await mustNotBeLost(name);
			}
			return found;
		}

		/** Docker takes the id of a network for its name; from here on it goes by its name. */
		async function nameNetworks(body: ContainerCreate): Promise<void> {
			const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
			const mode = body.HostConfig?.NetworkMode ?? "";
			for (const id of new Set([mode, ...Object.keys(endpoints)])) {
				if (!NETWORK_ID.test(id)) continue;
				const name = (await services.engine().inspectNetwork(id))?.Name;
				if (!name || !(await networks.byName(name))) continue;
				if (body.HostConfig && mode === id) body.HostConfig.NetworkMode = name;
				if (!(id in endpoints)) continue;
				endpoints[name] = endpoints[id] ?? null;
				delete endpoints[id];
			}
		}

		/** fig.yml has one network, which nobody asks for in words. */
		async function ownNetwork(
			body: ContainerCreate,
			deployment: string,
		): Promise<Network> {
			const cidr = weaveCidr(body);
			if (!(await networks.get(deployment))) {
				await mustNotBeLost(`${deployment}_default`);
			}
			return networks.ensure(
				implicitNetwork(deployment, cidr),
				host.name,
				sizeAsked(body.Labels?.["arpanet.size"], config.size),
				config,
				routes,
			);
		}

		async function gatewayOf(network: NetworkRecord): Promise<string> {
			const entry = (await networks.get(network.scope)) as Network;
			return networks.gateway(entry, host.name, () => leases.pick(network));
		}

		/**
		 * Where Consul has lost a network of ours, it does not know either which addresses are taken.
		 * @throws HttpError 503 until the agent has put both back
		 */
		async function mustNotBeLost(name: string): Promise<void> {
			const docker = await services.engine().inspectNetwork(name);
			const scope = docker?.Labels?.["arpanet.network"];
			if (!scope) return;
			networks.forget(scope);
			if (await networks.get(scope)) return; // made just now
			const inUse = await services
				.engine()
				.listContainers(`arpanet.network=${scope}`);
			const implicit = docker.Labels?.["arpanet.implicit"] === "true";
			if (implicit && inUse.length === 0) return; // left by who died while he gave it back
			throw new HttpError(
				503,
				`dhcp: Consul has lost network ${name}; the agent puts it back within seconds: try again`,
			);
		}

		/** A network that Docker has and Consul has lost. */
		async function restore(name: string): Promise<Network | undefined> {
			const docker = await services.engine().inspectNetwork(name);
			const scope = docker?.Labels?.["arpanet.network"];
			const subnet = docker?.IPAM?.Config?.[0]?.Subnet;
			if (!docker || !scope || !subnet) return undefined;
			return networks.ensure(
				{
					scope,
					deployment: deploymentOf(docker, scope),
					name,
					implicit: docker.Labels?.["arpanet.implicit"] === "true",
					subnet,
				},
				host.name,
				config.size,
				config,
				() => [],
			);
		}

		/** As `restore`, for a network that Docker never had. */
		async function restoreWoven(
			{ Config: { Env } }: ContainerInspect,
			deployment: string,
		): Promise<Network | undefined> {
			const cidr = weaveCidr({ Env });
			if (!cidr) return undefined;
			return networks.ensure(
				implicitNetwork(deployment, cidr),
				host.name,
				config.size,
				config,
				() => [],
			);
		}

		async function mustBeFree(
			address: string,
			{ value: network }: Network,
			{ lost, replaced }: Pick<CreateContext, "lost" | "replaced">,
		): Promise<void> {
			if (!isIPv4(address) || !new Netmask(network.subnet).contains(address)) {
				throw new HttpError(
					400,
					`dhcp: ${address} is not in ${network.subnet}, the subnet of ${network.name}`,
				);
			}
			const key = leaseKey(network.scope, address);
			if (replaced?.holds.includes(key)) return;
			if (
				!lost.some((operation) => "key" in operation && operation.key === key)
			) {
				return; // the commit will tell
			}
			const lease = await services.store.get<Lease>(key);
			if (!lease) return;
			throw new HttpError(
				409,
				`dhcp: ${address} is leased to ${lease.value.container ?? `host ${lease.value.host}`}; ask for another address or for none`,
			);
		}
	},
});

/** A network that changed under our hands must be read again; an address that was lost the picker counts as taken already. */
function learn(
	lost: readonly Operation[],
	leases: Leases,
	{ networks }: Services,
): void {
	const last = lost.at(-1);
	if (!last || !("key" in last)) return;
	if (last.verb === "check") {
		const scope = last.key.slice(last.key.lastIndexOf("/") + 1);
		networks.forget(scope);
		leases.forget(scope);
	} else if (last.verb === "create" && isLease(last.key)) {
		leases.lost(leasedNetwork(last.key), leasedAddress(last.key));
	}
}

/** `abc` for the default network of deployment abc, `abc-back` for its network back. */
export function scopeOf(deployment: string, network: string): string {
	if (network === "default") return deployment;
	return `${deployment}-${network.toLowerCase().replaceAll(/[^a-z0-9-]/g, "-")}`;
}

/** What stands under an address of a container. */
function leaseOf({
	facts,
	record,
}: Pick<CreateContext, "facts" | "record">): Lease {
	const { host = "", deployment = "", service } = facts;
	return {
		host,
		deployment,
		container: record,
		...(service ? { service } : {}),
	};
}

/** The network that a deployment has without asking. */
function implicitNetwork(deployment: string, subnet: string | undefined) {
	return {
		scope: deployment,
		deployment,
		name: `${deployment}_default`,
		implicit: true,
		...(subnet ? { subnet } : {}),
	};
}

/** The address that the user fixed himself, if he did. */
function requested(
	body: ContainerCreate,
	{ name }: { name: string },
): string | undefined {
	const endpoint = body.NetworkingConfig?.EndpointsConfig?.[name];
	if (endpoint?.IPAMConfig?.IPv4Address) return endpoint.IPAMConfig.IPv4Address;
	return UNASKED.has(name) ? weaveCidr(body)?.split("/")[0] : undefined;
}

/** `WEAVE_CIDR=10.2.1.7/24` set by the user: his address and subnet, to be leased as they are. */
function weaveCidr(body: ContainerCreate): string | undefined {
	return body.Env?.find((pair) => pair.startsWith("WEAVE_CIDR="))?.slice(11);
}

function heldAddress(
	holds: readonly string[],
	{ value }: Network,
): string | undefined {
	const key = holds.find(
		(held) => isLease(held) && leasedNetwork(held) === value.scope,
	);
	return key && leasedAddress(key);
}

/** @throws HttpError 400 for a size that is no number in range */
function sizeAsked(label: string | undefined, usual: number): number {
	if (label === undefined) return usual;
	const size = Number(label);
	if (Number.isInteger(size) && size >= 1 && size <= 65_534) return size;
	throw new HttpError(
		400,
		`dhcp: label arpanet.size=${label} is no number of addresses; use 1 to 65534`,
	);
}

function deploymentOf(docker: NetworkInspect, scope: string): string {
	return (
		docker.Labels?.["arpanet.deployment"] ??
		docker.Labels?.["com.docker.compose.project"] ??
		scope
	);
}

/** Subnets that this machine itself has an address in; Docker's bridges for our own networks among them. */
function routes(): string[] {
	return Object.values(networkInterfaces())
		.flat()
		.filter((each) => each?.family === "IPv4" && !each.internal)
		.map((each) => each?.cidr)
		.filter((cidr) => cidr !== null && cidr !== undefined);
}
