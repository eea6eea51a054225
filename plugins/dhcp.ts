import { isIPv4 } from "node:net";
import { setTimeout } from "node:timers/promises";
import { Netmask } from "netmask";
import type { EndpointSettings, NetworkCreate } from "../pipeline/docker.ts";
import { HttpError } from "../pipeline/errors.ts";
import {
	type Attachment,
	type ConnectContext,
	type CreateContext,
	definePlugin,
	type Services,
} from "../pipeline/plugin.ts";
import {
	isLease,
	type Lease,
	Leases,
	leasedAddress,
	leasedScope,
	leaseKey,
	leaseOf,
} from "../pipeline/state/leases.ts";
import {
	MTU,
	type NetworkRecord,
	scopeOf,
} from "../pipeline/state/networks.ts";
import {
	keyIn,
	type Operation,
	unchanged,
} from "../pipeline/state/operations.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { claim, type Pool } from "../pipeline/state/subnets.ts";
import {
	askedOf,
	implicitNetwork,
	rangeOf,
	requested,
	sizeAsked,
	weaveCidr,
} from "./dhcp/asked.ts";
import { avoided } from "./dhcp/avoided.ts";
import { joins, mustNotBeLost } from "./dhcp/joins.ts";
import { Restore } from "./dhcp/restore.ts";

interface Config extends Pool {
	/** Addresses that a network is made for unless it asks (label `arpanet.size`). */
	size: number;
}

type Network = Entry<NetworkRecord>;

