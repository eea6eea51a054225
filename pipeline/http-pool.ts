import { createRequire } from "node:module";
import type * as undici from "undici";

/**
 * undici's `Pool` by itself. All of undici, imported by its name, costs a process 40 MB at its peak and a
 * tenth of a second at its start.
 */
export const Pool: typeof undici.Pool = createRequire(import.meta.url)(
	"undici/lib/dispatcher/pool.js",
);

/** Kept connections to one origin. */
export type Pool = undici.Pool;
