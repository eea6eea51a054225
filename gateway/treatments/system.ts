import type { Has } from "../../pipeline/answers.ts";
import { isObject } from "../../pipeline/json.ts";
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
function mergeInfo(infos: Has<Record<string, unknown>>[]): unknown {
	const own = infos[0]?.answer ?? {};
	const sums = Object.fromEntries(
		SUMS.map((key) => [
			key,
			infos.reduce((sum, { answer }) => sum + Number(answer[key] ?? 0), 0),
		]),
	);
	const status = infos.map(({ host, answer }) => [
		host,
		`${answer.ContainersRunning} of ${answer.Containers} containers running, engine ${answer.ServerVersion}`,
	]);
	const ownStatus = (own.DriverStatus as string[][] | undefined) ?? [];
	return {
		...own,
		...sums,
		DriverStatus: [...ownStatus, ["Hosts", String(infos.length)], ...status],
	};
}

interface Usage {
	Images?: { Id: string; Containers: number }[] | null;
	[key: string]: unknown;
}

/** `GET /system/df` of all hosts: what they keep together, in API versions before 1.53 each image once with all its containers. */
function mergeUsage(answers: Has<unknown>[]): unknown {
	const sum = answers.map(({ answer }) => answer).reduce(summed, {}) as Usage;
	if (!("Images" in sum)) return sum;
	const images = new Map<string, { Id: string; Containers: number }>();
	for (const image of sum.Images ?? []) {
		const Containers =
			(images.get(image.Id)?.Containers ?? 0) + image.Containers;
		images.set(image.Id, { ...image, Containers });
	}
	return { ...sum, Images: [...images.values()] };
}

/** Numbers are added, lists joined, objects taken part by part; of anything else the first is it. */
function summed(a: unknown, b: unknown): unknown {
	if (typeof a === "number" && typeof b === "number") return a + b;
	if (Array.isArray(a) && Array.isArray(b)) return [...a, ...b];
	if (!isObject(a) || !isObject(b)) return a ?? b;
	const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
	return Object.fromEntries(
		[...keys].map((key) => [key, summed(a[key], b[key])]),
	);
}
