import { setTimeout } from "node:timers/promises";
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

/** `GET /networks` of all hosts: a deployment's network once, Docker's own of this host alone. */
export function mergeNetworks(answers: Answer[]): unknown {
	const [own, ...others] = answers.map(({ answer }) => answer as Network[]);
	const rows = [...(own ?? [])];
	const names = new Set(rows.map(({ Name }) => Name));
	for (const network of others.flat()) {
		if (names.has(network.Name) || !network.Labels?.["arpanet.network"])
			continue;
		names.add(network.Name);
		rows.push(network);
	}
	return rows;
}

interface Network {
	Name: string;
	Labels: Record<string, string> | null;
}

/** `GET /volumes` of all hosts, by name. */
export function mergeVolumes(answers: Answer[]): unknown {
	const lists = answers.map(({ answer }) => answer as Volumes);
	return {
		Volumes: lists.flatMap(({ Volumes }) => Volumes ?? []),
		Warnings: lists.flatMap(({ Warnings }) => Warnings ?? []),
	};
}

interface Volumes {
	Volumes: unknown[] | null;
	Warnings: string[] | null;
}

/** How long events wait for earlier ones of other hosts. */
const WINDOW_MS = 100;

/** The lines of several hosts' `GET /events` as one stream, in the order of their times. */
export async function* mergeEvents(
	streams: AsyncIterable<string>[],
): AsyncGenerator<string> {
	let waiting: { line: string; time: number }[] = [];
	let open = streams.length;
	let wake = () => {};
	for (const stream of streams) {
		void (async () => {
			try {
				for await (const line of stream) {
					const { timeNano } = JSON.parse(line) as { timeNano: number };
					waiting.push({ line, time: timeNano });
					wake();
				}
			} catch {
				// a host that is lost ends its part of the stream
			} finally {
				open--;
				wake();
			}
		})();
	}
	while (open > 0 || waiting.length > 0) {
		if (waiting.length === 0) {
			await new Promise<void>((resolve) => {
				wake = resolve;
			});
			continue;
		}
		if (open > 0) await setTimeout(WINDOW_MS);
		const ready = waiting.sort((a, b) => a.time - b.time);
		waiting = [];
		for (const { line } of ready) yield `${line}\n`;
	}
}
