import { createRequire } from "node:module";

type Library = typeof import("re2js");

const require = createRequire(import.meta.url);
let library: Library | undefined;

/** Loaded when it is needed first: it takes some megabytes, and most clients need none. */
function re2(): Library["RE2JS"] {
	library ??= require("re2js") as Library;
	return library.RE2JS;
}

/**
 * A regular expression of Go's, as Docker and Swarm have them: it takes time by the letters of the text alone, whatever a user writes.
 * @throws Error with what is wrong with it
 */
export function compile(source: string): { test(text: string): boolean } {
	return re2().compile(source);
}

/** The source of a regular expression that means a text as it stands. */
export function quote(text: string): string {
	return re2().quote(text);
}
