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

/** What is told of this host: each is rung when the engine has said that it changed. */
interface Told {
	/** The names of containers that are not on record. */
	names: Alarm;
	/** What the names of images mean here. */
	images: Alarm;
}

/**
 * Tells the others what this host's engine has that no create through arpanet tells of, so that they need not ask it.
 * With one host there is nobody to tell.
 */
export async function tell(
	services: Services,
	alarms: Told,
	signal: AbortSignal,
): Promise<void> {
	const { cluster, engine } = services;
	const names = new Names(services);
	const images = new Images(services);
	await Promise.all([
		repeat(alarms.names, async () =>
			names.look(await engine().listContainers()),
		),
		repeat(alarms.images, () => images.tell(cluster.self)),
	]);

	async function repeat(
		alarm: Alarm,
		look: () => Promise<void>,
	): Promise<void> {
		let complained = "";
		while (!signal.aborted) {
			try {
				if (!cluster.alone) await look();
				complained = "";
			} catch (error) {
				const err = messageOf(error);
				if (err !== complained) {
					services.log.warn({ err }, "others are not told what is here");
				}
				complained = err;
			}
			await setTimeout(PAUSE_MS, undefined, { signal }).catch(() => {});
			await alarm.rest(LOOK_MS, signal);
		}
	}
}
