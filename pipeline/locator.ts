import { whoHas } from "./answers.ts";
import { type Cluster, PATIENCE_MS } from "./cluster.ts";
import type { ContainerInspect, NetworkInspect } from "./docker.ts";
import { HttpError } from "./errors.ts";
import type { KnownHost } from "./state/hosts.ts";
import { hostNamed } from "./state/names.ts";
import type { Store } from "./state/store.ts";

/** Begins what an engine says of several ids that begin alike; newer ones in small letters (moby, pkg/truncindex, then container/view). */
const AMBIGUOUS = "Multiple IDs found with provided prefix: ";

const ID = /^[0-9a-f]{64}$/;

/** Containers and execs of which is remembered where they are. */
const MAX_REMEMBERED = 20_000;

/** Keeps Promise.any waiting for the others. */
const NOT_IT = new Error("not exactly it");

/** A container and the host it is on. */
interface Located {
	container: ContainerInspect;
	host: string;
}

/** What the engines say of a reference. */
interface Search {
	found?: Located | undefined;
	/** Hosts that did not answer: if none is found, it may be there. */
	unheard: string[];
}

/**
 * Which host has what a reference means: a whole id before a name, and that before what only one id begins with. A name counts
 * also where its host cannot be asked, as long as Consul knows of it.
 */
export class Locator {
	readonly #cluster: Cluster;
	readonly #store: Store;
	/** Hosts of containers and execs, by full id: that never changes. */
	readonly #homes = new Map<string, string>();

	constructor(cluster: Cluster, store: Store) {
		this.#cluster = cluster;
		this.#store = store;
	}

