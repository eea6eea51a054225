import type { ContainerSummary } from "../../pipeline/docker.ts";
import { messageIn } from "../../pipeline/engine.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { inParallel } from "../../pipeline/parallel.ts";
import type { Containers } from "../../pipeline/state/containers.ts";
import type { KnownHost } from "../../pipeline/state/hosts.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import {
	inNanoseconds,
	type Listed,
	listedOf,
	summaryOf,
} from "../view/host-view.ts";
import { lostRows, withoutService } from "../view/lost.ts";
import { isAsked, type ListQuery, readQuery } from "../view/query.ts";
import { rowsOf } from "../view/rows.ts";
import { statusAt, timeless } from "../view/status.ts";
import type { Views } from "../view/views.ts";
import { ofHost } from "./ports.ts";
import { isMeant } from "./remembered.ts";
import {
	isNotSpoken,
	type OwnAnswer,
	type TreatedRequest,
	type Treatment,
} from "./treatment.ts";

/** Containers that an engine is asked for the time of their creation at most, where it has not been heard; of the rest the second must do. */
const MOST = 50;
/** And so many at once. */
const AT_ONCE = 8;
/** One whose lock is held, by a start that waits for a file server, does not say, and is not waited for. */
const CREATED_MS = 500;
/** How old records may be by which containers of lost hosts are listed. */
const MOMENT_MS = 1_000;
/** What a host may hang on. */
const TOPIC = "/containers";

/**
 * `GET /containers/json`. With one host the view answers where it can, in the engine's own bytes, and
 * the engine everything else. With several, each host's containers come from its view or its engine, those
 * of a lost one from memory, and what is asked for is chosen from all of them.
 */
