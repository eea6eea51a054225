import type { Endpoint } from "../pipeline/config.ts";
import { decode } from "../pipeline/verbs.ts";

/** The hooks of one request: names of adapters, in the order in which to call them. */
export interface HookNames {
	pre: string[];
	post: string[];
}

/**
 * @returns a matcher: method and path (without its query) of a request to the hooks
 * of every endpoint that it matches, in file order; null when none does
 */
export function endpointMatcher(
	endpoints: Endpoint[],
): (method: string, path: string) => HookNames | null {
	const table = endpoints.map(({ pattern, pre, post }) => {
		const [, method = "", path = ""] =
			/^\s*(\S+)\s+(.*?)\s*$/.exec(pattern) ?? [];
		return {
			pre,
			post,
			pattern: new RegExp(`^${glob(method)} ${glob(path)}$`, "s"),
		};
	});
	return (method, path) => {
		let found: HookNames | null = null;
		const asked = `${method} ${path}`;
		const decoded = path.includes("%") ? `${method} ${decode(path)}` : asked;
		for (const { pattern, pre, post } of table) {
			// the engine routes by the decoded path: %63reate must not slip past a hook
			if (!pattern.test(asked) && !pattern.test(decoded)) continue;
			found = found
				? { pre: [...found.pre, ...pre], post: [...found.post, ...post] }
				: { pre, post };
		}
		return found;
	};
}

/**
 * A shell glob as the source of a RegExp, in the dialect of Python's fnmatch, which
 * powerstrip uses: `*` `?` `[12]` `[!x]`; `*` crosses `/`; a `[` that is never closed is itself.
 */
export function glob(pattern: string): string {
	let source = "";
	for (let at = 0; at < pattern.length; at++) {
		const char = pattern[at] as string;
		if (char === "*") source += ".*";
		else if (char === "?") source += ".";
		else if (char === "[") {
			const negated = pattern[at + 1] === "!";
			const from = at + (negated ? 2 : 1);
			const end = pattern.indexOf("]", from + 1); // a ] that comes first is a member
			if (end < 0) source += "\\[";
			else {
				source += charClass(pattern.slice(from, end), negated);
				at = end;
			}
		} else source += literal(char);
	}
	return source;
}

function charClass(members: string, negated: boolean): string {
	const parts = members.replace(/(.)-(.)|[\s\S]/g, (part, low, high) => {
		if (low === undefined) return literal(part);
		return low <= high ? `${literal(low)}-${literal(high)}` : "";
	});
	if (parts === "") return negated ? "." : "(?!)"; // an empty range matches nothing
	return `[${negated ? "^" : ""}${parts}]`;
}

function literal(char: string): string {
	return char.replace(/[\\^$.*+?()[\]{}|/-]/, "\\$&");
}
