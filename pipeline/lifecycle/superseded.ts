import {
	type ContainerInspect,
	type ContainerSummary,
	ownName,
} from "../docker.ts";
import { pastErrors } from "../errors.ts";
import { readLabels } from "../facts.ts";
import type { Services } from "../plugin.ts";
import { isLease, leasedScope, leaseKeyOf } from "../state/leases.ts";
import {
	isSuperseded,
	type Superseded,
	supersededKey,
	supersededName,
	supersededOn,
} from "../state/moves.ts";
import { ignoreConflict, unchanged } from "../state/operations.ts";
import { Repairs } from "../state/repairs.ts";
import type { Entry } from "../state/store.ts";

/**
 * The copies that this host still has of containers that were started elsewhere while it was lost: each is stopped, kept
 * from starting by itself, and called by another name, since its own is the other's. None is deleted.
 */
export class SupersededCopies {
	readonly #services: Services;
	readonly #repairs: Repairs;

	constructor(services: Services) {
		this.#services = services;
		this.#repairs = new Repairs(services.store, services.host.name);
	}

	/** Stops those that Consul tells of; to be awaited before anything of this host is registered. */
	async settle(): Promise<void> {
		const { store, host, log } = this.#services;
		const all = await supersededOn(store, host.name);
		// one that Docker cannot stop keeps nothing else from what it is due, and is registered by nobody: `isCurrent`
		await Promise.all(
			all.map((each) => pastErrors(log, each.key, () => this.#settle(each))),
		);
	}

	/**
	 * Has Consul tell again of those of which nothing tells but the other copy's record: `arpanet host rm` took with this host what was
	 * written of it.
	 * @param listed arpanet's containers on this host
	 * @throws Conflict if another's record has changed meanwhile
	 */
	async mark(listed: readonly ContainerSummary[]): Promise<void> {
		const { containers, host, store } = this.#services;
		for (const { Id, Names, Labels } of listed) {
			const facts = readLabels(Labels);
			const lease = leaseKeyOf(facts);
			if (!facts.reschedule || !lease) continue;
			const container = ownName(Names);
			const record = await containers.get(container);
			const to = record?.value.facts.host ?? host.name;
			if (to === host.name || to === facts.host) continue;
			if (!record?.value.holds.includes(lease)) continue;
			const scopes = record.value.holds.filter(isLease).map(leasedScope);
			const key = supersededKey(host.name, Id);
			const value: Superseded = { container, to, scopes };
			await store.commit([{ verb: "set", key, value }, unchanged(record)]);
		}
	}

	async #settle({
		id,
		key,
		value,
		index,
	}: Entry<Superseded> & { id: string }): Promise<void> {
		const { store, host, engine, log } = this.#services;
		const container = await engine.inspectContainer(id);
		if (container) await this.#putAside(container, value);
		const name = supersededName(value.container, id);
		const why = container
			? `it was started on ${value.to} while this host was lost; restart is off, and it is called ${name}`
			: `it was started on ${value.to}, and the one here is gone`;
		await ignoreConflict(
			store.commit([
				{ verb: "delete", key, index },
				this.#repairs.note({
					what: "superseded copy stopped",
					to: host.name,
					why,
					container: value.container,
				}),
			]),
		);
		log.warn({ container: value.container, why }, "superseded copy stopped");
	}

	/** Stops one that somebody has started again, past the gateway or by its id. */
	async started(id: string, name: string): Promise<boolean> {
		if (!isSuperseded(name)) return false;
		const { engine, log } = this.#services;
		await engine.post(`/containers/${id}/stop`);
		log.warn({ container: name }, "its address is another's; stopped again");
		return true;
	}

	/** First the restart policy: who is stopped may come back by it; the name last, by which one can tell that all is done. */
	async #putAside(
		{ Id, Name, HostConfig }: ContainerInspect,
		{ container }: Superseded,
	): Promise<void> {
		const engine = this.#services.engine;
		if (!HostConfig.AutoRemove) {
			await engine.post(`/containers/${Id}/update`, {
				RestartPolicy: { Name: "no" },
			});
		}
		await engine.post(`/containers/${Id}/stop`);
		const name = supersededName(container, Id);
		if (HostConfig.AutoRemove || Name === `/${name}`) return;
		await engine.post(
			`/containers/${Id}/rename?name=${encodeURIComponent(name)}`,
		);
	}
}
