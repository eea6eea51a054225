/** A request's `filters`, by key. */
export type Filters = Record<string, string[]>;

/**
 * Reads both forms that clients send: `{"label": ["a"]}` and `{"label": {"a": true}}`.
 * @returns undefined for what is neither: the engine says what is wrong with it
 */
export function readFilters(text: string | null): Filters | undefined {
	if (!text) return {};
	try {
		const read: unknown = JSON.parse(text);
		if (typeof read !== "object" || Array.isArray(read)) return undefined;
		const all = Object.entries(read ?? {}).map(([key, values]) => {
			const list = Array.isArray(values) ? values : held(values);
			if (!list.every((value) => typeof value === "string")) throw new Error();
			return [key, list] as const;
		});
		return Object.fromEntries(all);
	} catch {
		return undefined;
	}
}

/** The values that a map has as its keys, whatever it says of them (moby, api/types/filters). */
function held(values: unknown): string[] {
	if (typeof values !== "object") throw new Error();
	return Object.keys(values ?? {});
}
