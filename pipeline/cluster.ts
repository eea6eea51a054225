import { setTimeout } from "node:timers/promises";
import type { ContainerInspect, NetworkInspect } from "./docker.ts";
import { Engine } from "./engine.ts";
import { HttpError } from "./errors.ts";
import type { Hosts, KnownHost } from "./state/hosts.ts";
import type { Tls } from "./tls.ts";

/** A container and the host it is on. */
interface Located {
	container: ContainerInspect;
	host: string;
}

/** What one host's engine answered; `answer` is undefined where it has no such thing or did not answer. */
export interface HostAnswer<T = unknown> {
	host: string;
	answer: T | undefined;
	error?: unknown;
}

/** How long hosts that seem silent are waited for where the answer would be that there is no such thing, or that its host is lost. */
export const PATIENCE_MS = 5_000;

/** A host that is silent is asked again whether it lives after so many milliseconds; so it delays nobody by more than a second. */
const PING_MS = 500;
/** An engine that answers pings within `SOON_MS` is not busy: on what it has not answered after `HANGS_MS`, it hangs. */
const SOON_MS = 50;
const HANGS_MS = 1_500;
/** One that is slow with pings, too, may take so long. */
const BUSY_MS = 10_000;
/** Begins what an engine says of several ids that begin alike; newer ones in small letters (moby, pkg/truncindex, then container/view). */
const AMBIGUOUS = "Multiple IDs found with provided prefix: ";

/** Containers and execs of which is remembered where they are. */
const MAX_REMEMBERED = 20_000;

/** Keeps Promise.any waiting for the others. */
const NOT_IT = new Error("not exactly it");

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

