import type { Answer } from "./router.ts";

interface Created {
	Id: string;
	Created: number;
}

/** `GET /containers/json` of all hosts: newest first, `limit` over the whole. */
export function mergeContainers(
	answers: Answer[],
	query: URLSearchParams,
): unknown {
	const rows = answers.flatMap(({ answer }) => answer as Created[]);
	rows.sort((a, b) => b.Created - a.Created);
	const limit = Number(query.get("limit"));
	return limit > 0 ? rows.slice(0, limit) : rows;
}

/** `GET /images/json` of all hosts: each image once, newest first. */
export function mergeImages(answers: Answer[]): unknown {
	const images = new Map<string, Created>();
	for (const { answer } of answers) {
		for (const image of answer as Created[]) {
			if (!images.has(image.Id)) images.set(image.Id, image);
		}
	}
	return [...images.values()].sort((a, b) => b.Created - a.Created);
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

/** `GET /info` of all hosts: the cluster as one big engine, and a line for each host. */
export function mergeInfo(answers: Answer[]): unknown {
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
