import type { Answer, Engines } from "../engines.ts";
import { mergedList, type Row } from "./treatment.ts";

/** `info`: the cluster as one big engine. */
export function system(engines: Engines): Row[] {
	return [[/^GET$/, /^\/info$/, mergedList(engines, mergeInfo)]];
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
function mergeInfo(answers: Answer[]): unknown {
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
