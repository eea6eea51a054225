import type {
	ContainerInspect,
	NetworkInspect,
} from "../../pipeline/docker.ts";
import type { AdoptContext, Services } from "../../pipeline/plugin.ts";
import { type Lease, leaseKey } from "../../pipeline/state/leases.ts";
import type {
	NetworkRecord,
	WantedNetwork,
} from "../../pipeline/state/networks.ts";
import { unchanged } from "../../pipeline/state/operations.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import type { Pool } from "../../pipeline/state/subnets.ts";
import { askedOf, implicitNetwork, rangeOf, weaveCidr } from "./asked.ts";

type Network = Entry<NetworkRecord>;

/** Puts back into Consul what it has lost and Docker still has. */
export class Restore {
	readonly #services: Services;
	readonly #config: Pool & { size: number };

	constructor(services: Services, config: Pool & { size: number }) {
		this.#services = services;
		this.#config = config;
	}

	/** Writes down again the addresses that a living container has. */
	async addresses(
		context: AdoptContext,
		deployment: string,
		lease: Lease,
	): Promise<void> {
		const { networks } = this.#services;
		const { container, facts } = context;
		const held = new Map<string, { network: Network; address: string }>();
		for (const [name, endpoint] of Object.entries(
			container.NetworkSettings.Networks,
		)) {
			const network = (await networks.byName(name)) ?? (await this.named(name));
			const address = endpoint.IPAMConfig?.IPv4Address;
			if (!network || !address) continue;
			held.set(leaseKey(network.value.scope, address), { network, address });
		}
		// no network of Docker's: weave carries the address
		const own =
			facts.network &&
			((await networks.get(facts.network)) ??
				(await this.#woven(container, deployment)));
		if (own && facts.address) {
			const { address } = facts;
			held.set(leaseKey(own.value.scope, address), { network: own, address });
		}
		for (const { network, address } of held.values()) {
			const there = await networks.joinable(network);
			if (there) await this.#address(there, address, context, lease);
		}
	}

	/** A network that Docker has and Consul has lost; undefined for one that is none of ours. */
	async named(name: string): Promise<Network | undefined> {
		const { engine, host } = this.#services;
		const docker = await engine.networkNamed(name);
		const scope = docker?.Labels?.["arpanet.network"];
		if (!docker || !scope) return undefined;
		const { wanted } = rangeOf(docker);
		if (!wanted.subnet) return undefined;
		return this.#put({
			scope,
			deployment: deploymentOf(docker, scope),
			name,
			implicit: docker.Labels?.["arpanet.implicit"] === "true",
			...(docker.Labels?.["arpanet.shared"] === "true" ? { shared: true } : {}),
			host: host.name,
			...askedOf(docker),
			...wanted,
			restored: true,
		});
	}

	/** As `named`, for a network that Docker never had. */
	async #woven(
		{ Config: { Env } }: ContainerInspect,
		deployment: string,
	): Promise<Network | undefined> {
		const cidr = weaveCidr({ Env });
		const { host } = this.#services;
		return cidr
			? this.#put(implicitNetwork(deployment, host.name, cidr))
			: undefined;
	}

	#put(wanted: WantedNetwork): Promise<Network> {
		const { networks } = this.#services;
		return networks.ensure(wanted, this.#config);
	}

	async #address(
		network: Network,
		address: string,
		context: AdoptContext,
		lease: Lease,
	): Promise<void> {
		const { containers, store, log } = this.#services;
		const key = leaseKey(network.value.scope, address);
		const known = await store.get<Lease>(key);
		const { container: holder, foreign } = known?.value ?? {};
		// one that was renamed while its record was lost has left its lease under its old name
		const isOthers =
			known &&
			holder !== context.recordName &&
			(!holder ||
				foreign ||
				(await containers.get(holder))?.value.holds.includes(key));
		if (isOthers) {
			log.error(
				{ address, holder: known.value, container: context.recordName },
				"two containers hold one address; remove one of them",
			);
			return;
		}
		context.commit(unchanged(network));
		context.hold(key, lease, known);
	}
}

function deploymentOf(docker: NetworkInspect, scope: string): string {
	return (
		docker.Labels?.["arpanet.deployment"] ??
		docker.Labels?.["com.docker.compose.project"] ??
		scope
	);
}
