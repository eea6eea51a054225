import type { KnownHost } from "../../pipeline/state/hosts.ts";

/**
 * Whether its host, or without one every host, lives: only that could put a key back that is still used.
 * @param host whose it is; undefined or empty: anybody's
 */
export function couldTell(hosts: KnownHost[], host?: string): boolean {
	const concerned = hosts.filter(({ name }) => !host || name === host);
	return concerned.length > 0 && concerned.every(({ state }) => state);
}
