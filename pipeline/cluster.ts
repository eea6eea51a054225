import { setTimeout } from "node:timers/promises";
import { askEach, type HostAnswer, isUnheard, whoHas } from "./answers.ts";
import { Engine } from "./engine.ts";
import { HttpError } from "./errors.ts";
import type { Hosts, KnownHost } from "./state/hosts.ts";
import type { Tls } from "./tls.ts";

/** How long hosts that seem silent are waited for where the answer would be that there is no such thing, or that its host is lost. */
export const PATIENCE_MS = 5_000;

/** A host that is silent is asked again whether it lives after so many milliseconds; so it delays nobody by more than a second. */
const PING_MS = 500;
/** An engine that answers pings within `SOON_MS` is not busy: on what it has not answered after `HANGS_MS`, it hangs. */
const SOON_MS = 50;
const HANGS_MS = 1_500;
/** One that is slow with pings, too, may take so long. */
const BUSY_MS = 10_000;
/** How another host's engine is asked. */
interface Asking {
	/**
	 * Of a question that an engine with nothing to do answers at once, and that can be asked again: `/volumes`. Others are not delayed
	 * by an engine that hangs on it.
	 */
	topic?: string | undefined;
	/** Milliseconds that it may stay silent: one that has much to do does, and nobody else can answer. */
	patience?: number;
}

/** The engines of all hosts. */
export class Cluster {
	readonly hosts: Hosts;
	/** Name of this host. */
	readonly self: string;
	readonly #local: Engine;
	readonly #remote = new Map<string, Engine>();
	/** Hosts whose engines have not answered a ping, until they do. */
	readonly #silent = new Set<string>();
	/** What hosts hang on although they answer pings, as `<host> <topic>`, until they answer it. */
	readonly #hanging = new Set<string>();
	readonly #closed = new AbortController();
	/** Certificates for the other hosts' engines. */
	readonly tls: Tls | undefined;

	/**
	 * @param self name of this host
	 * @param local its engine
	 */
	constructor(hosts: Hosts, self: string, local: Engine, tls?: Tls) {
		this.tls = tls;
		this.hosts = hosts;
		this.self = self;
		this.#local = local;
	}

	/** Whether this is the only host; false until Consul has told of any, if `host.engine` says that there are others. */
	get alone(): boolean {
		return this.hosts.count <= 1 && !this.hosts.isUntold;
	}

	/** The names of hosts that live and whose engines can be reached from here, this one first. */
	async reachable(): Promise<string[]> {
		return (await this.all())
			.filter(
				({ name, state, engine }) => name === this.self || (state && engine),
			)
			.map(({ name }) => name);
	}

	/** All hosts, lost ones too, this one first. */
	async all(): Promise<KnownHost[]> {
		const others = (await this.hosts.list()).filter(
			({ name }) => name !== this.self,
		);
		return [await this.hosts.get(this.self), ...others];
	}

	/**
	 * The engine of a host; of this one without a name.
	 * @throws HttpError 502 for a host that is not known or lets nobody in
	 */
	async engine(host?: string): Promise<Engine> {
		if (host === undefined || host === this.self) return this.#local;
		if ((await this.hosts.list()).length === 0) return this.#local;
		const { engine: url } = await this.hosts.get(host);
		if (!url) {
			throw new HttpError(
				502,
				`host ${host} does not let others reach its engine; set host.engine in its powerstrip.yml`,
			);
		}
		const known = this.#remote.get(url);
		if (known) return known;
		const engine = new Engine(url, this.tls, () => this.hosts.isStopping(host));
		this.#remote.set(url, engine);
		return engine;
	}

