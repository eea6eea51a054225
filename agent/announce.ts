import { isDeepStrictEqual } from "node:util";
import { keyAndValue } from "../pipeline/docker.ts";
import type { Services } from "../pipeline/plugin.ts";
import { setHostCheck, setNode } from "../pipeline/state/catalog.ts";
import {
	type Beat,
	type HostRecord,
	type HostState,
	hostKeys,
	remedyOfTwins,
} from "../pipeline/state/hosts.ts";
import {
	ignoreConflict,
	type Operation,
} from "../pipeline/state/operations.ts";
import {
	endSession,
	openSession,
	renewSession,
} from "../pipeline/state/session.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { type Load, LoadMeter } from "./load-meter.ts";
import { rejoin } from "./rejoin.ts";
import { pause, repeat } from "./repeat.ts";

/**
 * Seconds after which a host that says nothing gets no new containers; Consul takes up to twice as long to see it.
 * Whether DNS still answers for those it has, the leader decides (leader/lost-hosts.ts): without its agent they run on.
 */
const TTL_S = 10;
const BEAT_MS = 3_000;
/** How soon to try again after a beat that failed: a host that comes back shall answer in DNS at once. */
const RETRY_MS = 1_000;
/** An engine that has answered no ping for so long hangs: it gets nothing new, as one that is not there. */
const HANGS_MS = 10_000;
/** A change of load that is worth telling all gateways. */
const WORTH_TELLING = 0.05;

/**
 * Says that this host is there, as long as it is: its record for good, its state under a session
 * that ends when it falls silent.
 * @param heard is called whenever it was said: then no other host has its name
 */
export async function announce(
	services: Services,
	signal: AbortSignal,
	heard: () => void,
): Promise<void> {
	const announcer = new Announcer(services);
	const beat = async () => {
		await announcer.beat();
		heard();
	};
	await repeat(beat, {
		signal,
		log: services.log,
		failure: "this host is not announced",
		rest: async (failed) => {
			if (failed) await rejoin(services.store);
			await pause(failed ? RETRY_MS : BEAT_MS, signal);
		},
	});
	await announcer.leave();
}

class Announcer {
	readonly #services: Services;
	readonly #meter: LoadMeter;
	/** The session that holds the host's state. */
	#session: string | undefined;
	/** Whether the record says all that the engine tells of itself. */
	#complete = false;
	#told: Load | undefined;
	/** Since when the engine answers no ping. */
	#silentSince: number | undefined;

	constructor(services: Services) {
		this.#services = services;
		this.#meter = new LoadMeter(services.host.address);
	}

	async beat(): Promise<void> {
		const session = this.#session;
		this.#session = undefined; // unless all goes well
		this.#session = await this.#beat(session);
	}

	/**
	 * arpanet is stopped in good order, perhaps to be started again at once: nothing new comes here, and who has business
	 * with this host waits for it for as long as its session lasts.
	 */
	async leave(): Promise<void> {
		const { store, host } = this.#services;
		const session = this.#session;
		if (!session) return;
		const { alive, beat } = hostKeys(host.name);
		const value: HostState = {
			...(await this.#meter.look()),
			address: host.address,
			stopping: true,
		};
		await store
			.commit([
				{ verb: "lock", key: alive, value, session },
				{ verb: "delete", key: beat }, // it may be removed
			])
			.catch(() => {}); // then its session tells
	}

	async #beat(before: string | undefined): Promise<string> {
		const { store, host } = this.#services;
		if (!before) {
			await this.#mustBeOurs();
			await this.#mustBeKnownOrNew();
		}
		if (!before || !this.#complete) await this.#writeRecord();
		if (before) await renewSession(store, before);
		// the session's own time is its check: Consul's agent may be another host's
		const session =
			before ??
			(await openSession(store, `arpanet host ${host.name}`, TTL_S, []));
		const load = await this.#meter.look();
		const engineless = await this.#isEngineless();
		const known = before && (await this.#isKnown(load, engineless));
		const state: HostState = {
			...load,
			address: host.address,
			...(engineless ? { engineless } : {}),
		};
		if (await this.#hold(session, known ? undefined : state)) {
			if (!known) this.#told = load;
			return session;
		}
		const { alive, beat } = hostKeys(host.name);
		try {
			await this.#mustBeOurs();
			// this very host's, before it was stopped or killed: its session would keep us waiting, and then leave a gap
			const earlier: Operation[] = [
				{ verb: "delete", key: alive },
				{ verb: "delete", key: beat },
			];
			if (!(await this.#hold(session, state, earlier))) {
				throw new Error(`another arpanet was faster to be ${host.name}`);
			}
		} catch (error) {
			await endSession(store, session);
			throw error;
		}
		this.#told = load;
		return session;
	}

	async #isEngineless(): Promise<boolean> {
		const presence = await this.#services.engine.presence();
		if (presence === "answers") {
			this.#silentSince = undefined;
			return false;
		}
		this.#silentSince ??= performance.now();
		const hangs = performance.now() - this.#silentSince > HANGS_MS;
		return hangs || presence === "away";
	}

	/** @throws Error while another host lives under this one's name: then nothing that stands under it is ours */
	async #mustBeOurs(): Promise<void> {
		const { store, host } = this.#services;
		const other = await store.get<HostState>(hostKeys(host.name).alive);
		if (!other || other.value.address === host.address) return;
		throw new Error(
			`another host, at ${other.value.address}, is announced as ${host.name}; give one another host.name`,
		);
	}

	/**
	 * @throws Error for a name that nobody has had, at the address of a host that is known: this one, before it was given another
	 * name, and what its engine has is on record under that
	 */
	async #mustBeKnownOrNew(): Promise<void> {
		const { cluster, host } = this.#services;
		const all = await cluster.hosts.list();
		if (all.some(({ name }) => name === host.name)) return;
		const twin = all.find(
			({ address, removed }) => address === host.address && !removed,
		);
		if (!twin) return;
		throw new Error(
			`${host.address} is host ${twin.name}'s address, too; ${remedyOfTwins(twin.name)}`,
		);
	}

