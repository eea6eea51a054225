import type { Logger } from "pino";
import type { Chain } from "../chain.ts";
import type { VolumeCreate } from "../docker.ts";

/** What happens to volumes, told to the plugins. None of it is refused: what is missed the agent puts right. */
export class VolumeLifecycle {
	readonly #chain: Chain;
	readonly #log: Logger;

	constructor(chain: Chain, log: Logger) {
		this.#chain = chain;
		this.#log = log;
	}

	/** Docker is about to be asked for a volume. */
	async creating(body: VolumeCreate): Promise<void> {
		try {
			await this.#chain.acquire("volumeCreate", { body });
		} catch (err) {
			this.#log.warn({ err, volume: body.Name }, "volume not noted");
		}
	}

	/** Docker has removed a volume. */
	async removed(name: string): Promise<void> {
		await this.#chain.release("volumeRemoved", { name });
	}
}