	/**
	 * Asks another host's engine, and waits for as long as it answers pings meanwhile: it may have much to do.
	 * @throws HttpError 502 within a second for a host that does not answer pings (more, where it has `patience`), within two for one
	 * that hangs, and at once while that is so
	 */
	async ask<T>(
		host: string,
		question: (engine: Engine) => Promise<T>,
		{ topic, patience = 0 }: Asking = {},
	): Promise<T> {
		const engine = await this.engine(host);
		if (host === this.self) return question(engine);
		if (this.#silent.has(host) && !patience) throw silence(host);
		if (topic && this.#hanging.has(`${host} ${topic}`)) {
			throw new Hangs(host, topic);
		}
		const answered = new AbortController();
		const answer = question(engine);
		answer.catch(() => {}); // nobody may be waiting any more
		try {
			const asking = { topic, patience };
			const alive = this.#watch(host, engine, answered.signal, asking);
			return await Promise.race([answer, alive]);
		} catch (error) {
			if (error instanceof Hangs)
				void this.#unhang(error, host, answer, question);
			throw error;
		} finally {
			answered.abort();
		}
	}

	/** Whether a host was silent when it was asked last, and has answered no ping since. */
	isSilent(host: string): boolean {
		return this.#silent.has(host);
	}

	/**
	 * Asks hosts, all of them at once.
	 * @param path of a `GET`, with its query
	 * @param hosts every one that can be reached without, this one first
	 */
	async answers<T>(
		path: string,
		hosts?: readonly string[],
	): Promise<HostAnswer<T>[]> {
		const topic = topicOf(path);
		return askEach(hosts ?? (await this.reachable()), (host) =>
			this.ask(host, (engine) => engine.get<T>(path), { topic }),
		);
	}

	/**
	 * As `answers` of every host; before they say that there is none, those that seem silent are waited for: one may only have much to do.
	 * @param limit milliseconds for which it may stay so
	 */
	async surelyAnswers<T>(
		path: string,
		limit = PATIENCE_MS,
	): Promise<HostAnswer<T>[]> {
		const told = await this.answers<T>(path);
		const isUnsure = told.some(({ error }) => isUnheard(error));
		if (whoHas(told).length > 0 || !isUnsure) return told;
		return askEach(await this.reachable(), async (host) =>
			(await this.engine(host)).get<T>(path, limit),
		);
	}

	/** @throws HttpError once the host does not answer a ping and is not being started again, or hangs on the topic */
	async #watch(
		host: string,
		engine: Engine,
		answered: AbortSignal,
		{ topic, patience = 0 }: Asking,
	): Promise<never> {
		let asked = performance.now();
		let heard = asked;
		let slowest = 0;
		for (;;) {
			await setTimeout(PING_MS, undefined, { signal: answered });
			const pinged = performance.now();
			const stops = this.hosts.isStopping(host);
			const alive = stops || (await engine.ping(PING_MS));
			const now = performance.now();
			if (stops) asked = now; // what is not there does not hang
			if (!alive && now - heard > patience) break;
			if (alive) heard = now;
			slowest = Math.max(slowest, now - pinged);
			const limit = slowest < SOON_MS ? HANGS_MS : BUSY_MS;
			if (topic && now - asked > limit) {
				throw new Hangs(host, topic);
			}
		}
		if (!answered.aborted && !this.#silent.has(host)) {
			this.#silent.add(host);
			void this.#listen(host);
		}
		throw silence(host);
	}

	/** Waits for an engine to answer what it hangs on, or to refuse it. */
	async #unhang<T>(
		{ key }: Hangs,
		host: string,
		first: Promise<T>,
		question: (engine: Engine) => Promise<T>,
	): Promise<void> {
		if (this.#hanging.has(key)) return; // another waits
		this.#hanging.add(key);
		let answer: Promise<unknown> = first;
		await this.#until(host, async (engine) => {
			if (await isAnswered(answer)) return true;
			answer = question(engine);
			answer.catch(() => {}); // looked at next time, if there is one
			return false;
		});
		this.#hanging.delete(key);
	}

	/** Waits for a silent host to speak again. */
	async #listen(host: string): Promise<void> {
		await this.#until(host, (engine) => engine.ping(2 * PING_MS));
		this.#silent.delete(host);
	}

	/** Returns when a host's engine, wherever it is by then, is as it should be, or the host is no more. */
	async #until(
		host: string,
		isSo: (engine: Engine) => Promise<boolean>,
	): Promise<void> {
		const { signal } = this.#closed;
		while (!signal.aborted) {
			const engine = await this.engine(host).catch(() => undefined);
			if (!engine || (await isSo(engine))) return;
			await setTimeout(PING_MS, undefined, { signal, ref: false }).catch(
				() => {},
			);
		}
	}

	async close(): Promise<void> {
		this.#closed.abort();
		this.hosts.close();
		await Promise.all(
			[this.#local, ...this.#remote.values()].map((each) => each.close()),
		);
	}
}

/** Whether an engine has answered, be it that it refuses; 502 stands for one that did not. */
async function isAnswered(answer: Promise<unknown>): Promise<boolean> {
	try {
		await answer;
		return true;
	} catch (error) {
		return error instanceof HttpError && error.status !== 502;
	}
}

/** An engine answers pings, and not what it was asked. */
class Hangs extends HttpError {
	/** What it hangs on. */
	readonly key: string;

	constructor(host: string, topic: string) {
		super(
			502,
			`the engine of host ${host} lives, and does not answer GET ${topic}; look at its log`,
		);
		this.key = `${host} ${topic}`;
	}
}

function silence(host: string): HttpError {
	return new HttpError(
		502,
		`host ${host} does not answer; look at arpanet hosts`,
	);
}

/** `/volumes` of `/v1.41/volumes?filters=…`; none for what an engine may need long to find out. */
function topicOf(path: string): string | undefined {
	const [, topic] = /^(?:\/v[\d.]+)?(\/[a-z]+)/.exec(path) ?? [];
	return topic === "/system" ? undefined : topic;
}
