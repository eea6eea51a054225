import { inTime } from "../../pipeline/deadline.ts";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import { readLabels } from "../../pipeline/facts.ts";
import { aliasesSeen } from "../../pipeline/state/aliases.ts";
import type { Store } from "../../pipeline/state/store.ts";

/** An inspect waits no longer for what Consul knows. */
const PATIENCE_MS = 1_000;

/**
 * Puts a container's network aliases where inspect shows those of Docker's own DNS: they are in Consul. Who makes it anew from its inspect, as
 * Watchtower and Portainer do, asks for them again.
 */
export async function showAliases(
	{ Config, NetworkSettings }: ContainerInspect,
	store: Store,
): Promise<void> {
	const { deployment } = readLabels(Config.Labels);
	if (!deployment) return; // Docker's own DNS has them
	const known = await inTime(
		aliasesSeen(deployment, store),
		PATIENCE_MS,
		() => new Error("Consul does not answer in time"),
	).catch(() => []);
	for (const endpoint of Object.values(NetworkSettings.Networks)) {
		const address = endpoint.IPAddress || endpoint.IPAMConfig?.IPv4Address;
		const own = known
			.filter((each) => each.address === address && !each.hostname)
			.map(({ alias }) => alias);
		if (!address || own.length === 0) continue;
		endpoint.Aliases = [...new Set([...own, ...(endpoint.Aliases ?? [])])];
	}
}