	/**
	 * One sign of life: in the same commit DNS is told to answer for this host's containers, so that a host which
	 * was taken for lost is back with its first word.
	 * @param state what has changed of it
	 * @param first what goes before, in the same commit
	 * @returns false if another session has the host's name
	 */
	#hold(
		session: string,
		state?: HostState,
		first: Operation[] = [],
	): Promise<boolean> {
		const { store, host } = this.#services;
		const { alive, beat } = hostKeys(host.name);
		const sign: Beat = { at: new Date().toISOString() };
		const changed: Operation[] = state
			? [{ verb: "lock", key: alive, value: state, session }]
			: [];
		return ignoreConflict(
			store.commit([
				...first,
				...changed,
				{ verb: "lock", key: beat, value: sign, session },
				setNode(host),
				setHostCheck(host.name, "passing", "its agent is there"),
			]),
		);
	}

	/** Whether all gateways know that this host lives, and how busy it is: with many hosts every write wakes them all. */
	async #isKnown(load: Load, engineless: boolean): Promise<boolean> {
		const { cluster, host } = this.#services;
		const told = this.#told;
		const known = (await cluster.hosts.list()).find(
			({ name }) => name === host.name,
		);
		// somebody deleted its record or wrote another's over it, or removed this host while it was not heard
		const isOurs = known?.address === host.address && !known.removed;
		if (!isOurs) this.#complete = false;
		return (
			known?.state !== undefined &&
			(known.state.engineless ?? false) === engineless &&
			told !== undefined &&
			(["load", "memory", "network"] as const).every(
				(each) => Math.abs(load[each] - told[each]) < WORTH_TELLING,
			)
		);
	}

	/** Writes the record if it has changed, keeping what an operator set. */
	async #writeRecord(): Promise<void> {
		const { store, host } = this.#services;
		const ofEngine = await this.#engineLabels();
		const key = hostKeys(host.name).record;
		const before: Entry<HostRecord> | undefined = await store.get(key);
		const value: HostRecord = {
			...host,
			labels: { ...ofEngine, ...host.labels },
			...(before?.value.drained ? { drained: true } : {}),
		};
		// every create relies on it: what is not written fails none
		if (!before || !isDeepStrictEqual(before.value, value)) {
			// a drain that comes in between must not be lost: then the next beat writes
			await store.commit([
				before
					? { verb: "update", key, value, index: before.index }
					: { verb: "create", key, value },
			]);
		}
		this.#complete = ofEngine !== undefined;
	}

	/** What Swarm let constraints ask of an engine; undefined while it does not answer. */
	async #engineLabels(): Promise<Record<string, string> | undefined> {
		try {
			const info = await this.#services.engine.info(BEAT_MS);
			return {
				storagedriver: info.Driver,
				kernelversion: info.KernelVersion,
				operatingsystem: info.OperatingSystem,
				architecture: info.Architecture,
				...Object.fromEntries((info.Labels ?? []).map(keyAndValue)),
			};
		} catch {
			return undefined;
		}
	}
}
