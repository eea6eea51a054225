import type { Chain } from "../chain.ts";
import type { ContainerInspect, ContainerSummary } from "../docker.ts";
import { readLabels } from "../facts.ts";
import type { Facts, Services } from "../plugin.ts";
import type { ContainerRecord } from "../state/containers.ts";
import {
	isLease,
	type Lease,
	leasedNetwork,
	leaseKey,
} from "../state/leases.ts";
import type { NetworkRecord } from "../state/networks.ts";
import { type Removal, Removals } from "../state/removals.ts";
import { Ripening } from "../state/ripening.ts";
import type { Entry, Operation } from "../state/store.ts";
import type { ContainerLifecycle } from "./container.ts";
import type { NetworkLifecycle } from "./network.ts";

/**
 * Compares what lives on this host with what is on record of it, and puts right what differs: what
 * happened while nobody watched, what was removed behind our back, what died half-way.
 */
export class Reconcile {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #containers: ContainerLifecycle;
	readonly #networks: NetworkLifecycle;
	readonly #orphans = new Ripening<ContainerRecord>();
	readonly #empty = new Ripening<NetworkRecord>();
	readonly #notes = new Ripening<Removal>();

	constructor(
		chain: Chain,
		services: Services,
		containers: ContainerLifecycle,
		networks: NetworkLifecycle,
	) {
		this.#chain = chain;
		this.#services = services;
		this.#containers = containers;
		this.#networks = networks;
	}

	/**
	 * One look at everything.
	 * @param containers all of ours that the engine has, stopped ones too
	 */
	async sweep(containers: ContainerSummary[]): Promise<void> {
		await this.#services.networks.list(); // Consul may have lost what was known before
		const records = await this.#services.containers.list();
		await this.#adoptMissing(containers, records);
		await this.#giveBackOrphans(containers, records);
		await this.#retireEmptyNetworks();
		const removals = new Removals(this.#services.store);
		for (const note of this.#notes.ripe(await removals.list())) {
			await removals.forget(note);
		}
		await this.#chain.release("sweep", { containers });
	}

	/** Writes down again what a living container holds, if it is not on record under its name. */
	async adopt(container: ContainerInspect): Promise<void> {
		const { containers, store } = this.#services;
		const facts = readLabels(container.Config.Labels);
		const name = container.Name.slice(1);
		const entry = await containers.find(name, facts);
		if (entry) {
			if (entry.key !== containers.key(name)) {
				await this.#containers.renamed(container.Id);
			}
			return;
		}
		const operations: Operation[] = [];
		const holds: string[] = [];
		await this.#chain.acquire("adopt", {
			container,
			facts,
			record: name,
			commit: (operation) => operations.push(operation),
			hold: (key, value) => {
				holds.push(key);
				operations.push({ verb: "create", key, value });
			},
		});
		const value: ContainerRecord = { facts, holds, attempts: 1 };
		await store.commit([
			{ verb: "set", key: containers.key(name), value },
			...operations,
		]);
		this.#services.log.info({ container: name }, "put back on record");
	}

	async #adoptMissing(
		containers: ContainerSummary[],
		records: Entry<ContainerRecord>[],
	): Promise<void> {
		const leased = new Set(records.map(({ value }) => leaseOf(value.facts)));
		const keys = new Set(records.map(({ key }) => key));
		for (const { Id, Names, Labels } of containers) {
			const key = this.#services.containers.key(Names[0]?.slice(1) ?? "");
			const lease = leaseOf(readLabels(Labels));
			if (keys.has(key) && (!lease || leased.has(lease))) continue;
			const container = await this.#services.engine().inspectContainer(Id);
			if (!container) continue;
			await this.#pastErrors(key, async () => {
				await this.adopt(container);
				await this.#containers.observe(Id);
			});
		}
	}

	async #giveBackOrphans(
		containers: ContainerSummary[],
		records: Entry<ContainerRecord>[],
	): Promise<void> {
		const alive = new Set(
			containers.map(({ Labels }) => leaseOf(readLabels(Labels))),
		);
		const names = new Set(containers.flatMap(({ Names }) => Names));
		const orphans = records.filter(({ key, value }) => {
			if (value.facts.host !== this.#services.host.name) return false;
			const lease = leaseOf(value.facts);
			if (lease) return !alive.has(lease);
			return !names.has(`/${this.#services.containers.name(key)}`);
		});
		for (const orphan of this.#orphans.ripe(orphans)) {
			this.#services.log.info(
				{ record: orphan.key, held: orphan.value.holds },
				"no such container any more; giving back",
			);
			await this.#pastErrors(orphan.key, () =>
				this.#containers.giveBack(orphan, undefined),
			);
		}
	}

	/** A network that a container made goes with the last one; one that the client made, with Docker's. */
	async #retireEmptyNetworks(): Promise<void> {
		const { networks, store } = this.#services;
		const leases = await store.list<Lease>("arpanet/leases/");
		const used = new Set(
			leases
				.filter(({ key, value }) => isLease(key) && value.container)
				.map(({ key }) => leasedNetwork(key)),
		);
		const known = await networks.list();
		const inDocker = new Set(
			(await this.#services.engine().listNetworks("arpanet.network")).map(
				({ Name }) => Name,
			),
		);
		const empty = known.filter(
			({ value }) =>
				!used.has(value.scope) && (value.implicit || !inDocker.has(value.name)),
		);
		for (const { key, value } of this.#empty.ripe(empty)) {
			await this.#pastErrors(key, () => this.#networks.retire(value));
		}
	}

	/** What cannot be put right now must not keep the rest of the sweep from it; the next one tries again. */
	async #pastErrors(key: string, work: () => Promise<void>): Promise<void> {
		try {
			await work();
		} catch (err) {
			this.#services.log.warn({ key, err }, "cannot be put right yet");
		}
	}
}

/** Key of the lease that a container's facts tell of. */
function leaseOf(facts: Facts): string | undefined {
	return facts.network && facts.address
		? leaseKey(facts.network, facts.address)
		: undefined;
}
