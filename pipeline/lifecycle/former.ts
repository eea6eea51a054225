import type { Services } from "../plugin.ts";
import type { Slot } from "../state/slots.ts";
import type { Identity } from "../state/successors.ts";

/**
 * The slots of those whose place a container takes because it is made under the name that they had before a rename. One that runs
 * keeps what it has: it may have been renamed for good, as of two that are made in turn.
 */
export async function formerSlots(
	own: Identity,
	services: Pick<Services, "slots" | "cluster">,
): Promise<Slot[]> {
	const stopped: Slot[] = [];
	for (const slot of services.slots.former(own)) {
		const { container } = slot.placed;
		if (await isStopped(container, slot.host, services)) stopped.push(slot);
	}
	return stopped;
}

/** Whether a container's engine says that it does not run. */
export async function isStopped(
	name: string,
	host: string | undefined,
	{ cluster }: Pick<Services, "cluster">,
): Promise<boolean> {
	const found = await cluster
		.ask(host ?? cluster.self, (engine) => engine.containerNamed(name))
		.catch(() => undefined);
	return found?.State.Running === false;
}
