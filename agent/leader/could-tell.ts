import type { KnownHost } from "../../pipeline/state/hosts.ts";

/**
 * Whether whoever could say that something is used, and put it back on record, lives to do so.
 * @param host whose it is; undefined or empty: anybody's, and all have to live
 */
export function couldTell(hosts: KnownHost[], host?: string): boolean {
	const concerned = hosts.filter(({ name }) => !host || name === host);
	return concerned.length > 0 && concerned.every(({ state }) => state);
}
