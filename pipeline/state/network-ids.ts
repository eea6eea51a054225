import { isDeepStrictEqual } from "node:util";
import type { EngineEvent } from "../docker.ts";
import type { Operation } from "./operations.ts";
import type { Entry, Store } from "./store.ts";
import { View } from "./view.ts";

const PREFIX = "arpanet/network-ids/";
/** Ids that are remembered although nothing tells of them any more. */
const MAX_REMEMBERED = 20_000;

/** A network in one host's Docker, under `arpanet/network-ids/<scope>/<host>`. */
interface NetworkId {
	/** Docker's name of it, the same on every host. */
	name: string;
	/** That engine's id of it. */
	id: string;
	/** It was made there first: this id is the one that clients see, through whatever gateway. */
	home?: true;
	/** As in its record. */
	fitted?: true;
}

/** What a host's Docker calls a network, and where that is written. */
export interface HostNetworkId {
	key: string;
	host: string;
	value: NetworkId;
}

/** A network of ours as all hosts together have it. */
export interface KnownNetwork {
	scope: string;
	name: string;
	/** The one that clients see; undefined while its home has not got it yet. */
	id: string | undefined;
	/** Where that id is the engine's own. */
	home: string | undefined;
	/** Hosts whose Docker has it. */
	hosts: string[];
	/** Its MTU was set by arpanet, and is not for clients to see. */
	fitted: boolean;
}

/** Whether an engine has a network of exactly that name, whosever it is. */
export type IsNamed = (name: string) => Promise<boolean>;

/**
 * One id for each network. Every engine gives the network of a deployment an id of its own; what clients see, and may
 * say, is that of the host where the network was made first.
 */
export class NetworkIds {
	readonly #store: Store;
	readonly #isNamed: IsNamed;
	readonly #view: View<NetworkId, ReadonlyMap<string, KnownNetwork>>;
	#networks: ReadonlyMap<string, KnownNetwork> = new Map<
		string,
		KnownNetwork
	>();
	/** An engine's id → the one that clients see. Those of networks that are gone stay: events tell of their end. */
	readonly #shown = new Map<string, string>();
	/** An engine's id → scope. */
	#scopes = new Map<string, string>();
	/** Ids of networks that are none of ours: that does not change. */
	readonly #foreign = new Set<string>();

	constructor(store: Store, isNamed: IsNamed) {
		this.#store = store;
		this.#isNamed = isNamed;
		this.#view = new View(store, PREFIX, (entries) => this.#gather(entries));
	}

	/** Begins to follow what Consul says. */
	follow(): void {
		this.#view.follow();
	}

	/** Ends the watch. */
	close(): void {
		this.#view.close();
	}

	/** Writes down the id that a host's Docker gave a network; what is known already is not written again. */
	async set(
		{
			scope,
			name,
			host: home,
			fitted,
		}: { scope: string; name: string; host?: string; fitted?: boolean },
		host: string,
		id: string,
	): Promise<void> {
		const key = `${PREFIX}${scope}/${host}`;
		const known = await this.#store.get<NetworkId>(key);
		const value: NetworkId = {
			name,
			id,
			...(home === host ? { home: true } : {}),
			...(fitted ? { fitted } : {}),
		};
		// its home, too: a record that Consul has lost may come back with another
		if (isDeepStrictEqual(known?.value, value)) return;
		await this.#store.commit([{ verb: "set", key, value }]);
	}

	/** A network's ids on all hosts. */
	async list(scope: string): Promise<HostNetworkId[]> {
		const prefix = `${PREFIX}${scope}/`;
		const entries = await this.#store.list<NetworkId>(prefix);
		return entries.map(({ key, value }) => ({
			key,
			value,
			host: key.slice(prefix.length),
		}));
	}

	/** The operation that forgets a host's id of a network. */
	forget(scope: string, host: string): Operation {
		return { verb: "delete", key: `${PREFIX}${scope}/${host}` };
	}

	/** All networks of ours that any host has, by scope. */
	all(): Promise<ReadonlyMap<string, KnownNetwork>> {
		return this.#view.get();
	}

