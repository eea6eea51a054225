import type { Store } from "./store.ts";

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
	deployment: string;
	alias: string;
}

const ALIAS = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/** Whether Consul's DNS can answer for a name; one with a dot, for instance, is left to Docker's. */
export function isAlias(name: string): boolean {
	return ALIAS.test(name);
}

/** All aliases of a deployment; without one, of all. */
export async function aliases(
	of: string | undefined,
	store: Store,
): Promise<NamedAlias[]> {
	const prefix = of === undefined ? ALIASES : `${ALIASES}${of}/`;
	const entries = await store.list<Alias>(prefix);
	return entries.map(({ key, index, value }) => {
		const [deployment = "", alias = ""] = key.slice(ALIASES.length).split("/");
		return { key, index, deployment, alias, ...value };
	});
}
