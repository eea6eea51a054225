import type { Facts } from "../plugin.ts";
import type { Entry, Store } from "./store.ts";

const PREFIX = "arpanet/removing/";

/** Who a container is, under `arpanet/removing/<id>` until Docker has answered its removal. */
export interface Removal {
	name: string;
	facts: Facts;
}

/** Notes of containers that are about to be removed: afterwards nothing else tells who they were. */
export class Removals {
	readonly #store: Store;

	constructor(store: Store) {
		this.#store = store;
	}

	/** @param id full id of the container */
	async note(id: string, removal: Removal): Promise<void> {
		await this.#store.commit([
			{ verb: "set", key: PREFIX + id, value: removal },
		]);
	}

	/**
	 * The note of a container by its id, prefix or name, as the client called it. Of several of one name it is the last: one that
	 * nobody took back may be of a container that has another name by now.
	 */
	async find(ref: string): Promise<Entry<Removal> | undefined> {
		const name = ref.replace(/^\//, "");
		const noted = (await this.list()).sort((a, b) => b.index - a.index);
		return (
			noted.find(({ value }) => value.name === name) ??
			noted.find(({ key }) => key.startsWith(PREFIX + ref))
		);
	}

	list(): Promise<Entry<Removal>[]> {
		return this.#store.list(PREFIX);
	}

	/** The container's full id in a note's key. */
	id({ key }: Entry<Removal>): string {
		return key.slice(PREFIX.length);
	}

	async forget({ key }: Entry<Removal>): Promise<void> {
		await this.#store.commit([{ verb: "delete", key }]);
	}
}
