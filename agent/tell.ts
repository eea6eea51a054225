import { setTimeout } from "node:timers/promises";
import { messageOf } from "../pipeline/errors.ts";
import { Images } from "../pipeline/lifecycle/images.ts";
import { Names } from "../pipeline/lifecycle/names.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { Alarm } from "./alarm.ts";

/** How often is told what no event tells of: a name that BuildKit moves, what happened while nobody watched. */
const LOOK_MS = 10_000;
/** Between two looks: many events mean one. */
const PAUSE_MS = 100;

/**
 * Tells the others what this host's engine has that no create through arpanet tells of, so that they need not ask it: the names of
 * containers that are not on record, and what the names of images mean here. With one host there is nobody to tell.
 */
export async function tell(
	services: Services,
	alarm: Alarm,
	signal: AbortSignal,
): Promise<void> {
	const { cluster, log } = services;
	const names = new Names(services);
	const images = new Images(services);
	let complained = "";
	while (!signal.aborted) {
		try {
			if (!cluster.alone) {
				await names.look(await services.engine().listContainers());
				await images.tell(cluster.self);
			}
			complained = "";
		} catch (error) {
			const message = messageOf(error);
			if (message !== complained) {
				log.warn({ err: message }, "others are not told what is here");
			}
			complained = message;
		}
		await setTimeout(PAUSE_MS, undefined, { signal }).catch(() => {});
		await alarm.rest(LOOK_MS, signal);
	}
}