	/**
	 * The container that a reference means; looked for where it was found before, and here first.
	 * @param patience milliseconds that hosts which seem silent may take: they may only have much to do
	 * @throws HttpError 500, in Docker's words, for a prefix of several ids
	 */
	async find(ref: string, patience = 0): Promise<Located | undefined> {
		return (await this.#search(ref, patience)).found;
	}

	/** As `find`; before it says that there is none, hosts that seem silent are waited for. */
	async surelyFind(ref: string): Promise<Located | undefined> {
		const { found, unheard } = await this.#search(ref);
		return found || unheard.length === 0 ? found : this.find(ref, PATIENCE_MS);
	}

	/**
	 * The host of the container that a client's reference means.
	 * @returns undefined if there is none: this host's engine says so
	 * @throws HttpError 502 for a container of a host that is lost, or does not answer for long; 503 where nobody can say
	 */
	async hostOf(ref: string): Promise<string | undefined> {
		const known = await this.#reachableHome(ref);
		if (known) return known;
		const { found, unheard } = await this.#search(ref);
		if (found) {
			this.remember(found.container.Id, found.host);
			return found.host;
		}
		const all = await this.#cluster.all();
		const lost = all.filter(
			({ name, state }) => !state || unheard.includes(name),
		);
		let unread: unknown;
		const named = await this.#hostNamed(ref).catch((error) => {
			unread = error;
			return undefined;
		});
		if (named && !all.some(({ name }) => name === named)) {
			throw new HttpError(
				503,
				`container ${ref} is on record on host ${named}, of which nothing is known just now; try again, and look at arpanet hosts`,
			);
		}
		if (lost.length === 0) return undefined;
		const home = this.#homeLike(ref); // Consul goes by names alone
		const host = named ?? all.find(({ name }) => name === home)?.name;
		const itsOwn = lost.find(({ name }) => name === host);
		if (!itsOwn || itsOwn.state) {
			// one that is silent may only have much to do
			const late = await this.find(ref, PATIENCE_MS);
			if (late) return late.host;
		}
		if (unread && !host) throw mayBeOn(lost, ref, unread);
		if (!itsOwn) return undefined;
		const why = itsOwn.state
			? "does not answer; try again, and look at arpanet hosts"
			: `is lost; start arpanet there, or say arpanet host rm ${host} if it will not come back`;
		throw new HttpError(
			502,
			`container ${ref} is on host ${host}, which ${why}`,
		);
	}

	/** The host of an exec; undefined if no host that answers has it. */
	async hostOfExec(id: string): Promise<string | undefined> {
		const known = await this.#reachableHome(id);
		if (known) return known;
		const told = await this.#cluster.surelyAnswers(`/exec/${id}/json`);
		const [holder] = whoHas(told);
		if (holder && ID.test(id)) this.remember(id, holder.host);
		return holder?.host;
	}

	/** Whether an engine that answers has a network of exactly that name. */
	async hasNetwork(name: string): Promise<boolean> {
		const path = `/networks/${encodeURIComponent(name)}`;
		const told = await this.#cluster.answers<NetworkInspect>(path);
		return told.some(({ answer }) => answer?.Name === name);
	}

	/** Notes where a container or an exec is, by its full id. */
	remember(id: string, host: string): void {
		if (this.#homes.size >= MAX_REMEMBERED) this.#homes.clear();
		this.#homes.set(id, host);
	}

	async #search(ref: string, patience = 0): Promise<Search> {
		const remembered = await this.#atHome(ref, patience);
		if (remembered) return { found: remembered, unheard: [] };
		const { self } = this.#cluster;
		let ambiguous: unknown;
		const orSeveral = (error: unknown) => {
			if (!isAmbiguous(error)) throw error;
			ambiguous = error;
			return undefined; // on another host one may be named so
		};
		const here = await this.#inspectAt(self, ref).catch(orSeveral);
		const own = here && { container: here, host: self };
		const unheard: string[] = [];
		if (own && isExactly(here, ref)) return { found: own, unheard };
		const others = (await this.#cluster.reachable()).slice(1);
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
		const heard = [self, ...others].filter((host) => !unheard.includes(host));
		const begins = found.length > 0 || ambiguous !== undefined;
		const meant = begins ? await this.#namedAt(ref, heard) : undefined;
		if (meant) return { unheard: [...new Set([...unheard, meant])] };
		if (ambiguous) throw ambiguous;
		if (found.length > 1) throw new HttpError(500, AMBIGUOUS + ref);
		return { found: found[0], unheard };
	}

	/**
	 * The host of the container that has this name and cannot be asked for it: a name goes before the start of another's id.
	 * @param heard hosts that have none of that name
	 */
	async #namedAt(
		ref: string,
		heard: readonly string[],
	): Promise<string | undefined> {
		if (heard.length === (await this.#cluster.all()).length) return undefined;
		// without Consul, what the engines say must do
		const host = await this.#hostNamed(ref).catch(() => undefined);
		return host && heard.includes(host) ? undefined : host;
	}

	/** The host of the container that has this name, as Consul knows. */
	#hostNamed(ref: string): Promise<string | undefined> {
		return hostNamed(nameIn(ref), this.#store);
	}

	/** A container by its full id, if it is on the other host where it was found before. */
	async #atHome(id: string, patience: number): Promise<Located | undefined> {
		const host = await this.#reachableHome(id);
		if (!host || host === this.#cluster.self) return undefined;
		const asked = this.#inspectAt(host, id, patience);
		const container = await asked.catch(() => undefined); // all are asked then
		return container?.Id === id ? { container, host } : undefined;
	}

	/** The host where a container or an exec was found before, by its full id, if it can be reached. */
	async #reachableHome(id: string): Promise<string | undefined> {
		const host = this.#homes.get(id);
		if (!host) return undefined;
		return (await this.#cluster.reachable()).includes(host) ? host : undefined;
	}

	/** The host where a container was found before, by its full id or what the ids of one host alone begin with. */
	#homeLike(ref: string): string | undefined {
		const exact = this.#homes.get(ref);
		if (exact || !/^[0-9a-f]{1,63}$/.test(ref)) return exact;
		const begun = [...this.#homes].filter(([id]) => id.startsWith(ref));
		const [host, ...others] = new Set(begun.map(([, host]) => host));
		return others.length === 0 ? host : undefined;
	}

	async #inspectAt(
		host: string,
		ref: string,
		patience = 0,
	): Promise<ContainerInspect | undefined> {
		return patience
			? (await this.#cluster.engine(host)).inspectContainer(ref, patience)
			: this.#cluster.ask(host, (engine) => engine.inspectContainer(ref));
	}
}

/** Without Consul nobody can say that a container is nowhere while a host cannot be asked for it. */
function mayBeOn(lost: KnownHost[], ref: string, cause: unknown): HttpError {
	const names = lost.map(({ name }) => name).join(", ");
	return new HttpError(
		503,
		`container ${ref} may be on ${names}, which cannot be asked, and Consul does not say; try again, and look at arpanet check`,
		{ cause },
	);
}

/** The name that a reference may be: Docker takes it with a slash, too. */
function nameIn(ref: string): string {
	return ref.replace(/^\//, "");
}

function isExactly({ Id, Name }: ContainerInspect, ref: string): boolean {
	return Id === ref || Name === `/${nameIn(ref)}`;
}

function isAmbiguous(error: unknown): boolean {
	if (!(error instanceof HttpError)) return false;
	return error.message.toLowerCase().startsWith(AMBIGUOUS.toLowerCase());
}
