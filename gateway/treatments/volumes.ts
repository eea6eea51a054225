import type { Answer, Engines } from "../engines.ts";
import { mergedList, type Row } from "./treatment.ts";

/** `volumes/…`: a volume is on one host, and the list is of all. */
export function volumes(engines: Engines): Row[] {
	return [[/^GET$/, /^\/volumes$/, mergedList(engines, mergeVolumes)]];
}

interface Volumes {
	Volumes: unknown[] | null;
	Warnings: string[] | null;
}

/** `GET /volumes` of all hosts, by name. */
function mergeVolumes(answers: Answer[]): unknown {
	const lists = answers.map(({ answer }) => answer as Volumes);
	return {
		Volumes: lists.flatMap(({ Volumes }) => Volumes ?? []),
		Warnings: lists.flatMap(({ Warnings }) => Warnings ?? []),
	};
}
