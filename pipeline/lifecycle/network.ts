import type { Chain } from "../chain.ts";
import type { NetworkCreate } from "../docker.ts";
import { HttpError } from "../errors.ts";
import { isDisabled, withoutForged } from "../facts.ts";
import type { Services } from "../plugin.ts";
import type { HookHeaders } from "../protocol.ts";
import type { NetworkRecord } from "../state/networks.ts";
import { Conflict } from "../state/operations.ts";

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
	 * @returns the body to create with; undefined if it is none of ours, bears no label that only we may write, and goes on untouched
	 * @throws HttpError with nothing left acquired
	 */
	async create(
		body: NetworkCreate,
		headers: HookHeaders,
	): Promise<NetworkCreate | undefined> {
		const cleaned = withoutForged(body);
		const own = cleaned ?? body;
		if (isDisabled(own.Labels)) return cleaned;
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			const context = { body: structuredClone(own), headers, facts: {} };
			try {
				await this.#chain.acquire("networkCreate", context);
				return Object.keys(context.facts).length > 0 ? context.body : cleaned;
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
	 * Docker created a network, on the host where it is at home.
	 * @param id Docker's id of it, which clients see from now on
	 */
	async created(name: string, id: string): Promise<void> {
		const { networks } = this.#services;
		const entry = await networks.byName(name);
		if (!entry) return; // none of ours
		await networks.ids.set(entry.value, entry.value.host, id);
		await this.#chain.acquire("networkCreated", { network: entry.value });
	}

	/**
	 * The Docker of its home no longer has the network of that name or id, or never made it.
	 * @param id of the one that went, where Docker tells: the name may be a new one's by now, which is still to be made
	 */
	async removed(ref: string, id?: string): Promise<void> {
		const { networks, cluster } = this.#services;
		const value = (await networks.find(ref))?.value;
		if (!value) return; // none of ours
		if (id !== undefined) {
			const all = await networks.ids.list(value.scope);
			const own = all.find(({ host }) => host === value.host);
			if (own?.value.id !== id) return;
		}
		const stands = await cluster.ask(value.host, (home) =>
			home.networkNamed(value.name),
		);
		// another of that name is none of ours: Docker's own, which nobody can make
		if (stands?.Labels?.["arpanet.network"] === value.scope) return;
		const isGone = await this.retire(value);
		if (isGone || value.implicit) return;
		// stopped containers keep their addresses in it; what the other hosts have of it goes where nothing runs in it: it may come back as another
		await this.#chain.release("networkRemoved", { network: value });
	}

	/** Gives a network back if no container holds a lease in it. @returns whether it is gone */
	retire(network: NetworkRecord): Promise<boolean> {
		const remove = async (record: NetworkRecord) => {
			const error = await this.#chain.release("networkRemoved", {
				network: record,
			});
			if (error) throw error;
		};
		return this.#services.networks.retire(network.scope, remove, network.vni);
	}
}
