import type { Logger } from "pino";
import { messageOf } from "../../pipeline/errors.ts";
import {
	type FencedStore,
	LEADER,
	type Leader,
	readLeader,
} from "../../pipeline/state/leader.ts";
import { Conflict } from "../../pipeline/state/operations.ts";
import { statusOf } from "../../pipeline/state/refusal.ts";
import {
	endSession,
	openSession,
	renewSession,
} from "../../pipeline/state/session.ts";
import type { Store } from "../../pipeline/state/store.ts";
import { pause } from "../repeat.ts";

/** Consul ends a session between one and two times this after its last word. */
const TTL_MS = 10_000;
const RENEW_MS = 3_000;
const TICK_MS = 200;
const RETRY_MS = 1_000;

/** What the agent does while it leads; it ends when the signal says so. */
export type Term = (signal: AbortSignal) => Promise<void>;

/**
 * Competes for the lock of the one agent that leads. The session ends when its agent falls silent, or, sooner, when
 * Consul's own agent there does (its serfHealth). No lock-delay: that protects from late writes by waiting, and here
 * every write of a leader is fenced. Time is measured by a monotonic clock.
 */
export class Leadership {
	readonly #store: Store;
	readonly #fenced: FencedStore;
	readonly #host: string;
	readonly #log: Logger;
	/** As Consul last told; null before it has told anything. */
	#known: Leader | undefined | null = null;

	/**
	 * @param store Consul
	 * @param fenced gets the session while this agent leads
	 * @param host name of this host
	 */
	constructor(store: Store, fenced: FencedStore, host: string, log: Logger) {
		this.#store = store;
		this.#fenced = fenced;
		this.#host = host;
		this.#log = log;
	}

	/** Competes until the signal ends it, and leads whenever elected. */
	async run(signal: AbortSignal, term: Term): Promise<void> {
		const unwatch = this.#store.watch<Leader>(LEADER, (entries) => {
			this.#known = entries.find(({ key }) => key === LEADER)?.value;
		});
		let complained = "";
		while (!signal.aborted) {
			try {
				const session = (await this.#isVacant()) && (await this.#elect());
				complained = "";
				if (session) await this.#serve(session, signal, term);
				else await pause(this.#known ? TICK_MS : RETRY_MS, signal);
			} catch (error) {
				const err = messageOf(error);
				if (err !== complained) this.#log.warn({ err }, "cannot compete");
				complained = err;
				await pause(RETRY_MS, signal);
			}
		}
		unwatch();
	}

	async #isVacant(): Promise<boolean> {
		if (this.#known !== null) return this.#known === undefined;
		return (await readLeader(this.#store)) === undefined;
	}

	/** @returns the session that has the lock; undefined if another was faster */
	async #elect(): Promise<string | undefined> {
		const name = `arpanet leader ${this.#host}`;
		const session = await openSession(this.#store, name, TTL_MS / 1000);
		const since = new Date().toISOString();
		const value: Leader = { host: this.#host, since, session };
		try {
			await this.#store.commit([{ verb: "lock", key: LEADER, value, session }]);
			return session;
		} catch (error) {
			await this.#resign(session);
			if (error instanceof Conflict) return undefined;
			throw error;
		}
	}

	async #serve(session: string, signal: AbortSignal, term: Term) {
		const ended = new AbortController();
		this.#log.info({ session }, "this agent leads");
		this.#fenced.session = session;
		const serving = term(AbortSignal.any([signal, ended.signal]));
		const why = await this.#keep(session, signal);
		this.#fenced.session = undefined;
		ended.abort();
		await serving;
		await this.#resign(session);
		this.#log.info({ session, why }, "this agent leads no more");
	}

	/** Keeps the session. @returns why it leads no more */
	async #keep(session: string, signal: AbortSignal): Promise<string> {
		let renewed = performance.now();
		let seen = false;
		for (;;) {
			await pause(TICK_MS, signal);
			if (signal.aborted) return "it stops";
			seen ||= this.#known?.session === session;
			if (seen && this.#known?.session !== session) return "its lock is gone";
			const now = performance.now();
			if (now - renewed < RENEW_MS) continue;
			try {
				await renewSession(this.#store, session);
				renewed = now;
			} catch (error) {
				if (statusOf(error) === 404) return "its session has ended";
				if (performance.now() - renewed > TTL_MS) return messageOf(error);
			}
		}
	}

	/** Lets another lead at once; if Consul is away, its session's time will. */
	async #resign(session: string): Promise<void> {
		await endSession(this.#store, session).catch(() => {});
		if (this.#known?.session === session) this.#known = null; // until Consul tells more
	}
}
