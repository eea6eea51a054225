import { isTrue } from "../../pipeline/spelling.ts";
import { readFilters } from "../filters.ts";
import type { Listed } from "./host-view.ts";

/** What `GET /containers/json` asks for, as far as a view can tell. */
export interface ListQuery {
	all: boolean;
	/** 0: none. */
	limit: number;
	/** `key` or `key=value`, all of them. */
	labels: string[];
	/** Any of them; empty: whatever. */
	states: string[];
	/** Ids, prefixes or names. */
	since: string[];
	before: string[];
	/** Filters that only the engine can apply. */
	others: Record<string, string[]>;
	/** The sizes of file systems, which only the engine knows. */
	size: boolean;
}

const STATES = new Set([
	"created",
	"restarting",
	"running",
	"removing",
	"paused",
	"exited",
	"dead",
]);

/** @param query with its question mark @returns undefined where the engine may have something to say against it */
export function readQuery(query: string): ListQuery | undefined {
	const asked = new URLSearchParams(query);
	const limit = asked.get("limit") || "0";
	const filters = readFilters(asked.get("filters"));
	if (!filters || !/^-?\d{1,9}$/.test(limit)) return undefined;
	const {
		label = [],
		status = [],
		since = [],
		before = [],
		...others
	} = filters;
	if (!status.every((state) => STATES.has(state))) return undefined;
	return {
		all: isTrue(asked.get("all")) || status.length > 0,
		limit: Math.max(0, Number(limit)),
		labels: label,
		states: status,
		since,
		before,
		others,
		size: isTrue(asked.get("size")),
	};
}

/** Whether a container is in a list, as far as that depends on it alone. */
export function isAsked(
	{ running, labels, state }: Pick<Listed, "running" | "labels" | "state">,
	query: ListQuery,
): boolean {
	if (!running && !query.all && query.limit === 0) return false;
	if (query.states.length > 0 && !query.states.includes(state)) return false;
	return hasLabels(labels, query.labels);
}

/** Whether all of some labels are there, each `key` or `key=value`. */
export function hasLabels(
	labels: Record<string, string>,
	wanted: string[],
): boolean {
	return wanted.every((label) => {
		const at = label.indexOf("=");
		const key = at < 0 ? label : label.slice(0, at);
		if (!Object.hasOwn(labels, key)) return false;
		return at < 0 || labels[key] === label.slice(at + 1);
	});
}
