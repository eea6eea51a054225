import type { Facts } from "../plugin.ts";
import { keyIn, type Operation } from "./operations.ts";
import type { Entry, Store } from "./store.ts";

/** Where further names in DNS stand: links, and network aliases. */
export const ALIASES = "arpanet/aliases/";

/**
 * A further name in DNS, under `arpanet/aliases/<deployment>/<alias>/<address>`. The address is that of the
 * container that asked for it: unlike its name it never changes.
 */
export interface Alias {
	/** Service whose copies have the name. */
	service: string;
	/** The one copy that has it, if it is a network alias; all have a link's. */
	address?: string;
	/** It is the copy's hostname: a link's alias goes before it. */
	hostname?: true;
	/** Name with which the container that asked for it was made. */
	container: string;
}

/** An alias with its key, and what is in it. */
export interface NamedAlias extends Alias {
	key: string;
	index: number;
	alias: string;
}

const ALIAS = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/** Whether Consul's DNS can answer for a name; one with a dot, for instance, is left to Docker's. */
export function isAlias(name: string): boolean {
	return ALIAS.test(name);
}

/** What a container's facts are in DNS. @param name that it has now */
export function asCalled(facts: Facts, name: string): Facts {
	const isOwn = facts.serviceFrom === "name" && isAlias(name);
	return isOwn ? { ...facts, service: name } : facts;
}

/** The aliases of all deployments, by deployment: who looks at each of a host's containers need not go through those of all others. */
export async function aliasesByDeployment(
	store: Store,
): Promise<ReadonlyMap<string, NamedAlias[]>> {
	const found = new Map<string, NamedAlias[]>();
	for (const alias of aliasesIn(await store.list<Alias>(ALIASES))) {
		const deployment = deploymentIn(alias.key);
		const known = found.get(deployment);
		if (known) known.push(alias);
		else found.set(deployment, [alias]);
	}
	return found;
}

/** The aliases of a deployment to be shown, perhaps a moment old: also while Consul's servers have no leader. */
export async function aliasesSeen(
	deployment: string,
	store: Store,
): Promise<NamedAlias[]> {
	return aliasesIn(await store.list<Alias>(markOf(deployment), true));
}

function aliasesIn(entries: Entry<Alias>[]): NamedAlias[] {
	return entries
		.filter(({ key }) => !isMark(key))
		.map(({ key, index, value }) => {
			const [, alias = ""] = key.slice(ALIASES.length).split("/");
			return { key, index, alias, ...value };
		});
}

/**
 * The mark of a deployment that may have aliases, `arpanet/aliases/<deployment>/`: written anew in every commit that gives one. Whose
 * commit fails if it is there (`Aliased`) need not ask whether there are any. It goes with a network of the deployment if there are
 * none left, or else when the leader sees that.
 */
export function markOf(deployment: string): string {
	return `${ALIASES}${deployment}/`;
}

/** Whether a key under `ALIASES` is a deployment's mark. */
export function isMark(key: string): boolean {
	return key.startsWith(ALIASES) && key.endsWith("/");
}

/** The deployment to which a key under `ALIASES` belongs. */
export function deploymentIn(key: string): string {
	return key.slice(ALIASES.length).split("/")[0] ?? "";
}

/** The operation that belongs into every commit that gives an alias. */
export function mark(deployment: string): Operation {
	// to Consul, writing the value that is there already changes nothing: then the mark could be deleted by who knew it before
	const value = { by: crypto.randomUUID() };
	return { verb: "set", key: markOf(deployment), value };
}

/** The operation that takes the mark of a deployment that has no alias any more: it fails if one was given since; undefined if there is none to take. */
export async function unmark(
	deployment: string,
	store: Store,
): Promise<Operation | undefined> {
	const key = markOf(deployment);
	const [first, ...others] = await store.list(key);
	if (first?.key !== key || others.length > 0) return undefined;
	return { verb: "delete", key, index: first.index };
}

/** Which deployments have aliases, as far as this process has seen: no more than a hint. What a commit relies on, it checks. */
export class Aliased {
	readonly #seen = new Set<string>();
	readonly #store: Store;

	constructor(store: Store) {
		this.#store = store;
	}

	/** The operation that makes a commit fail if a deployment has aliases; undefined where some were seen: then read them. */
	none(deployment: string): Operation | undefined {
		if (this.#seen.has(deployment)) return undefined;
		return { verb: "absent", key: markOf(deployment) };
	}

	/** @param conflicts operations that have failed */
	learn(conflicts: readonly Operation[]): void {
		for (const key of conflicts.map(keyIn)) {
			if (key && isMark(key)) this.#seen.add(deploymentIn(key));
		}
	}

	/** The aliases of a deployment. */
	async read(deployment: string): Promise<NamedAlias[]> {
		const found = await this.#store.list<Alias>(markOf(deployment));
		if (found.length > 0) this.#seen.add(deployment);
		else this.#seen.delete(deployment);
		return aliasesIn(found);
	}
}
