import type { Chain } from "../chain.ts";
import type { NetworkCreate } from "../docker.ts";
import { HttpError } from "../errors.ts";
import { isDisabled } from "../facts.ts";
import type { Services } from "../plugin.ts";
import type { HookHeaders } from "../protocol.ts";
import type { NetworkRecord } from "../state/networks.ts";
import { Conflict } from "../state/store.ts";

/** Tries before a create gives up against others that want the same. */
const MAX_TRIES = 50;

/** What happens to the networks of deployments, told to the plugins in the right order. */
export class NetworkLifecycle {
	readonly #chain: Chain;
	readonly #services: Services;

	constructor(chain: Chain, services: Services) {
		this.#chain = chain;
		this.#services = services;
	}

	/**
	 * Runs the chain over the body of a network.
	 * @returns the body to create with; undefined if it is none of ours and goes on untouched
	 * @throws HttpError with nothing left acquired
	 */
	async create(
		body: NetworkCreate,
		headers: HookHeaders,
	): Promise<NetworkCreate | undefined> {
		if (isDisabled(body.Labels)) return undefined;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const context = { body: structuredClone(body), headers, facts: {} };
			try {
				await this.#chain.acquire("networkCreate", context);
				return Object.keys(context.facts).length > 0 ? context.body : undefined;
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
			}
		}
		throw new HttpError(
			503,
			`network ${body.Name}: too many at once; try again`,
		);
	}

	/**
	 * Docker created a network.
	 * @param id Docker's id of it, by which a client may remove it
	 */
	async created(name: string, id: string): Promise<void> {
		const entry = await this.#services.networks.byName(name);
		if (!entry) return; // none of ours
		await this.#services.networks.setId(entry, id);
		await this.#chain.acquire("networkCreated", { network: entry.value });
	}

	/** Docker no longer has the network of that name or id, or never made it. */
	async removed(ref: string): Promise<void> {
		const entry = (await this.#services.networks.list()).find(
			({ value }) => value.name === ref || value.id?.startsWith(ref),
		);
		if (!entry) return; // none of ours
		const { value } = entry;
		if (await this.#services.engine().inspectNetwork(value.name)) return;
		await this.retire(value);
	}

	/** Gives a network back if no container holds a lease in it. */
	async retire(network: NetworkRecord): Promise<void> {
		await this.#services.networks.retire(network.scope, async (record) => {
			const error = await this.#chain.release("networkRemoved", {
				network: record,
			});
			if (error) throw error;
		});
	}
}
