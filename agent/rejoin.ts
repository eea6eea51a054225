import { LEFT, membersOf } from "../pipeline/state/members.ts";
import type { Store } from "../pipeline/state/store.ts";
import { reach } from "./reach.ts";

/** How long a member may take to be reached: more is as good as still cut off. */
const REACH_MS = 500;

/**
 * Has this host's Consul talk to the servers that it can reach again. By itself one that was cut off may stay
 * failed in the others' eyes, and they in its own, until Serf next tries members that failed: it does so
 * every 30 s. Meanwhile it has no leader to send a write to.
 * Whatever fails is tried again by whoever calls: also a token that may not (it needs `agent` with policy `write`).
 */
export async function rejoin(store: Store): Promise<void> {
	const members = await membersOf(store).catch(() => []);
	await Promise.all(
		members
			.filter(({ Tags, Status }) => Tags.role === "consul" && Status !== LEFT)
			.map(async ({ Addr, Port }) => {
				// Consul itself would wait for ten seconds
				if ((await reach({ host: Addr, port: Port }, REACH_MS)) !== "open") {
					return;
				}
				const host = Addr.includes(":") ? `[${Addr}]` : Addr;
				await store.consul.agent.join(`${host}:${Port}`).catch(() => {});
			}),
	);
}
