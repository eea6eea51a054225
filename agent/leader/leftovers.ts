import { Images } from "../../pipeline/lifecycle/images.ts";
import { Names } from "../../pipeline/lifecycle/names.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { ignoreConflict } from "../../pipeline/state/operations.ts";
import { Removals } from "../../pipeline/state/removals.ts";
import { Ripening } from "../../pipeline/state/ripening.ts";
import type { Entry } from "../../pipeline/state/store.ts";

/**
 * Takes away what a gateway wrote down for the time of one request, and died before it could take it back: notes of removals,
 * names that are being given, requests that name images.
 */
export class Leftovers {
	readonly #services: Services;
	readonly #ripening = new Ripening<unknown>();

	/** @param services with a fenced store */
	constructor(services: Services) {
		this.#services = services;
	}

	async look(): Promise<void> {
		const { store, log } = this.#services;
		const given = await new Names(this.#services).list();
		const all: Entry<unknown>[] = [
			...(await new Removals(store).list()),
			...given.filter(({ value }) => value.id === undefined),
			...(await new Images(this.#services).records.tagging()),
		];
		for (const { key, index } of this.#ripening.ripe(all)) {
			log.info({ key }, "left behind by a request, and taken away");
			await ignoreConflict(store.commit([{ verb: "delete", key, index }]));
		}
	}
}
