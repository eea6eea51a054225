import { HttpError } from "../errors.ts";
import { Conflict, type Operation } from "./operations.ts";
import { type Entry, Store } from "./store.ts";

/** The lock of the one agent that leads. */
export const LEADER = "arpanet/leader";

/** Who leads, under `arpanet/leader`; goes with its session. */
export interface Leader {
	host: string;
	/** When it was elected, for people: `2026-11-23T16:00:00.123Z`. Nothing is decided by it. */
	since: string;
	session: string;
}

/** The agent that leads; undefined while none does. */
export function readLeader(store: Store): Promise<Entry<Leader> | undefined> {
	return store.get<Leader>(LEADER);
}

/** Another agent leads, or none: nothing of the commit was written. */
export class Deposed extends HttpError {
	constructor() {
		super(503, "leader: another agent leads by now; it will do this");
		this.name = "Deposed";
	}
}

/**
 * Consul as the leader writes to it: every commit carries the lock, so what a leader writes that was paused
 * and wakes up when another leads is refused by Consul itself, whatever it believes.
 */
export class FencedStore extends Store {
	/** Session that has the lock; undefined while this process does not lead. */
	session: string | undefined;

	override async commit(operations: Operation[]): Promise<void> {
		const { session } = this;
		if (!session) throw new Deposed();
		const fence: Operation = { verb: "held", key: LEADER, session };
		try {
			await super.commit([fence, ...operations]);
		} catch (error) {
			if (error instanceof Conflict && error.operation.verb === "held") {
				throw new Deposed();
			}
			throw error;
		}
	}
}
