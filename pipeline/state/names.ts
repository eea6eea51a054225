import { Conflict, type Entry, type Store } from "./store.ts";

const PREFIX = "arpanet/names/";
/** A reservation that is older than this belongs to a gateway that died; no create takes so long. */
const STALE_MS = 60_000;

/** A name that is being given, under `arpanet/names/<name>`, until its container is there. */
export interface Reservation {
	/** Milliseconds since 1970. */
	at: number;
}

/** Names of containers that are being given, each to one only. */
export class Reservations {
	readonly #store: Store;

	constructor(store: Store) {
		this.#store = store;
	}

	/** Takes a name, unless another has it. @returns whether it did */
	async take(name: string): Promise<boolean> {
		const key = PREFIX + name;
		const value: Reservation = { at: Date.now() };
		try {
			await this.#store.commit([{ verb: "create", key, value }]);
			return true;
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
		}
		const other = await this.#store.get<Reservation>(key);
		if (other && isStale(other)) await this.#forget(other).catch(() => {}); // another was faster
		return false;
	}

	/** Gives a name back that was taken. */
	giveBack(name: string): Promise<void> {
		return this.#store.commit([{ verb: "delete", key: PREFIX + name }]);
	}

	/** Gives back what gateways have taken that died. */
	async tidy(): Promise<void> {
		const all = await this.#store.list<Reservation>(PREFIX);
		for (const each of all.filter(isStale)) await this.#forget(each);
	}

	#forget({ key, index }: Entry<Reservation>): Promise<void> {
		return this.#store.commit([{ verb: "delete", key, index }]);
	}
}

function isStale({ value }: Entry<Reservation>): boolean {
	return Date.now() - value.at > STALE_MS;
}
