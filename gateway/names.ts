import { setTimeout } from "node:timers/promises";
import { HttpError } from "../pipeline/errors.ts";
import { Conflict } from "../pipeline/state/store.ts";
import type { Engines } from "./engines.ts";

const PREFIX = "arpanet/names/";
/** A reservation that is older than this belongs to a gateway that died; no create takes so long. */
const STALE_MS = 60_000;
const WAIT_MS = 100;
/** How long one waits for another create of the same name. */
const PATIENCE_MS = 30_000;

/** A name that is being given, under `arpanet/names/<name>`, until its container is there. */
interface Reservation {
	/** Milliseconds since 1970. */
	at: number;
}

/** Keeps the names of containers unique over all hosts, those too of which Consul has no record. */
export class Names {
	readonly #engines: Engines;

	constructor(engines: Engines) {
		this.#engines = engines;
	}

	/**
	 * Reserves a name while a container gets it.
	 * @param own id of the container that may have it already
	 * @returns is to be called when it has got it, or not
	 * @throws HttpError 409, in Docker's words, if it is taken
	 */
	async reserve(name: string, own?: string): Promise<() => Promise<void>> {
		const { store } = this.#engines;
		const key = PREFIX + name;
		const end = performance.now() + PATIENCE_MS;
		while (!(await this.#take(key))) {
			await this.mustBeFree(name, own);
			if (performance.now() > end) {
				throw new HttpError(
					409,
					`Conflict. The container name "/${name}" is being given to another container; try again`,
				);
			}
			await setTimeout(WAIT_MS);
		}
		const release = () => store.commit([{ verb: "delete", key }]);
		try {
			await this.mustBeFree(name, own);
		} catch (error) {
			await release();
			throw error;
		}
		return release;
	}

	/** @returns false while another has it */
	async #take(key: string): Promise<boolean> {
		const { store } = this.#engines;
		const value: Reservation = { at: Date.now() };
		try {
			await store.commit([{ verb: "create", key, value }]);
			return true;
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
		}
		const other = await store.get<Reservation>(key);
		if (other && Date.now() - other.value.at > STALE_MS) {
			await store.commit([{ verb: "delete", key, index: other.index }]).catch(
				() => {}, // another was faster
			);
		}
		return false;
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
