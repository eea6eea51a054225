import type { Chain } from "../chain.ts";
import {
	type ContainerInspect,
	type ContainerSummary,
	ownName,
} from "../docker.ts";
import { HttpError, pastErrors } from "../errors.ts";
import { readLabels } from "../facts.ts";
import type { Facts, Services } from "../plugin.ts";
import {
	type ContainerRecord,
	type Holding,
	holdSame,
	isSame,
} from "../state/containers.ts";
import { isLease, leasedScope, leaseKey, leaseKeyOf } from "../state/leases.ts";
import { MOVES, moveKey } from "../state/moves.ts";
import { type Operation, replacing } from "../state/operations.ts";
import { Repairs } from "../state/repairs.ts";
import { Ripening } from "../state/ripening.ts";
import { isSlot, SLOTS, slotKeyOf } from "../state/slots.ts";
import type { Entry } from "../state/store.ts";
import type { ContainerLifecycle } from "./container.ts";

/** What is put back in one commit, beside the record: Consul takes 64 operations. */
const MAX_TOGETHER = 50;

/** A container that has left a network, by id; its lease there is still its own. */
interface Left {
	id: string;
	scope: string;
}

/**
 * Compares what lives on this host with what is on record of it, and puts right what differs: what
 * happened while nobody watched, what was removed behind our back, what died half-way. What does not
 * show on one host's engine is the leader's (agent/leader).
 */
export class Reconcile {
	readonly #chain: Chain;
	readonly #services: Services;
	readonly #containers: ContainerLifecycle;
	readonly #orphans = new Ripening<ContainerRecord>();
	/** Containers with leases in networks that they are not in. */
	readonly #left = new Ripening<Left>();
	readonly #repairs: Repairs;

	constructor(
		chain: Chain,
		services: Services,
		containers: ContainerLifecycle,
	) {
		this.#chain = chain;
		this.#services = services;
		this.#containers = containers;
		this.#repairs = new Repairs(services.store, services.host.name);
	}

