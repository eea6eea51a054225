import type { Chain } from "../../pipeline/chain.ts";
import type { ContainerLifecycle } from "../../pipeline/lifecycle/container.ts";
import type { NetworkLifecycle } from "../../pipeline/lifecycle/network.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { Deposed } from "../../pipeline/state/leader.ts";
import { Repairs } from "../../pipeline/state/repairs.ts";
import { pause, repeat } from "../repeat.ts";
import type { Term } from "./leadership.ts";
import { Leftovers } from "./leftovers.ts";
import { LostHosts } from "./lost-hosts.ts";
import { Orphans } from "./orphans.ts";
import { RemovedHosts } from "./removed-hosts.ts";
import { Reschedule } from "./reschedule.ts";
import { Subnets } from "./subnets.ts";

/** DNS shall stop answering for a lost host within 10 s. */
const WATCH_MS = 1_000;
/** What belongs to nobody goes back within a minute: it must be seen over half of it. */
const LOOK_MS = 8_000;

/** What a leader works with: every store in it is fenced. */
export interface LeaderParts {
	services: Services;
	chain: Chain;
	containers: ContainerLifecycle;
	networks: NetworkLifecycle;
}

/**
 * The duties of the agent that leads: only those for which no host has all that must be known, or which are about
 * hosts that cannot speak for themselves. What an agent can see on its own engine it puts right itself
 * (pipeline/lifecycle/reconcile.ts). Each duty can be done twice, and half of it too.
 */
export function leaderDuties({
	services,
	chain,
	containers,
	networks,
}: LeaderParts): Term {
	const { store, host } = services;
	const repairs = new Repairs(store, host.name);

	return async (signal) => {
		// of this term alone: what an earlier one has seen may be long past
		const lost = new LostHosts(services, repairs);
		const reschedule = new Reschedule(services, containers, repairs);
		const removed = new RemovedHosts(services, containers, repairs);
		const orphans = new Orphans(services, chain, containers, repairs);
		const subnets = new Subnets(services, networks, repairs);
		const leftovers = new Leftovers(services);
		await Promise.all([
			duty("lost hosts", WATCH_MS, signal, () => lost.look()),
			duty("containers of lost hosts", WATCH_MS, signal, () =>
				reschedule.look(),
			),
			duty("removed hosts", WATCH_MS, signal, () => removed.look()),
			duty("orphans", LOOK_MS, signal, () => orphans.look()),
			duty("networks", LOOK_MS, signal, () => subnets.look()),
			duty("leftovers", LOOK_MS, signal, () => leftovers.look()),
			duty("repairs", LOOK_MS, signal, () => repairs.prune()),
		]);
	};

	/** Does a duty now and then; what fails is tried again, and told once. */
	function duty(
		name: string,
		every: number,
		signal: AbortSignal,
		look: () => Promise<void>,
	): Promise<void> {
		const work = async () => {
			try {
				await look();
			} catch (error) {
				if (!(error instanceof Deposed)) throw error; // the next leader does it
			}
		};
		return repeat(work, {
			signal,
			log: services.log.child({ duty: name }),
			failure: "leader's duty failed",
			rest: () => pause(every, signal),
		});
	}
}
