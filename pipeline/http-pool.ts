import { createRequire } from "node:module";
import type * as undici from "undici";

const require = createRequire(import.meta.url);

/**
 * undici's `Pool` by itself. All of undici, imported by its name, costs a process 40 MB at its peak and a
 * tenth of a second at its start.
 */
export const Pool: typeof undici.Pool = require("undici/lib/dispatcher/pool.js");

// it is undici's index that gives every dispatcher its `request`
Object.assign(
	require("undici/lib/dispatcher/dispatcher.js").prototype,
	require("undici/lib/api"),
);

/** Kept connections to one origin. */
export type Pool = undici.Pool;