export function containerList(engines: Engines, views: Views): Treatment {
	const { cluster, local, locator } = engines;

	/** Each host's containers as this gateway last saw them all. */
	const memory = new Map<string, readonly Listed[]>();

	let recorded: ReturnType<Containers["list"]> | undefined;
	/** All records, once for all lost hosts and for who lists again at once, as Compose does: there may be ten thousand. */
	const records: Pick<Containers, "list" | "name"> = {
		name: (key) => engines.records.name(key),
		list: (stale) => {
			if (!recorded) {
				recorded = engines.records.list(stale);
				const forget = () => {
					recorded = undefined;
				};
				setTimeout(forget, MOMENT_MS).unref();
			}
			return recorded;
		},
	};

	async function ofOne({
		path,
		query,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const asked = readQuery(query);
		if (!asked || isForEngine(asked)) return local;
		const view = await views.of(cluster.self);
		// the engine itself says what is wrong
		const rows = await view.rows(versionIn(path)).catch(() => undefined);
		const span = rows && (await spanOf(rows, asked));
		if (!span) return local;
		const bytes = written(choose(rows, asked, span));
		return { status: 200, bytes, headers: view.headers };
	}

	async function ofMany({
		path,
		query,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const asked = readQuery(query);
		if (!asked) return local; // says what is wrong with it
		const hosts = await cluster.all();
		const parts = await Promise.all(
			hosts.map((host) => ofHostOrMemory(host, asked, versionIn(path))),
		);
		const rows = parts.flat().sort(newestFirst);
		const span = await spanOf(rows, asked, createdAt);
		if (!span) return local; // says that there is no such container
		const { headers } = await views.of(cluster.self);
		const bytes = written(choose(rows, asked, span));
		return { status: 200, bytes, headers };
	}

	/** All containers of a host, or those that pass the filters which only its engine can apply. */
	async function ofHostOrMemory(
		host: KnownHost,
		asked: ListQuery,
		version: string,
	): Promise<Listed[]> {
		const { name, address, state, engine } = host;
		if (name !== cluster.self && !engine) return []; // lets nobody in
		const remembered = async () => {
			const rows = await lostRows(name, memory.get(name) ?? [], records);
			// whoever reads an id here may use it
			for (const { id } of rows) locator.remember(id, name);
			return rows
				.filter((row) => isMeant(row, asked.others))
				.map((row) => ofHost(row, address));
		};
		if (!state) return remembered();
		try {
			const view = await views.of(name);
			const own = name === cluster.self; // it says itself what is wrong
			// also where the engine is to choose: the view hears when containers were made
			const known = await cluster
				.ask(name, () => view.rows(version), { topic: TOPIC })
				.catch((error) => (own ? undefined : Promise.reject(error)));
			const rows =
				(isForEngine(asked) ? undefined : known) ??
				(await cluster.ask(
					name,
					() => fromEngine(name, asked, version),
					asked.size ? {} : { topic: TOPIC }, // sizes take their time
				));
			if (!isForEngine(asked)) memory.set(name, rows);
			return rows.map((row) => ofHost(withoutService(row), address));
		} catch (error) {
			if (name === cluster.self) throw error; // the others would say the same
			if (isNotSpoken(error)) throw error;
			return remembered();
		}
	}

	async function fromEngine(
		host: string,
		{ size, others }: ListQuery,
		version: string,
	): Promise<Listed[]> {
		const view = await views.of(host);
		const engine = await cluster.engine(host);
		const query = new URLSearchParams({ all: "1" });
		if (size) query.set("size", "1");
		if (Object.keys(others).length > 0) {
			query.set("filters", JSON.stringify(others));
		}
		const answer = await engine.answer(`${version}/containers/json?${query}`);
		if (answer.status !== 200) {
			throw new HttpError(answer.status, messageIn(answer));
		}
		const rows = rowsOf(answer.text).map((parts) => ({
			parts,
			row: summaryOf(parts) as EngineRow,
		}));
		const made = new Map<string, string>();
		const unheard = rows.filter(({ row }) => !view.created(row.Id));
		const end = performance.now() + CREATED_MS;
		await inParallel(unheard.slice(0, MOST), AT_ONCE, async ({ row }) => {
			const left = end - performance.now();
			// where it does not say, the second must do
			const container =
				left > 0
					? await engine.inspectContainer(row.Id, left).catch(() => undefined)
					: undefined;
			const { Created } = container ?? {};
			if (Created) made.set(row.Id, inNanoseconds(Created));
		});
		return rows.map(({ row, parts }) => {
			const second = new Date(row.Created * 1000).toISOString().slice(0, 19);
			return listedOf(parts, row, {
				created: view.created(row.Id) ?? made.get(row.Id) ?? `${second}.0`,
				running: /^(running|paused|restarting)$/.test(row.State),
				status: timeless(parts.status),
			});
		});
	}

	async function createdAt(ref: string): Promise<string | undefined> {
		const found = await locator.find(ref);
		return found && inNanoseconds(found.container.Created);
	}

	return (request) => (engines.localOnly ? ofOne(request) : ofMany(request));
}

interface EngineRow extends ContainerSummary {
	/** Seconds since 1970. */
	Created: number;
}

function isForEngine({ size, others }: ListQuery): boolean {
	return size || Object.keys(others).length > 0;
}

/** `/v1.41`, or nothing. */
function versionIn(path: string): string {
	return /^\/v[\d.]+(?=\/)/.exec(path)?.[0] ?? "";
}

/** Times of creation between which containers are asked for. */
interface Span {
	after: string;
	before: string;
}

/**
 * What `since` and `before` mean.
 * @param otherwise asks for the time of a container that is not among the rows
 * @returns undefined if one of them names no container
 */
async function spanOf(
	rows: readonly Listed[],
	{ since, before }: ListQuery,
	otherwise: (ref: string) => Promise<string | undefined> = async () =>
		undefined,
): Promise<Span | undefined> {
	const span: Span = { after: "", before: "~" };
	for (const [refs, edge] of [
		[since, "after"],
		[before, "before"],
	] as const) {
		for (const ref of refs) {
			const time = find(rows, ref)?.created ?? (await otherwise(ref));
			if (time === undefined) return undefined;
			span[edge] = time;
		}
	}
	return span;
}

/** By id, name, or what only one id begins with; as the engine finds a container. */
function find(rows: readonly Listed[], ref: string): Listed | undefined {
	const name = ref.replace(/^\//, "");
	const exact = rows.find(
		({ id, names }) => id === ref || names.includes(name),
	);
	if (exact) return exact;
	const [first, second] = rows.filter(({ id }) => id.startsWith(ref));
	return second ? undefined : first;
}

/** @param rows newest first */
function choose(
	rows: readonly Listed[],
	query: ListQuery,
	{ after, before }: Span,
): Listed[] {
	const chosen: Listed[] = [];
	for (const row of rows) {
		if (query.limit > 0 && chosen.length === query.limit) break;
		if (row.created <= after || row.created >= before) continue;
		if (isAsked(row, query)) chosen.push(row);
	}
	return chosen;
}

function newestFirst(a: Listed, b: Listed): number {
	if (a.created === b.created) return 0; // sizes come with seconds: then it is the engine's order
	return a.created < b.created ? 1 : -1;
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