/** The host of the container that has a name, as Consul knows. */
type HostNamed = (name: string) => Promise<string | undefined>;

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
	/** Hosts of containers and execs, by full id: that never changes. */
	readonly #homes = new Map<string, string>();
	readonly #closed = new AbortController();
	readonly #hostNamed: HostNamed;
	/** Certificates for the other hosts' engines. */
	readonly tls: Tls | undefined;

	/**
	 * @param self name of this host
	 * @param local its engine
	 */
	constructor(
		hosts: Hosts,
		self: string,
		local: Engine,
		hostNamed: HostNamed,
		tls?: Tls,
	) {
		this.#hostNamed = hostNamed;
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
	async answers(
		path: string,
		hosts?: readonly string[],
	): Promise<HostAnswer[]> {
		const topic = topicOf(path);
		return askEach(hosts ?? (await this.reachable()), (host) =>
			this.ask(host, (engine) => engine.get(path), { topic }),
		);
	}

	/** Whether an engine that answers has a network of exactly that name. */
	async hasNetwork(name: string): Promise<boolean> {
		const told = await this.answers(`/networks/${encodeURIComponent(name)}`);
		return told.some(
			({ answer }) => (answer as NetworkInspect | undefined)?.Name === name,
		);
	}

	/**
	 * As `answers` of every host; before they say that there is none, those that seem silent are waited for: one may only have much to do.
	 * @param limit milliseconds for which it may stay so
	 */
	async surelyAnswers(
		path: string,
		limit = PATIENCE_MS,
	): Promise<HostAnswer[]> {
		const told = await this.answers(path);
		const none = told.every(({ answer }) => answer === undefined);
		if (!none || !told.some(({ error }) => isUnheard(error))) return told;
		return askEach(await this.reachable(), async (host) =>
			(await this.engine(host)).get(path, limit),
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

	/**
	 * A container by id, name, or what only one id begins with, wherever it is; looked for where it was found before, and here first.
	 * @param patience milliseconds that hosts which seem silent may take: they may only have much to do
	 * @throws HttpError 500, in Docker's words, for a prefix of several ids
	 */
	async find(ref: string, patience = 0): Promise<Located | undefined> {
		return (await this.search(ref, patience)).found;
	}

	/** As `find`. @returns also the names of hosts that did not answer: if none is found, it may be there */
	async search(
		ref: string,
		patience = 0,
	): Promise<{ found: Located | undefined; unheard: string[] }> {
		const remembered = await this.#atRemembered(ref, patience);
		if (remembered) return { found: remembered, unheard: [] };
		let ambiguous: unknown;
		const orSeveral = (error: unknown) => {
			if (!isAmbiguous(error)) throw error;
			ambiguous = error;
			return undefined; // on another host one may be named so
		};
		const here = await this.#local.inspectContainer(ref).catch(orSeveral);
		const own = here && { container: here, host: this.self };
		const unheard: string[] = [];
		if (own && isExactly(here, ref)) return { found: own, unheard };
		const others = (await this.reachable()).slice(1);
		const found: Located[] = own ? [own] : [];
		const asked = others.map(async (host) => {
			const container = await this.#inspectAt(host, ref, patience)
				.catch(orSeveral)
				.catch((error) => {
					unheard.push(host);
					throw error;
				});
			if (!container) throw NOT_IT;
			found.push({ container, host });
			if (!isExactly(container, ref)) throw NOT_IT;
			this.remember(container.Id, host);
			return { container, host };
		});
		const exact = await Promise.any(asked).catch(() => undefined); // others need not be waited for
		if (exact) return { found: exact, unheard };
		const heard = others.filter((host) => !unheard.includes(host));
		const begins = found.length > 0 || ambiguous !== undefined;
		const meant = begins ? await this.#namedAt(ref, heard) : undefined;
		if (meant) {
			const silent = [...new Set([...unheard, meant])];
			return { found: undefined, unheard: silent };
		}
		if (ambiguous) throw ambiguous;
		if (found.length > 1) throw new HttpError(500, AMBIGUOUS + ref);
		return { found: found[0], unheard };
	}

	/**
	 * The host of the container that has this name and cannot be asked for it: a name goes before the start of another's id.
	 * @param heard hosts that have none of that name, beside this one
	 */
	async #namedAt(
		ref: string,
		heard: readonly string[],
	): Promise<string | undefined> {
		if (heard.length + 1 === (await this.all()).length) return undefined;
		// without Consul, what the engines say must do
		const name = ref.replace(/^\//, "");
		const host = await this.#hostNamed(name).catch(() => undefined);
		const hasNone = [this.self, ...heard];
		return host && hasNone.includes(host) ? undefined : host;
	}

	/** A container by its full id, if it is on the other host where it was found before. */
	async #atRemembered(
		id: string,
		patience: number,
	): Promise<Located | undefined> {
		const host = this.#homes.get(id);
		if (!host || host === this.self) return undefined;
		if (!(await this.reachable()).includes(host)) return undefined;
		const asked = this.#inspectAt(host, id, patience);
		const container = await asked.catch(() => undefined); // all are asked then
		return container?.Id === id ? { container, host } : undefined;
	}

	/** Notes where a container or an exec is, by its full id. */
	remember(id: string, host: string): void {
		if (this.#homes.size >= MAX_REMEMBERED) this.#homes.clear();
		this.#homes.set(id, host);
	}

	/** The host where a container or an exec was found before, by its full id; one that is gone for good is forgotten. */
	async homeOf(id: string): Promise<string | undefined> {
		const host = this.#homes.get(id);
		if (!host || (await this.all()).some(({ name }) => name === host)) {
			return host;
		}
		this.#homes.delete(id);
		return undefined;
	}

	/** As `homeOf`, also by what the ids of one host alone begin with. */
	async homeLike(ref: string): Promise<string | undefined> {
		const exact = await this.homeOf(ref);
		if (exact || !/^[0-9a-f]{1,63}$/.test(ref)) return exact;
		const begun = [...this.#homes.keys()].filter((id) => id.startsWith(ref));
		const hosts = new Set(begun.map((id) => this.#homes.get(id)));
		return hosts.size === 1 ? this.homeOf(begun[0] as string) : undefined;
	}

	async #inspectAt(
		host: string,
		ref: string,
		patience: number,
	): Promise<ContainerInspect | undefined> {
		return patience
			? (await this.engine(host)).inspectContainer(ref, patience)
			: this.ask(host, (engine) => engine.inspectContainer(ref));
	}

	/** As `find`; before it says that there is none, hosts that seem silent are waited for. */
	async surelyFind(ref: string): Promise<Located | undefined> {
		const { found, unheard } = await this.search(ref);
		return found || unheard.length === 0 ? found : this.find(ref, PATIENCE_MS);
	}

	async close(): Promise<void> {
		this.#closed.abort();
		this.hosts.close();
		await Promise.all(
			[this.#local, ...this.#remote.values()].map((each) => each.close()),
		);
	}
}

/** Asks hosts something, all of them at once. @param question whatever it throws is in that host's answer */
export function askEach<T>(
	hosts: readonly string[],
	question: (host: string) => Promise<T>,
): Promise<HostAnswer<T>[]> {
	return Promise.all(
		hosts.map(async (host): Promise<HostAnswer<T>> => {
			try {
				return { host, answer: await question(host) };
			} catch (error) {
				return { host, answer: undefined, error };
			}
		}),
	);
}

function isExactly({ Id, Name }: ContainerInspect, ref: string): boolean {
	return Id === ref || Name === (ref.startsWith("/") ? ref : `/${ref}`);
}

function isAmbiguous(error: unknown): boolean {
	if (!(error instanceof HttpError)) return false;
	return error.message.toLowerCase().startsWith(AMBIGUOUS.toLowerCase());
}

/** Whether that is said of a host that did not answer. */
export function isUnheard(error: unknown): boolean {
	return error instanceof HttpError && error.status === 502;
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