	/**
	 * One look at everything.
	 * @param containers all of ours that the engine has, stopped ones too
	 */
	async sweep(containers: ContainerSummary[]): Promise<void> {
		await this.#services.networks.list(); // Consul may have lost what was known before
		const records = await this.#recordsOf(containers);
		/** What each must hold, by its id. */
		const wanted = new Map<string, string[]>();
		for (const each of containers) {
			wanted.set(each.Id, await this.#wanted(each, readLabels(each.Labels)));
		}
		await this.#adoptMissing(containers, records, wanted);
		const coming = new Set(await this.#services.store.keys(MOVES));
		const settled = records.filter(({ key }) => {
			return !coming.has(moveKey(this.#services.containers.name(key)));
		});
		await this.#giveBackOrphans(containers, records, settled);
		await this.#endLeft(containers, settled, wanted);
		await this.#chain.release("sweep", { containers });
	}

	/**
	 * Writes down again what a living container holds, if it is not on record under its name.
	 * @param missing keys that Consul does not have although they are on record
	 */
	async adopt(
		container: ContainerInspect,
		missing: ReadonlySet<string> = new Set(),
	): Promise<void> {
		const { containers, host, store } = this.#services;
		const facts = readLabels(container.Config.Labels);
		const name = container.Name.slice(1);
		const entry = await containers.find(name, facts);
		if (entry && entry.key !== containers.key(name)) {
			const other = (await containers.get(name))?.value.facts.host;
			if (other && other !== host.name) await this.#putAside(container, other);
			await this.#containers.renamed(container.Id);
			return;
		}
		const wanted = [
			...(entry?.value.holds ?? []),
			...(await this.#wanted(container, facts)),
		];
		const isWhole = !entry?.value.lacks;
		if (entry && isWhole && wanted.every((held) => !missing.has(held))) return;
		const written = entry ?? (await containers.get(name));
		const other = written?.value.facts.host ?? host.name;
		if (!entry && other !== host.name) {
			await this.adopt(await this.#putAside(container, other), missing);
			return;
		}
		// of two tries of a create the record may be the second's, and the container the first's
		const own =
			written && holdSame(written.value.facts, facts)
				? written.value
				: undefined;
		const operations: Operation[] = [];
		const holds: string[] = [];
		await this.#chain.acquire("adopt", {
			container,
			facts,
			recordName: name,
			commit: (operation) => operations.push(operation),
			hold: (key, value, known) => {
				holds.push(key);
				operations.push(replacing(key, known, value));
			},
		});
		const cannot = entry && isWhole && !holds.some((held) => missing.has(held));
		if (cannot) return; // what is missing is none of ours to put back
		const { lacks: _, ...before } = own ?? { attempts: 1, holds: [] };
		const value: ContainerRecord = {
			...before,
			facts,
			holds: [...new Set([...before.holds, ...holds])],
		};
		const key = containers.key(name);
		const why = entry
			? "it lives and what it holds was gone"
			: "it lives and was not on record";
		const repair = { what: "container put back on record", to: key, why };
		// what is there already the next try finds; a network's check stays with the lease that follows it
		while (operations.length > MAX_TOGETHER) {
			const last = operations[MAX_TOGETHER - 1]?.verb === "check" ? 1 : 0;
			await store.commit(operations.splice(0, MAX_TOGETHER - last));
		}
		await store.commit([
			written
				? { verb: "update", key, value, index: written.index }
				: { verb: "create", key, value },
			...operations,
			this.#repairs.note({ ...repair, container: name }),
		]);
		this.#services.log.info({ container: name }, "put back on record");
	}

	/**
	 * A container whose name another host's got while it was on no record itself gives way: as under Compose one that is being replaced, it
	 * goes by its id, too.
	 * @returns it by its new name
	 * @throws HttpError 409 if it was not made by arpanet on this host, or the other one is not there
	 */
	async #putAside(
		{ Id, Name, Config }: ContainerInspect,
		other: string,
	): Promise<ContainerInspect> {
		const { cluster, containers, engine, host, log, store } = this.#services;
		const name = Name.slice(1);
		const isFromHere = readLabels(Config.Labels).host === host.name;
		const another =
			isFromHere &&
			(await cluster.ask(other, (engine) => engine.containerNamed(name)));
		if (!another) {
			throw new HttpError(
				409,
				`${name} is on record on host ${other}; docker rename or rm the one here, at this host's own engine`,
			);
		}
		const to = `${Id.slice(0, 12)}_${name}`;
		await engine.post(
			`/containers/${Id}/rename?name=${encodeURIComponent(to)}`,
		);
		const why = `${other} has a ${name}, made while this one was on no record`;
		log.warn({ container: name, to, why }, "renamed");
		const repair = { what: "container renamed", to: containers.key(to), why };
		await store.commit([this.#repairs.note({ ...repair, container: to })]);
		const renamed = await engine.inspectContainer(Id);
		if (!renamed) throw new HttpError(404, `${to} went meanwhile`);
		return renamed;
	}

	/** The records of what lives here by its name, and of what has a slot here: so each whose facts name this host. */
	async #recordsOf(
		living: ContainerSummary[],
	): Promise<Entry<ContainerRecord>[]> {
		const { containers, host, store } = this.#services;
		const slots = await store.list<Holding>(`${SLOTS}${host.name}/`);
		return containers.some([
			...living.map(({ Names }) => ownName(Names)),
			...slots.map(({ value }) => value.container ?? ""),
		]);
	}

	async #adoptMissing(
		containers: ContainerSummary[],
		records: Entry<ContainerRecord>[],
		wanted: ReadonlyMap<string, string[]>,
	): Promise<void> {
		const byKey = new Map(records.map(({ key, value }) => [key, value]));
		const missing = await this.#missing([...wanted.values()].flat(), records);
		for (const { Id, Names, Labels } of containers) {
			const key = this.#services.containers.key(ownName(Names));
			const whole = wanted.get(Id)?.every((held) => !missing.has(held));
			const record = byKey.get(key);
			const known = record && isSame(record.facts, readLabels(Labels));
			if (known && whole && !record.lacks) continue;
			const container = await this.#services.engine.inspectContainer(Id);
			if (!container) continue;
			await pastErrors(this.#services.log, key, async () => {
				await this.adopt(container, missing);
				await this.#containers.observe(Id);
			});
		}
	}

	/** The leases and the slot that a container must hold. */
	async #wanted(
		container: Pick<ContainerSummary, "NetworkSettings">,
		facts: Facts,
	): Promise<string[]> {
		const { networks, host } = this.#services;
		const joined = await networks.joinedBy(container);
		return [
			leaseKeyOf(facts),
			facts.host === host.name ? slotKeyOf(facts) : undefined, // this host had another name
			...joined.map(({ network, address }) =>
				leaseKey(network.value.scope, address),
			),
		].filter((key) => key !== undefined);
	}

	/** Leases and slots that containers here must hold, or do by their records, and that Consul does not have. */
	async #missing(
		wanted: string[],
		records: Entry<ContainerRecord>[],
	): Promise<Set<string>> {
		const { store, host } = this.#services;
		const recorded = records
			.filter(({ value }) => value.facts.host === host.name)
			.flatMap(({ value }) => value.holds)
			.filter((key) => isLease(key) || isSlot(key));
		const own = [...wanted, ...recorded];
		const there = new Set((await store.some(own)).map(({ key }) => key));
		return new Set(own.filter((key) => !there.has(key)));
	}

