import type { Services } from "../../pipeline/plugin.ts";
import {
	lostNodes,
	nodeOf,
	setHostCheck,
	setNode,
} from "../../pipeline/state/catalog.ts";
import {
	BEATS,
	type Beat,
	hostKeys,
	type KnownHost,
} from "../../pipeline/state/hosts.ts";
import { ALIVE, type Member, membersOf } from "../../pipeline/state/members.ts";
import {
	ignoreConflict,
	type Operation,
} from "../../pipeline/state/operations.ts";
import type { Repairs } from "../../pipeline/state/repairs.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import { tcpAddress } from "../../pipeline/tls.ts";
import { type Reached, reach } from "../reach.ts";

/** A host gives a sign of life every 3 s; who has missed one is looked at. */
const SILENT_MS = 4_500;
/** Without a Consul agent of its own a host has only its beats to speak for it, and two may be late. */
const LONG_SILENT_MS = 8_000;
const PROBE_MS = 700;

/**
 * Finds hosts that are lost, so that DNS stops answering for their containers within ten seconds. A host whose
 * arpanet alone is dead is not lost: its containers run. So three witnesses are heard: its signs of life in Consul,
 * the gossip of Consul's agents, and its engine port. Registrations stay; with the host's next sign
 * of life DNS answers again.
 */
export class LostHosts {
	readonly #services: Services;
	readonly #repairs: Repairs;
	/** When, by a monotonic clock, each host's beat was first seen as it is now. */
	readonly #seen = new Map<string, { index: number; at: number }>();
	/** Those that this agent has marked and not seen to speak since. */
	readonly #lost = new Set<string>();
	/** Hosts there were before this agent led have not been watched: the gossip alone speaks for them. */
	readonly #since = performance.now();

	/** @param services with a fenced store */
	constructor(services: Services, repairs: Repairs) {
		this.#services = services;
		this.#repairs = repairs;
	}

	/** One look at all other hosts; marks those that are lost. */
	async look(): Promise<void> {
		const { store, cluster } = this.#services;
		const beats = new Map(
			(await store.list<Beat>(BEATS)).map((beat) => [beat.key, beat]),
		);
		const silent = (await cluster.hosts.list()).filter(
			({ name }) =>
				name !== cluster.self &&
				this.#silence(name, beats.get(hostKeys(name).beat)) > SILENT_MS,
		);
		if (silent.length === 0) return;
		const [members, marked] = await Promise.all([
			membersOf(store),
			lostNodes(store),
		]);
		for (const name of this.#lost) {
			if (marked.has(nodeOf(name))) continue;
			this.#lost.delete(name); // it has spoken since, if only between two looks
			this.#seen.delete(name);
		}
		await Promise.all(
			silent
				.filter(({ name }) => !marked.has(nodeOf(name)))
				.filter(({ name }) => this.#seen.has(name))
				.map(async (host) => {
					const beat = beats.get(hostKeys(host.name).beat);
					const why = await this.#verdict(host, beat, members);
					if (why) await this.#mark(host, beat, why);
				}),
		);
	}

	/** Milliseconds since a host's last sign of life; a new leader has not watched and takes it for long. */
	#silence(name: string, beat: Entry<Beat> | undefined): number {
		const now = performance.now();
		const index = beat?.index ?? 0;
		const before = this.#seen.get(name);
		if (before?.index === index) return now - before.at;
		this.#lost.delete(name);
		const first = now - this.#since < SILENT_MS;
		const at = before || !first ? now : this.#since - SILENT_MS - 1;
		this.#seen.set(name, { index, at });
		return now - at;
	}

	/** Why a silent host is lost; undefined if it is not, or not for certain. */
	async #verdict(
		host: KnownHost,
		beat: Entry<Beat> | undefined,
		members: readonly Member[],
	): Promise<string | undefined> {
		const own = members.filter(({ Addr }) => Addr === host.address);
		if (own.some(({ Status }) => Status === ALIVE)) return undefined; // its arpanet alone is dead
		const answer = await probe(host);
		if (answer === "open") return undefined;
		if (own.length > 0) {
			return "its agent is silent, Consul's agent there has failed, its engine port does not answer";
		}
		if (answer === "refused") return undefined; // the machine lives
		const watched = performance.now() - this.#since;
		const silence = Math.min(this.#silence(host.name, beat), watched);
		return silence > LONG_SILENT_MS
			? "its agent is silent, its engine port does not answer"
			: undefined;
	}

	/** @param beat as it was when the host was judged: one that came since saves the host */
	async #mark(
		host: KnownHost,
		beat: Entry<Beat> | undefined,
		why: string,
	): Promise<void> {
		const { store, log } = this.#services;
		const { alive, beat: key } = hostKeys(host.name);
		const unheard: Operation = beat
			? { verb: "delete", key, index: beat.index }
			: { verb: "absent", key };
		const writing = store.commit([
			unheard,
			{ verb: "delete", key: alive },
			setNode(host),
			setHostCheck(host.name, "critical", `lost: ${why}`),
			this.#repairs.note({ what: "host marked lost", to: host.name, why }),
		]);
		if (!(await ignoreConflict(writing))) return;
		this.#lost.add(host.name);
		log.warn({ host: host.name, why }, "host is lost");
	}
}

/** Tries to reach a host's engine port, or, where it lets nobody in, any port: what refuses lives. */
export function probe({ address, engine }: KnownHost): Promise<Reached> {
	const at = (engine && tcpAddress(engine)) || { host: address, port: 9 };
	return reach(at, PROBE_MS);
}
