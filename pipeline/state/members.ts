import type { Store } from "./store.ts";

/** A member of the gossip of Consul's agents, as this host's tells of it. */
export interface Member {
	Addr: string;
	/** Of Serf, TCP and UDP. */
	Port: number;
	/** `consul` is the role of a server. */
	Tags: { role?: string };
	/** Serf's: `ALIVE`, `LEFT`, or 4 for one that has failed. */
	Status: number;
}

export const ALIVE = 1;
export const LEFT = 3;

/** All members, as far as the token may read them. */
export async function membersOf(store: Store): Promise<Member[]> {
	const members: unknown = await store.ask(() => store.consul.agent.members());
	return members as Member[];
}
