import { isDeepStrictEqual } from "node:util";
import { stringify } from "yaml";
import { isObject } from "../pipeline/json.ts";

/** A line of a difference: kept, gone or new. */
export interface Line {
	mark: " " | "-" | "+";
	text: string;
}

type Fields = Record<string, unknown>;

/**
 * The difference of two JSON values as lines of YAML, which says more with fewer marks. What is in
 * both stands there once; keys are compared by name, lists by their common beginning and end.
 */
export function diff(before: Fields, after: Fields): Line[] {
	const keys = [
		...Object.keys(before),
		...Object.keys(after).filter((key) => !Object.hasOwn(before, key)),
	];
	return keys.flatMap((key) => {
		const had = Object.hasOwn(before, key);
		const has = Object.hasOwn(after, key);
		const [old, fresh] = [before[key], after[key]];
		if (had && has && !isDeepStrictEqual(old, fresh)) {
			const inner = both(old, fresh);
			if (inner) return [...lines(" ", { [key]: null }, true), ...inner];
		}
		if (had && has && isDeepStrictEqual(old, fresh)) {
			return lines(" ", { [key]: fresh });
		}
		return [
			...(had ? lines("-", { [key]: old }) : []),
			...(has ? lines("+", { [key]: fresh }) : []),
		];
	});
}

/** The difference within two values of the same kind, indented. */
function both(old: unknown, fresh: unknown): Line[] | undefined {
	const inner =
		isObject(old) && isObject(fresh)
			? diff(old, fresh)
			: Array.isArray(old) && Array.isArray(fresh)
				? diffLists(old, fresh)
				: undefined;
	return inner?.map(({ mark, text }) => ({ mark, text: `  ${text}` }));
}

function diffLists(old: unknown[], fresh: unknown[]): Line[] {
	const shorter = Math.min(old.length, fresh.length);
	let start = 0;
	while (start < shorter && isDeepStrictEqual(old[start], fresh[start])) {
		start++;
	}
	let end = 0;
	while (
		end < shorter - start &&
		isDeepStrictEqual(old.at(-1 - end), fresh.at(-1 - end))
	) {
		end++;
	}
	return [
		...lines(" ", old.slice(0, start)),
		...lines("-", old.slice(start, old.length - end)),
		...lines("+", fresh.slice(start, fresh.length - end)),
		...lines(" ", old.slice(old.length - end)),
	];
}

/** @param bare only the key: what is under it follows */
function lines(mark: Line["mark"], value: object, bare = false): Line[] {
	if (Array.isArray(value) && value.length === 0) return [];
	const text = stringify(value, { lineWidth: 0 }).trimEnd();
	return (bare ? text.replace(/ null$/, "") : text)
		.split("\n")
		.map((each) => ({ mark, text: each }));
}
