/**
 * What a Docker request means to a plugin: one table of method and path, with or without
 * a `/v1.41` prefix. What is not in the table is no plugin's business.
 */

export type Verb =
	| "create"
	| "start"
	| "stop"
	| "kill"
	| "restart"
	| "pause"
	| "unpause"
	| "remove"
	| "rename"
	| "prune"
	| "networkCreate"
	| "networkRemove"
	| "networkPrune"
	| "connect"
	| "disconnect";

const TABLE: readonly [verb: Verb, method: string, path: RegExp][] = [
	["create", "POST", /^\/containers\/create$/],
	["prune", "POST", /^\/containers\/prune$/],
	["start", "POST", /^\/containers\/([^/]+)\/start$/],
	["stop", "POST", /^\/containers\/([^/]+)\/stop$/],
	["kill", "POST", /^\/containers\/([^/]+)\/kill$/],
	["restart", "POST", /^\/containers\/([^/]+)\/restart$/],
	["pause", "POST", /^\/containers\/([^/]+)\/pause$/],
	["unpause", "POST", /^\/containers\/([^/]+)\/unpause$/],
	["rename", "POST", /^\/containers\/([^/]+)\/rename$/],
	["remove", "DELETE", /^\/containers\/([^/]+)$/],
	["networkCreate", "POST", /^\/networks\/create$/],
	["networkPrune", "POST", /^\/networks\/prune$/],
	["connect", "POST", /^\/networks\/([^/]+)\/connect$/],
	["disconnect", "POST", /^\/networks\/([^/]+)\/disconnect$/],
	["networkRemove", "DELETE", /^\/networks\/([^/]+)$/],
];

export interface Command {
	verb: Verb;
	/** Id, prefix or name in the path, decoded; empty where the path has none. */
	ref: string;
	query: URLSearchParams;
}

/**
 * The verb of a request, or undefined when no plugin has business with it.
 * @param method `POST`
 * @param request path and query: `/v1.41/containers/abc_web_1/stop?t=3`
 */
export function commandOf(
	method: string,
	request: string,
): Command | undefined {
	const mark = request.indexOf("?");
	const query = mark === -1 ? "" : request.slice(mark + 1);
	const path = (mark === -1 ? request : request.slice(0, mark)).replace(
		/^\/v[\d.]+(?=\/)/,
		"",
	);
	for (const [verb, wanted, pattern] of TABLE) {
		if (wanted !== method) continue;
		const match = pattern.exec(path);
		if (!match) continue;
		return {
			verb,
			ref: decode(match[1] ?? ""),
			query: new URLSearchParams(query),
		};
	}
	return undefined;
}

/** A ref with a broken escape is left as it is: the engine says what is wrong with it. */
function decode(ref: string): string {
	try {
		return decodeURIComponent(ref);
	} catch {
		return ref;
	}
}
