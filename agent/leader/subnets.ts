import { pastErrors } from "../../pipeline/errors.ts";
import type { NetworkLifecycle } from "../../pipeline/lifecycle/network.ts";
import type { Services } from "../../pipeline/plugin.ts";
import {
	GATEWAYS,
	gatewayIn,
	LEASES,
	type Lease,
	leasedScope,
	leaseKey,
} from "../../pipeline/state/leases.ts";
import {
	type NetworkRecord,
	SUBNETS,
	subnetKey,
} from "../../pipeline/state/networks.ts";
import {
	ignoreConflict,
	type Operation,
	unchanged,
} from "../../pipeline/state/operations.ts";
import type { Repair, Repairs } from "../../pipeline/state/repairs.ts";
import { Ripening } from "../../pipeline/state/ripening.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import { couldTell } from "./could-tell.ts";

/** Repairs of one kind in one look. */
const MAX_EACH_LOOK = 20;

/**
 * Gives back networks that nobody uses, and the subnets and bridges' addresses of networks that are not on record;
 * a network that is on record and has lost its grant of a subnet gets it again.
 */
export class Subnets {
	readonly #services: Services;
	readonly #networks: NetworkLifecycle;
	readonly #repairs: Repairs;
	readonly #empty = new Ripening<NetworkRecord>();
	readonly #subnets = new Ripening<string>();
	readonly #gateways = new Ripening<string>();
	readonly #leases = new Ripening<Lease>();

	/** @param services with a fenced store, as `networks` has it */
	constructor(
		services: Services,
		networks: NetworkLifecycle,
		repairs: Repairs,
	) {
		this.#services = services;
		this.#networks = networks;
		this.#repairs = repairs;
	}

	async look(): Promise<void> {
		const { store, cluster } = this.#services;
		const granted = await store.list<string>(SUBNETS);
		const gateways = await store.list<string>(GATEWAYS);
		const leases = await store.list<Lease>(LEASES);
		const networks = await this.#services.networks.list(); // after: who was granted meanwhile is known
		await this.#putBackGrants(granted, networks);

		// what a host that is cut off has is not given to others
		const hosts = await cluster.hosts.list();
		const subnets = new Map(
			networks.map(({ value }) => [subnetKey(value.subnet), value.scope]),
		);
		const scopes = new Set(networks.map(({ value }) => value.scope));
		await this.#giveBack(
			this.#subnets.ripe(
				granted.filter(
					({ key, value }) => subnets.get(key) !== value && couldTell(hosts),
				),
			),
			"subnet given back",
			"no network has it",
		);
		const bridges = new Set(
			gateways
				.filter(({ key }) => scopes.has(gatewayIn(key).scope))
				.map(({ key, value }) => leaseKey(gatewayIn(key).scope, value)),
		);
		await this.#giveBack(
			this.#gateways.ripe(
				gateways.filter(
					({ key }) =>
						!scopes.has(gatewayIn(key).scope) &&
						couldTell(hosts, gatewayIn(key).host),
				),
			),
			"gateway given back",
			"its network is gone",
		);
		await this.#giveBack(
			this.#leases.ripe(
				leases.filter(
					({ key, value }) =>
						!value.container &&
						!bridges.has(key) &&
						couldTell(hosts, value.host),
				),
			),
			"lease given back",
			"no bridge has it",
		);
		await this.#retireEmpty(networks, leases);
	}

	async #putBackGrants(
		granted: Entry<string>[],
		networks: Entry<NetworkRecord>[],
	): Promise<void> {
		const keys = new Set(granted.map(({ key }) => key));
		for (const network of networks) {
			const { subnet, scope } = network.value;
			const key = subnetKey(subnet);
			if (keys.has(key)) continue;
			await this.#repair(
				[unchanged(network), { verb: "create", key, value: scope }],
				{ what: "subnet put back", to: key, why: `network ${scope} has it` },
			);
		}
	}

	async #giveBack(
		ripe: Entry<unknown>[],
		what: string,
		why: string,
	): Promise<void> {
		for (const { key, index } of ripe.slice(0, MAX_EACH_LOOK)) {
			const deletion: Operation = { verb: "delete", key, index };
			await this.#repair([deletion], { what, to: key, why });
		}
	}

	/** A network that a container made goes with the last one; one that the client made, with Docker's. */
	async #retireEmpty(
		networks: Entry<NetworkRecord>[],
		leases: Entry<Lease>[],
	): Promise<void> {
		const used = new Set(
			leases
				.filter(({ value }) => value.container)
				.map(({ key }) => leasedScope(key)),
		);
		const empty = networks.filter(({ value }) => !used.has(value.scope));
		let retired = 0;
		// by its VNI a network is told from one that is granted anew
		const seen = empty.map((each) => ({ ...each, index: each.value.vni }));
		for (const { key, value } of this.#empty.ripe(seen)) {
			if (retired >= MAX_EACH_LOOK) break;
			await pastErrors(this.#services.log, key, async () => {
				if (!value.implicit && (await this.#isInDocker(value))) return;
				retired++;
				await this.#networks.retire(value);
				if (await this.#services.networks.get(value.scope)) return;
				const why = "no container has a lease in it";
				await this.#repair([], { what: "network retired", to: key, why });
			});
		}
	}

	/** Whether any host that has a bridge in a network still has it in Docker; so too if one cannot be asked. */
	async #isInDocker({ name, scope }: NetworkRecord): Promise<boolean> {
		const { cluster, networks } = this.#services;
		for (const host of await networks.bridges.hosts(scope)) {
			if (!(await cluster.hosts.get(host)).state) return true;
			const engine = await cluster.engine(host);
			if (await engine.networkNamed(name)) return true;
		}
		return false;
	}

	async #repair(
		operations: Operation[],
		repair: Omit<Repair, "at" | "by">,
	): Promise<void> {
		const { store, log } = this.#services;
		const writing = store.commit([...operations, this.#repairs.note(repair)]);
		if (!(await ignoreConflict(writing))) return;
		log.warn({ key: repair.to, why: repair.why }, repair.what);
	}
}
