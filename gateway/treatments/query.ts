import { compile } from "../../pipeline/patterns.ts";
import type { NetworkIds } from "../../pipeline/state/network-ids.ts";
import { type Filters, readFilters } from "../filters.ts";

/**
 * The filters of a query.
 * @param query with its question mark, or empty
 * @returns nothing for filters that cannot be read: the engine says what is wrong with them
 */
export function filtersOf(query: string): Filters {
	return readFilters(new URLSearchParams(query).get("filters")) ?? {};
}

/** A query with other filters; as the client sent it where it has none. */
export function withFilters(query: string, filters: Filters): string {
	const asked = new URLSearchParams(query);
	if (!asked.has("filters") && Object.keys(filters).length === 0) return query;
	// the engine says what is wrong with them: without them it would list, or prune, everything
	if (!readFilters(asked.get("filters"))) return query;
	asked.set("filters", JSON.stringify(filters));
	return `?${asked}`;
}

/** A query whose filter `network` names networks of ours as every engine does. */
export async function withNetworkNames(
	query: string,
	ids: NetworkIds,
): Promise<string> {
	const filters = filtersOf(query);
	const { network } = filters;
	if (!network) return query;
	const names = await Promise.all(
		network.map(async (ref) => (await ids.findHeard(ref))?.name ?? ref),
	);
	return withFilters(query, { ...filters, network: names });
}

/** Docker takes a filter's value for a regular expression, and for a part of the text if it is none. */
export function matches(text: string, values: string[]): boolean {
	return values.some((value) => {
		try {
			return compile(value).test(text);
		} catch {
			return text.includes(value);
		}
	});
}
