import { Images } from "../pipeline/lifecycle/images.ts";
import { Names } from "../pipeline/lifecycle/names.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { Alarm } from "./alarm.ts";
import { pause, repeat } from "./repeat.ts";

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
		toldOf(alarms.names, async () => names.look(await engine.listContainers())),
		toldOf(alarms.images, () => images.tell(cluster.self)),
	]);

	function toldOf(alarm: Alarm, look: () => Promise<void>): Promise<void> {
		const work = async () => {
			if (!cluster.alone) await look();
		};
		return repeat(work, {
			signal,
			log: services.log,
			failure: "others are not told what is here",
			rest: async () => {
				await pause(PAUSE_MS, signal);
				await alarm.rest(LOOK_MS, signal);
			},
		});
	}
}