	/** @param settled the records of those that are not on their way from a lost host */
	async #giveBackOrphans(
		containers: ContainerSummary[],
		records: Entry<ContainerRecord>[],
		settled: Entry<ContainerRecord>[],
	): Promise<void> {
		/** By lease: two had it one after the other if both wanted the same address. */
		const alive = new Map<string, { names: string[]; facts: Facts }[]>();
		for (const { Labels, Names: names } of containers) {
			const facts = readLabels(Labels);
			const lease = leaseKeyOf(facts) ?? "";
			alive.set(lease, [...(alive.get(lease) ?? []), { names, facts }]);
		}
		/** Whether a container is of a record, or has its name and is of none. */
		const isOf = (
			{ names, facts }: { names: string[]; facts: Facts },
			name: string,
			recorded: Facts,
		) =>
			isSame(facts, recorded) ||
			(names.includes(`/${name}`) &&
				!records.some(({ value }) => isSame(value.facts, facts)));
		const names = new Set(containers.flatMap(({ Names }) => Names));
		const orphans = settled.filter(({ key, value }) => {
			if (value.facts.host !== this.#services.host.name) return false;
			const name = this.#services.containers.name(key);
			const lease = leaseKeyOf(value.facts);
			if (!lease) return !names.has(`/${name}`);
			return !alive.get(lease)?.some((each) => isOf(each, name, value.facts));
		});
		for (const orphan of this.#orphans.ripe(orphans)) {
			const why = "there is no such container any more";
			this.#services.log.info(
				{ record: orphan.key, held: orphan.value.holds, why },
				"giving back",
			);
			const repair = { what: "container given back", to: orphan.key, why };
			const container = this.#services.containers.name(orphan.key);
			const note = this.#repairs.note({ ...repair, container });
			await pastErrors(this.#services.log, orphan.key, () =>
				this.#containers.giveBack(orphan, undefined, [note]),
			);
		}
	}

	/**
	 * Ends connections of which no post-hook told: it did not come, or the container was disconnected behind our back.
	 * @param settled the records of those that are not still to be connected, on their way from a lost host
	 */
	async #endLeft(
		containers: ContainerSummary[],
		settled: Entry<ContainerRecord>[],
		wanted: ReadonlyMap<string, string[]>,
	): Promise<void> {
		const byKey = new Map(settled.map((each) => [each.key, each]));
		const all: Entry<Left>[] = [];
		for (const container of containers) {
			const { Id: id, Names, Labels } = container;
			const facts = readLabels(Labels);
			const key = this.#services.containers.key(ownName(Names));
			const entry = byKey.get(key);
			if (!entry || !isSame(entry.value.facts, facts)) continue;
			const has = new Set(wanted.get(id));
			const left = entry.value.holds
				.filter((held) => isLease(held) && !has.has(held))
				.map((key) => ({ key, scope: leasedScope(key) }));
			for (const { key, scope } of left) {
				if (await this.#isUntold(container, scope)) continue;
				all.push({ key, index: entry.index, value: { id, scope } });
			}
		}
		for (const { key, value } of this.#left.ripe(all)) {
			const network = await this.#services.networks.get(value.scope);
			if (!network) continue; // the leader gives back what is left of it
			this.#services.log.info(
				{ lease: key },
				"giving back: not in that network",
			);
			await pastErrors(this.#services.log, key, () =>
				this.#containers.connections.ended(network.value.name, value.id),
			);
		}
	}

	/** Whether a container is in a network without anything that says at which address, as at its engine itself. */
	async #isUntold(
		{ NetworkSettings }: ContainerSummary,
		scope: string,
	): Promise<boolean> {
		const network = await this.#services.networks.get(scope);
		const name = network?.value.name ?? "";
		const endpoint = NetworkSettings?.Networks?.[name];
		return endpoint !== undefined && !endpoint.IPAMConfig?.IPv4Address;
	}
}
