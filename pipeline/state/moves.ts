import type { ContainerCreate, EndpointSettings } from "../docker.ts";
import type { Operation } from "./operations.ts";
import type { Entry, Store } from "./store.ts";

/** Containers on their way from a lost host to another. */
export const MOVES = "arpanet/moves/";
/** Copies that hosts have although they were started elsewhere. */
export const SUPERSEDED = "arpanet/superseded/";

/**
 * A container that is being started elsewhere, under `arpanet/moves/<name>`: written in the commit that decides it, and
 * gone when it is done. Whoever leads goes on with it.
 */
export interface Move {
	from: string;
	to: string;
	/** The whole body, as its engine is to be given it. */
	create: ContainerCreate;
	/** Further networks, by their names. */
	connect: Record<string, EndpointSettings>;
	/** Full id, once its engine has made it. */
	id?: string;
}

/** Why a container that has no address stays when its host is lost: that it ran is seen by its registration, which goes by address. */
export const NO_ADDRESS =
	"it has no address of its own, so nobody can tell whether it ran";

/** Key of the move of a container. */
export function moveKey(name: string): string {
	return MOVES + name;
}

/**
 * The copy that a lost host still has, under `arpanet/superseded/<host>/<id>`: that host's agent stops it before anything
 * else, and deletes the key. Until then nobody registers it, and the overlay keeps the host out of its networks.
 */
export interface Superseded {
	/** The name that it had. */
	container: string;
	/** Where it runs now. */
	to: string;
	/** Scopes of the networks that it has an address in. */
	scopes: string[];
}

/** Key of a superseded copy. @param id full id of the container */
export function supersededKey(host: string, id: string): string {
	return `${SUPERSEDED}${host}/${id}`;
}

/** The operation that makes a commit fail if a container was started elsewhere since its host was lost. */
export function isCurrent(host: string, id: string): Operation {
	return { verb: "absent", key: supersededKey(host, id) };
}

/** Superseded copies of a host, by their ids. */
export async function supersededOn(
	store: Store,
	host: string,
): Promise<(Entry<Superseded> & { id: string })[]> {
	const prefix = `${SUPERSEDED}${host}/`;
	return (await store.list<Superseded>(prefix)).map((entry) => ({
		...entry,
		id: entry.key.slice(prefix.length),
	}));
}

/** By network, the hosts that have a superseded copy in it, whose address is another's by now. */
export type HostsKeptOut = ReadonlyMap<string, ReadonlySet<string>>;

/** Hosts that are not to be heard in some networks until they have stopped what they still have there. */
export async function hostsKeptOut(store: Store): Promise<HostsKeptOut> {
	const hosts = new Map<string, Set<string>>();
	for (const { key, value } of await store.list<Superseded>(SUPERSEDED)) {
		const [host = ""] = key.slice(SUPERSEDED.length).split("/");
		for (const scope of value.scopes) {
			hosts.set(scope, (hosts.get(scope) ?? new Set()).add(host));
		}
	}
	return hosts;
}

/** Between a superseded copy's own name and the start of its id. */
const MARK = ".superseded-";

/** What a superseded copy is called once it is stopped: its own name is the other's. */
export function supersededName(name: string, id: string): string {
	return `${name}${MARK}${id.slice(0, 12)}`;
}

/** Whether a container is called so: nobody may start it while its address is another's. */
export function isSuperseded(name: string): boolean {
	return /\.superseded-[0-9a-f]{12}$/.test(name);
}
