import { PATIENCE_MS } from "../../pipeline/cluster.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { KnownHost } from "../../pipeline/state/hosts.ts";
import { hostNamed } from "../../pipeline/state/names.ts";
import type { Engines } from "../engines.ts";

/** Where the containers are that requests name. */
export function whereabouts(engines: Engines) {
	const { cluster, store } = engines;

	/** The host that is remembered of an id, if it can be reached. */
	async function remembered(id: string): Promise<string | undefined> {
		const host = await cluster.homeOf(id);
		if (!host) return undefined;
		return (await cluster.reachable()).includes(host) ? host : undefined;
	}

	/** @throws HttpError 502 for a container of a host that is lost, or does not answer for long */
	async function hostOf(ref: string): Promise<string | undefined> {
		const known = await remembered(ref);
		if (known) return known;
		const { found, unheard } = await cluster.search(ref);
		if (found) {
			cluster.remember(found.container.Id, found.host);
			return found.host;
		}
		const all = await cluster.all();
		const lost = all.filter(
			({ name, state }) => !state || unheard.includes(name),
		);
		let host = await cluster.homeLike(ref); // Consul goes by names
		let unread: unknown;
		try {
			host = (await hostNamed(ref.replace(/^\//, ""), store)) ?? host;
		} catch (error) {
			unread = error;
		}
		if (host && !all.some(({ name }) => name === host)) {
			throw new HttpError(
				503,
				`container ${ref} is on record on host ${host}, of which nothing is known just now; try again, and look at arpanet hosts`,
			);
		}
		if (lost.length === 0) return undefined;
		const itsOwn = lost.find(({ name }) => name === host);
		if (!itsOwn || itsOwn.state) {
			// one that is silent may only have much to do
			const late = await cluster.find(ref, PATIENCE_MS);
			if (late) return late.host;
		}
		if (unread && !host) throw mayBeOn(lost, ref, unread);
		if (!itsOwn) return undefined;
		const why = itsOwn.state
			? "does not answer; try again, and look at arpanet hosts"
			: `is lost; start arpanet there, or say arpanet host rm ${host} if it will not come back`;
		throw new HttpError(
			502,
			`container ${ref} is on host ${host}, which ${why}`,
		);
	}

	/** Without Consul nobody can say that a container is nowhere while a host cannot be asked for it. */
	function mayBeOn(lost: KnownHost[], ref: string, cause: unknown): HttpError {
		const names = lost.map(({ name }) => name).join(", ");
		return new HttpError(
			503,
			`container ${ref} may be on ${names}, which cannot be asked, and Consul does not say; try again, and look at arpanet check`,
			{ cause },
		);
	}

	return { hostOf, remembered };
}