/** How long a network may be in the making by another gateway. */
const MAKING_MS = 2_000;
const LOOK_MS = 100;

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
			pool: { type: "string", format: "pool", default: "10.32.0.0/12" },
			reserved: {
				type: "array",
				items: { type: "string", format: "subnet" },
				default: [],
			},
			size: { type: "integer", minimum: 1, maximum: 65_534, default: 254 },
		},
	},
	setup(config, services) {
		const { networks, cluster, host } = services;
		const leases = new Leases(services.store);
		const avoid = () => avoided(config.pool, services);
		const restore = new Restore(services, config);

		return {
			async create(context) {
				const { body, facts, conflicts } = context;
				const { deployment, host: home } = facts;
				if (!deployment || !home) return; // not ours

				learn(conflicts, leases, services);
				const given: string[] = [];
				for (const joined of await joins(body, services)) {
					const wanted = requested(body, joined.name);
					const network =
						joined.network ?? (await ownNetwork(body, deployment, home));
					const held = heldAddress(context.previous?.holds ?? [], network);
					const address = await lease(network, wanted, held, context);
					context.networks.push({ network, address } satisfies Attachment);
					const why = wanted
						? "the client asked for it"
						: held
							? heldBefore(context)
							: `free in ${network.value.subnet}`;
					const after =
						conflicts.length > 0 ? `, try ${conflicts.length + 1}` : "";
					given.push(`${address} in ${network.value.scope}: ${why}${after}`);
				}
				const [own] = context.networks;
				context.explain("dhcp", given.join("; "));
				if (!own) return; // shares a network that is not ours to number
				facts.network = own.network.value.scope;
				facts.address = own.address;
			},

			async connect(context) {
				const { network, holds, body } = context;
				learn(context.conflicts, leases, services);
				body.EndpointConfig ??= {};
				const settings: EndpointSettings = body.EndpointConfig;
				const wanted = settings.IPAMConfig?.IPv4Address || undefined;
				const held = heldAddress(holds, network);
				const address = await lease(network, wanted, held, context);
				settings.IPAMConfig = { ...settings.IPAMConfig, IPv4Address: address };
			},

			async networkCreate({ body, facts }) {
				if (!facts.deployment) return; // not ours
				if (body.Driver && body.Driver !== "bridge") return; // the user's own driver has its own addresses
				if (body.EnableIPv4 === false) return; // nor could its containers have ours

				const { asked, rest, wanted } = rangeOf(body);
				const scope = scopeOf(
					facts.deployment,
					facts.composeNetwork ?? "default",
				);
				const fitted = fitMtu(body);
				networks.forget(scope); // no commit of ours checks it: another adapter may have given it back
				const entry = await networks.ensure(
					{
						scope,
						deployment: facts.deployment,
						name: body.Name,
						implicit: false,
						...(facts.shared ? { shared: true } : {}),
						host: host.name,
						...(fitted ? { fitted: true } : {}),
						...askedOf(body),
						...wanted,
					},
					{
						...config,
						size: sizeAsked(body.Labels?.["arpanet.size"], config.size),
						avoid,
						found: async (network) => {
							await mustNotBeMade(network);
							if (!wanted.subnet) return;
							if (claim(wanted.subnet, []) === network.subnet) return;
							throw new HttpError(
								409,
								`dhcp: containers hold addresses of network ${network.name} in ${network.subnet}; remove them (docker compose down), then it can have ${wanted.subnet}`,
							);
						},
					},
				);
				const { value } = entry;
				const gateway = await networks.bridges.ensure(entry, value.host, () =>
					leases.pick(value),
				);
				body.IPAM = {
					...body.IPAM,
					Config: [
						{ ...asked, Subnet: value.subnet, Gateway: gateway },
						...rest, // IPv6 is Docker's
					],
				};
				body.Labels = {
					...body.Labels,
					"arpanet.network": value.scope,
					...(cluster.alone ? {} : { "arpanet.host": value.host }), // its create goes there
					...(value.shared ? { "arpanet.shared": "true" } : {}),
				};
			},

			async adopt(context) {
				const { facts } = context;
				if (!facts.host) return; // not ours
				const lease = leaseOf(facts, context.recordName);
				await restore.addresses(context, facts.deployment ?? "", lease);
			},

			/** Networks that Consul has lost and in which no container is. */
			async sweep() {
				const known = await networks.list();
				for (const { Name } of await services.engine.listNetworks(
					"arpanet.network",
				)) {
					if (known.some(({ value }) => value.name === Name)) continue;
					try {
						await restore.named(Name);
					} catch (err) {
						if (err instanceof HttpError && err.status >= 500) throw err;
						services.log.warn({ network: Name, err }, "cannot be put back yet"); // the others can
					}
				}
			},
		};

		/**
		 * Leases an address to a container: the one that it wants, else the one that it has already, else any that is free.
		 * @throws HttpError 400 for one that is none of the network's, 409 for one that is another's, 503 if all are
		 */
		async function lease(
			network: Network,
			wanted: string | undefined,
			held: string | undefined,
			context: CreateContext | ConnectContext,
		): Promise<string> {
			const { scope, deployment } = network.value;
			const { facts, recordName } = context;
			const address = wanted ?? held ?? (await leases.pick(network.value));
			if (wanted && wanted !== held) await mustBeFree(wanted, network, context);
			context.commit(unchanged(network));
			context.hold(
				leaseKey(scope, address),
				leaseOf({ deployment, ...facts }, recordName),
			);
			return address;
		}

		/** fig.yml has one network, which nobody asks for in words. */
		async function ownNetwork(
			body: CreateContext["body"],
			deployment: string,
			home: string,
		): Promise<Network> {
			const known = await networks.get(deployment);
			if (!known) await mustNotBeLost(`${deployment}_default`, services);
			const wanted = implicitNetwork(deployment, home, weaveCidr(body));
			const asked: NetworkCreate = { Name: wanted.name };
			const fitted = fitMtu(asked);
			return networks.ensure(
				{ ...wanted, ...(fitted ? { fitted, ...askedOf(asked) } : {}) },
				{
					...config,
					size: sizeAsked(body.Labels?.["arpanet.size"], config.size),
					avoid,
				},
			);
		}

		/** What containers send must fit through the overlay, which adds to each packet. @returns whether the client left that to us */
		function fitMtu(body: NetworkCreate): boolean {
			const mtu = cluster.hosts.mtu;
			const asked = body.Options?.[MTU] !== undefined;
			if (cluster.alone || mtu === undefined || asked) return false;
			body.Options = { ...body.Options, [MTU]: String(mtu) };
			return true;
		}

		/**
		 * A network has one name in the cluster, so that of several creates at once one succeeds. One that died before
		 * Docker had it does not stand in the way.
		 * @throws HttpError 409, in Docker's words
		 */
		async function mustNotBeMade(network: NetworkRecord): Promise<void> {
			const { name, host: home } = network;
			// with one host, its Docker itself takes one of several
			const until = performance.now() + (cluster.alone ? 0 : MAKING_MS);
			do {
				if (await cluster.ask(home, (engine) => engine.networkNamed(name))) {
					throw new HttpError(409, `network with name ${name} already exists`);
				}
				await setTimeout(LOOK_MS);
			} while (performance.now() < until);
		}

		async function mustBeFree(
			address: string,
			{ value: network }: Network,
			{ conflicts, replaced }: Pick<CreateContext, "conflicts" | "replaced">,
		): Promise<void> {
			if (!isIPv4(address) || !new Netmask(network.subnet).contains(address)) {
				throw new HttpError(
					400,
					`dhcp: ${address} is not in ${network.subnet}, the subnet of ${network.name}; ask for one in it, or for none`,
				);
			}
			if (network.reserved?.includes(address)) {
				throw new HttpError(
					409,
					`dhcp: ${address} is reserved in ${network.name} (aux_addresses); ask for another address or for none`,
				);
			}
			const key = leaseKey(network.scope, address);
			if (replaced?.holds.includes(key)) return;
			const isTaken = conflicts.some((operation) => keyIn(operation) === key);
			if (!isTaken) return; // the commit will tell
			const lease = await services.store.get<Lease>(key);
			if (!lease) return;
			throw new HttpError(
				409,
				`dhcp: ${address} is leased to ${lease.value.container ?? `host ${lease.value.host}`}; ask for another address or for none`,
			);
		}
	},
});

/** A network that changed under our hands must be read again; an address that another has taken the picker counts as taken already. */
function learn(
	conflicts: readonly Operation[],
	leases: Leases,
	{ networks }: Services,
): void {
	const last = conflicts.at(-1);
	if (!last || !("key" in last)) return;
	if (last.verb === "check") {
		const scope = last.key.slice(last.key.lastIndexOf("/") + 1);
		networks.forget(scope);
		leases.forget(scope);
	} else if (last.verb === "create" && isLease(last.key)) {
		leases.taken(leasedScope(last.key), leasedAddress(last.key));
	}
}

function heldAddress(
	holds: readonly string[],
	{ value }: Network,
): string | undefined {
	const key = holds.find(
		(held) => isLease(held) && leasedScope(held) === value.scope,
	);
	return key && leasedAddress(key);
}

/** Why a container has an address that is leased to its name already. */
function heldBefore({ lostHost }: CreateContext): string {
	return lostHost
		? `the copy on ${lostHost} had it`
		: "an earlier create of that name had leased it";
}
