import { setTimeout } from "node:timers/promises";
import { HttpError } from "../pipeline/errors.ts";
import { Reservations } from "../pipeline/state/names.ts";
import type { Engines } from "./engines.ts";

const WAIT_MS = 100;
/** How long one waits for another create of the same name. */
const PATIENCE_MS = 30_000;

/** Keeps the names of containers unique over all hosts, those too of which Consul has no record. */
export class Names {
	readonly #engines: Engines;
	readonly #reservations: Reservations;

	constructor(engines: Engines) {
		this.#engines = engines;
		this.#reservations = new Reservations(engines.store);
	}

	/**
	 * Reserves a name while a container gets it.
	 * @param own id of the container that may have it already
	 * @returns is to be called when it has got it, or not
	 * @throws HttpError 409, in Docker's words, if it is taken
	 */
	async reserve(name: string, own?: string): Promise<() => Promise<void>> {
		const end = performance.now() + PATIENCE_MS;
		while (!(await this.#reservations.take(name))) {
			await this.mustBeFree(name, own);
			if (performance.now() > end) {
				throw new HttpError(
					409,
					`Conflict. The container name "/${name}" is being given to another container; try again`,
				);
			}
			await setTimeout(WAIT_MS);
		}
		const release = () => this.#reservations.giveBack(name);
		try {
			await this.mustBeFree(name, own);
		} catch (error) {
			await release();
			throw error;
		}
		return release;
	}

	/** @throws HttpError 409, in Docker's words, if a container has the name */
	async mustBeFree(name: string, own?: string): Promise<void> {
		// the list needs no lock of the container
		const filters = JSON.stringify({
			name: [`^/${name.replaceAll(".", "\\.")}$`],
		});
		const answers = await this.#engines.ask(
			`/containers/json?all=1&filters=${encodeURIComponent(filters)}`,
		);
		const holders = answers.flatMap(
			({ answer }) => (answer ?? []) as { Id: string }[],
		);
		const holder = holders.find(({ Id }) => Id !== own);
		if (!holder) return;
		throw new HttpError(
			409,
			`Conflict. The container name "/${name}" is already in use by container "${holder.Id}". You have to remove (or rename) that container to be able to reuse that name.`,
		);
	}
}
