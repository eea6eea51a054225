import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import type { Listed } from "../view/host-view.ts";
import { isAsked, type ListQuery, readQuery } from "../view/query.ts";
import { statusAt } from "../view/status.ts";
import type { Views } from "../view/views.ts";
import type { Asked, Merged, Treatment } from "./treatment.ts";

/**
 * `GET /containers/json`. With one host the view answers where it can, in the engine's own bytes, and
 * the engine everything else.
 */
export function containerList(engines: Engines, views: Views): Treatment {
	const { cluster, local } = engines;

	async function ofOne({ path, query }: Asked): Promise<EnginePool | Merged> {
		const asked = readQuery(query);
		if (!asked || asked.size || Object.keys(asked.others).length > 0)
			return local;
		const view = await views.of(cluster.self);
		// the engine itself says what is wrong
		const rows = await view.rows(versionIn(path)).catch(() => undefined);
		const chosen = rows && choose(rows, asked);
		if (!chosen) return local;
		return { status: 200, bytes: written(chosen), headers: view.headers };
	}

	return ofOne;
}

/** `/v1.41`, or nothing. */
function versionIn(path: string): string {
	return /^\/v[\d.]+(?=\/)/.exec(path)?.[0] ?? "";
}

/**
 * The containers that a list asks for.
 * @param rows newest first
 * @returns undefined if `since` or `before` name none
 */
export function choose(
	rows: readonly Listed[],
	query: ListQuery,
): Listed[] | undefined {
	const { limit, since, before } = query;
	let from = 0;
	let to = rows.length;
	for (const ref of before) {
		const at = indexOf(rows, ref);
		if (at < 0) return undefined;
		from = at + 1;
	}
	for (const ref of since) {
		const at = indexOf(rows, ref);
		if (at < 0) return undefined;
		to = at;
	}
	const chosen: Listed[] = [];
	for (let at = from; at < to; at++) {
		if (limit > 0 && chosen.length === limit) break;
		const row = rows[at] as Listed;
		if (isAsked(row, query)) chosen.push(row);
	}
	return chosen;
}

/** By id, name, or what only one id begins with; as the engine finds a container. */
function indexOf(rows: readonly Listed[], ref: string): number {
	const name = ref.replace(/^\//, "");
	const exact = rows.findIndex(
		({ id, names }) => id === ref || names.includes(name),
	);
	if (exact >= 0) return exact;
	const [first = -1, second] = rows.flatMap(({ id }, at) =>
		id.startsWith(ref) ? [at] : [],
	);
	return second === undefined ? first : -1;
}

const OPEN = Buffer.from("[");
const COMMA = Buffer.from(",");
const CLOSE = Buffer.from("]\n");

/** The rows as the engine writes them at this moment. */
function written(rows: Listed[]): Buffer {
	const now = Date.now();
	const pieces: Buffer[] = [];
	for (const { head, status, tail } of rows) {
		pieces.push(
			pieces.length === 0 ? OPEN : COMMA,
			head,
			Buffer.from(statusAt(status, now)),
			tail,
		);
	}
	if (pieces.length === 0) pieces.push(OPEN);
	return Buffer.concat([...pieces, CLOSE]);
}
