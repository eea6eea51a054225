import type { HostAnswer } from "../../pipeline/cluster.ts";
import type { Engines } from "../engines.ts";
import { mergedList, type Route } from "./treatment.ts";

/** `info` and `system/df`: the cluster as one big engine. */
export function system(engines: Engines): Route[] {
	return [
		[/^GET$/, /^\/info$/, mergedList(engines, mergeInfo)],
		[/^GET$/, /^\/system\/df$/, mergedList(engines, mergeUsage)],
	];
}

/** What is counted over all hosts. */
const SUMS = [
	"Containers",
	"ContainersRunning",
	"ContainersPaused",
	"ContainersStopped",
	"NCPU",
	"MemTotal",
];

/** `GET /info` of all hosts: their sums, and a line for each host. */
function mergeInfo(answers: HostAnswer[]): unknown {
	const infos = answers.map(({ answer }) => answer as Record<string, unknown>);
	const [own = {}] = infos;
	const sums = Object.fromEntries(
		SUMS.map((key) => [
			key,
			infos.reduce((sum, info) => sum + Number(info[key] ?? 0), 0),
		]),
	);
	const status = answers.map(({ host }, i) => [
		host,
		`${infos[i]?.ContainersRunning} of ${infos[i]?.Containers} containers running, engine ${infos[i]?.ServerVersion}`,
	]);
	const ownStatus = (own.DriverStatus as string[][] | undefined) ?? [];
	return {
		...own,
		...sums,
		DriverStatus: [...ownStatus, ["Hosts", String(answers.length)], ...status],
	};
}

interface Usage {
	Images: { Id: string; Containers: number }[] | null;
	[key: string]: unknown;
}

/** `GET /system/df` of all hosts: what they keep together, each image once with all its containers. */
function mergeUsage(answers: HostAnswer[]): unknown {
	const sum: Record<string, unknown> = {};
	for (const { answer } of answers) {
		for (const [key, part] of Object.entries(answer as Usage)) {
			const before = sum[key];
			if (typeof part === "number") sum[key] = part + Number(before ?? 0);
			else if (Array.isArray(before) && Array.isArray(part)) {
				sum[key] = [...before, ...part];
			} else sum[key] = before ?? part;
		}
	}
	const images = new Map<string, { Id: string; Containers: number }>();
	for (const image of (sum as Usage).Images ?? []) {
		const Containers =
			(images.get(image.Id)?.Containers ?? 0) + image.Containers;
		images.set(image.Id, { ...image, Containers });
	}
	return { ...sum, Images: [...images.values()] };
}
