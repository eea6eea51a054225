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
	| "networkCreate"
	| "networkRemove"
	| "connect"
	| "disconnect"
	| "volumeCreate"
	| "volumeRemove";

const TABLE: readonly [verb: Verb, method: string, path: RegExp][] = [
	["create", "POST", /^\/containers\/create$/],
	["start", "POST", /^\/containers\/([^/]+)\/start$/],
	["stop", "POST", /^\/containers\/([^/]+)\/stop$/],
	["kill", "POST", /^\/containers\/([^/]+)\/kill$/],
	["restart", "POST", /^\/containers\/([^/]+)\/restart$/],
	["pause", "POST", /^\/containers\/([^/]+)\/pause$/],
	["unpause", "POST", /^\/containers\/([^/]+)\/unpause$/],
	["rename", "POST", /^\/containers\/([^/]+)\/rename$/],
	["remove", "DELETE", /^\/containers\/([^/]+)$/],
	["networkCreate", "POST", /^\/networks\/create$/],
	["connect", "POST", /^\/networks\/([^/]+)\/connect$/],
	["disconnect", "POST", /^\/networks\/([^/]+)\/disconnect$/],
	["networkRemove", "DELETE", /^\/networks\/([^/]+)$/],
	["volumeCreate", "POST", /^\/volumes\/create$/],
	["volumeRemove", "DELETE", /^\/volumes\/([^/]+)$/],
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
	const query = mark === -1 ? "" : request.slice(mark);
	const path = withoutVersion(mark === -1 ? request : request.slice(0, mark));
	// the engine routes by the decoded path: %63reate is a create
	const decoded = withoutVersion(decode(path));
	for (const [verb, wanted, pattern] of TABLE) {
		if (wanted !== method) continue;
		const match = pattern.exec(path) ?? pattern.exec(decoded);
		if (!match) continue;
		return {
			verb,
			ref: decode(match[1] ?? ""),
			query: new URLSearchParams(query),
		};
	}
	return undefined;
}

/** A path without the version of the API before it. */
export function withoutVersion(path: string): string {
	return path.replace(/^\/v[\d.]+(?=\/)/, "");
}

/** A request as it may be logged: a query can hold secrets, such as a build's arguments. @param request path and query */
export function asLogged(request: string): string {
	const [path = "", query] = request.split("?", 2);
	const name = new URLSearchParams(query).get("name");
	return name === null ? path : `${path}?name=${encodeURIComponent(name)}`;
}

/** A path or ref without its escapes; with a broken one it is left as it is: the engine says what is wrong with it. */
export function decode(text: string): string {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}