	/** The network that a client means by a name, an id, or the start of one; undefined for one that is none of ours. */
	async find(ref: string): Promise<KnownNetwork | undefined> {
		const found = match(ref, await this.all()) ?? match(ref, await this.anew());
		if (!found || found.id === ref || found.name === ref) return found;
		return (await this.#isNamed(ref)) ? undefined : found; // a name goes before the start of an id
	}

	/** As `find`; where Consul would have to be asked and does not answer, none: then the engines must do. */
	findHeard(ref: string): Promise<KnownNetwork | undefined> {
		return this.find(ref).catch(() => undefined);
	}

	/**
	 * An engine's words with the ids that clients see. Both are 64 characters: the length stays.
	 * @param text an answer of an engine, or an event
	 */
	async shown(text: string): Promise<string> {
		try {
			await this.all();
			const named = text.matchAll(/"NetworkID":"([0-9a-f]{64})"/g);
			const news = [...named]
				.map(([, id = ""]) => id)
				.filter((id) => !this.#shown.has(id) && !this.#foreign.has(id));
			if (news.length > 0) await this.anew();
			for (const id of news) if (!this.#shown.has(id)) this.#remember(id);
		} catch {
			// without Consul, what was heard last must do
		}
		return text.replaceAll(/[0-9a-f]{64}/g, (id) => this.#shown.get(id) ?? id);
	}

	/** As `shown`, of an answer that has been read. */
	async shownIn<T>(answer: T): Promise<T> {
		return JSON.parse(await this.shown(JSON.stringify(answer))) as T;
	}

	/** The network that an engine calls by that id, as far as is known. */
	known(id: string): KnownNetwork | undefined {
		return this.#networks.get(this.#scopes.get(id) ?? "");
	}

	/**
	 * An event as clients see it: with the id of its network, and of a network's making and end those alone that happen at
	 * its home, not of the copies that come to other hosts and go again.
	 * @param line of `GET /events` @returns undefined for one that is none for clients
	 */
	async event(line: string): Promise<string | undefined> {
		if (!line.includes('"Type":"network"')) return line;
		const { Action, Actor } = JSON.parse(line) as EngineEvent;
		await this.all();
		const shown = this.#shown.get(Actor.ID);
		const known = shown ?? (await this.find(Actor.Attributes.name ?? ""))?.id;
		if (!known || known === Actor.ID) return line;
		if (/^(create|destroy)$/.test(Action)) return undefined;
		return line.replaceAll(Actor.ID, known);
	}

	#remember(id: string): void {
		if (this.#foreign.size >= MAX_REMEMBERED) this.#foreign.clear();
		this.#foreign.add(id);
	}

	/** As `all`, as Consul has them now: a view may be a moment behind what another gateway has just done. */
	anew(): Promise<ReadonlyMap<string, KnownNetwork>> {
		return this.#view.refresh();
	}

	/** Remembers them, and what clients see of each id, until the next are read. */
	#gather(entries: Entry<NetworkId>[]): ReadonlyMap<string, KnownNetwork> {
		const networks = new Map<string, KnownNetwork>();
		for (const { key, value } of entries) {
			const [scope = "", host = ""] = key.slice(PREFIX.length).split("/");
			const known = networks.get(scope) ?? {
				scope,
				name: value.name,
				id: undefined,
				home: undefined,
				hosts: [],
				fitted: value.fitted ?? false,
			};
			known.hosts.push(host);
			if (value.home) {
				known.id = value.id;
				known.home = host;
			}
			networks.set(scope, known);
		}
		if (this.#shown.size > MAX_REMEMBERED) this.#shown.clear();
		const scopes = new Map<string, string>();
		for (const { key, value } of entries) {
			const [scope = ""] = key.slice(PREFIX.length).split("/");
			scopes.set(value.id, scope);
			this.#shown.set(value.id, networks.get(scope)?.id ?? value.id);
		}
		this.#networks = networks;
		this.#scopes = scopes;
		return networks;
	}
}

/** Docker's order: by whole id, by name, by the start of an id if only one has it. */
function match(
	ref: string,
	networks: ReadonlyMap<string, KnownNetwork>,
): KnownNetwork | undefined {
	const all = [...networks.values()];
	const exact =
		all.find(({ id }) => id === ref) ?? all.find(({ name }) => name === ref);
	if (exact || !/^[0-9a-f]{1,63}$/.test(ref)) return exact;
	const begun = all.filter(({ id }) => id?.startsWith(ref));
	return begun.length === 1 ? begun[0] : undefined;
}
