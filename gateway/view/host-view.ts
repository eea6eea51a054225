import {
	type ContainerInspect,
	type ContainerSummary,
	type EngineEvent,
	filtered,
} from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { inParallel } from "../../pipeline/parallel.ts";
import type { EnginePool } from "../upstream.ts";
import { Journal, type News } from "./journal.ts";
import { type Row, rowsOf } from "./rows.ts";
import { type State, statusAt, type Wording, wordingOf } from "./status.ts";

/** A container as the list shows it, and what filters ask of it. */
export interface Listed {
	id: string;
	/** Without their slashes. */
	names: string[];
	/** In nanoseconds, as text that sorts: `2026-11-23T19:29:28.123456789`. */
	created: string;
	running: boolean;
	/** `running`, `exited`, … */
	state: string;
	labels: Record<string, string>;
	/** Its text before and after what `Status` says. */
	head: Buffer;
	tail: Buffer;
	status: Wording;
}

/** Milliseconds after which the engine is asked for its own list once more: not everything that changes is an event. */
const TRUST_MS = 5_000;
/** It is asked for it while the last is still trusted, so that nobody waits for it. */
const RENEW_MS = 2_500;
/** Inspections at once. */
const AT_ONCE = 4;
/** A container that does not answer for so long is passed over: its lock may be held for minutes, by a start that waits for a file server. */
const INSPECT_MS = 2_000;
/** More containers than this are cheaper to read in one list. */
const FEW = 20;
/** How long a view rests that does not agree with its engine however often it reads: another clock, or other words. */
const REST_MS = 60_000;
const MAX_FAILURES = 10;
/** How often it is read whether one that is about to restart still is; an event tells of all else. */
const RESTARTING_MS = 500;
/** What happens in and with containers and leaves the list as it was. */
const HARMLESS =
	/^(exec_|attach|detach|top|resize|export|copy|commit|archive-path|extract-to-dir|update|prune)/;

/**
 * The containers of one engine as its list shows them, for as long as that is proven to be so.
 *
 * What makes it exact:
 * - Before each answer the engine is asked what has happened (`Journal`): every change that was answered before, through this gateway,
 *   another, or the engine itself, is known. So whoever writes through one gateway and reads through another finds what he wrote, as at
 *   one engine. There is no stream to fall behind or to break.
 * - What an event speaks of is in doubt until it has been read again; while anything is in doubt, `rows` gives nothing and the engine answers itself.
 *   It is read in the background, under the container's lock first (inspect) and from the list's own store then, because the engine
 *   tells of a death before its list shows it.
 * - What no event tells (a tag that BuildKit moves, networks of a container that does not run, a removal that fails) is found by
 *   a look at the whole list when the last is older than `TRUST_MS`, at once for what is written through this gateway (`doubt`).
 * - Nor does any event tell that a pending restart was called off: what is about to restart stays in doubt.
 * - `Status` goes on by itself. Its words are made from the times in inspect, and are compared with the engine's own at every reading: where they
 *   are not the same, the engine answers itself.
 */
export class HostView {
	readonly #engine: Engine;
	readonly #journal: Journal;
	#known = new Map<string, Listed>();
	#sorted: Listed[] | undefined;
	/** When containers were made that have not been read yet. */
	readonly #born = new Map<string, string>();
	/** Containers to read again. */
	#doubtful = new Set<string>();
	/** Those of them that are being read. */
	#reading = new Set<string>();
	/** Those that were about to restart when they were last read, and when that was. */
	readonly #restarting = new Map<string, number>();
	/** When the whole list was asked for; 0: it is to be asked for. */
	#looked = 0;
	#mistrusts = 0;
	#refreshing = false;
	#failures = 0;
	#restUntil = 0;
	#headers: string[] = [];
	/** Writes under way that no event may tell of. */
	#writes = 0;

	/** @param pool connections to the same engine */
	constructor(engine: Engine, pool: EnginePool) {
		this.#engine = engine;
		this.#journal = new Journal(pool, (news) => this.#apply(news));
	}

	/**
	 * All containers, newest first, as the engine has them at a moment after this call; undefined if only the engine can say.
	 *
	 * @param version `/v1.41`, or nothing
	 * @throws HttpError of an engine that does not answer, or does not take the version
	 */
	async rows(version: string): Promise<readonly Listed[] | undefined> {
		if (performance.now() < this.#restUntil) return undefined;
		// its events would be in other words, too
		if (this.#headers.length > 0 && !this.#speaks(version)) return undefined;
		const { answer, unbroken } = await this.#journal.read(version);
		if (this.#headers.length === 0) this.#headers = answer.headers;
		if (!this.#speaks(version)) return undefined;
		// the health checks of a hundred containers make an engine forget within seconds: all would be read for nobody, unless he asks again at once
		if (!unbroken && this.#known.size > FEW) return undefined;
		const rows = this.#certain ? this.#rows : undefined;
		if (!rows || this.#age > RENEW_MS) void this.#refresh();
		return rows;
	}

	get #rows(): readonly Listed[] {
		this.#sorted ??= [...this.#known.values()].sort((a, b) =>
			a.created < b.created ? 1 : -1,
		);
		return this.#sorted;
	}

	/** When a container was made, as far as is known without asking; of one that was not read yet, to some milliseconds. */
	created(id: string): string | undefined {
		return this.#known.get(id)?.created ?? this.#born.get(id);
	}

	/** The engine's own lines in an answer's head: `Api-Version` and so on, names and values in turn. */
	get headers(): readonly string[] {
		return this.#headers;
	}

	/** Something is written of which no event may tell. @returns is to be called when it is answered */
	doubt(): () => void {
		this.#writes++;
		return () => {
			this.#writes--;
			this.#mistrust();
		};
	}

	get #certain(): boolean {
		return (
			this.#writes === 0 &&
			this.#doubtful.size === 0 &&
			this.#reading.size === 0 &&
			this.#age < TRUST_MS
		);
	}

	/** Milliseconds since the whole list was asked for. */
	get #age(): number {
		return this.#looked === 0
			? Number.POSITIVE_INFINITY
			: performance.now() - this.#looked;
	}

	/** Rows are the same in every version of the API up to 1.45; from then on they are known in the engine's own. */
	#speaks(version: string): boolean {
		const own = this.#headers[this.#headers.indexOf("Api-Version") + 1] ?? "";
		if (version === "" || version === `/v${own}`) return true;
		return Number(own.split(".")[1]) <= 45;
	}

	#apply({ events, unbroken }: News): void {
		if (!unbroken) {
			this.#doubtAll();
		}
		for (const event of events) this.#tell(event);
	}

	#tell({ Type, Action, Actor, timeNano }: EngineEvent): void {
		switch (Type) {
			case "container":
				if (HARMLESS.test(Action)) return;
				this.#doubtful.add(Actor.ID);
				this.#restarting.delete(Actor.ID);
				if (Action === "create") {
					const time = new Date(timeNano / 1e6).toISOString();
					this.#born.set(Actor.ID, inNanoseconds(time));
				}
				// its links are names of other containers
				if (/^(create|rename|destroy)$/.test(Action)) this.#mistrust();
				return;
			case "network":
				if (Actor.Attributes.container)
					this.#doubtful.add(Actor.Attributes.container);
				return;
			case "image":
				this.#mistrust(); // a name may mean another image now
				return;
			case "volume":
			case "builder":
				return;
			default:
				this.#mistrust();
		}
	}

	async #refresh(): Promise<void> {
		if (this.#refreshing || this.#writes > 0) return;
		this.#refreshing = true;
		try {
			if (this.#age > RENEW_MS) await this.#look();
			for (let i = 0; this.#due().length > 0 && i < 2; i++) {
				await this.#readDoubtful();
				this.#reading = new Set();
			}
			this.#failures = this.#due().length > 0 ? this.#failures + 1 : 0;
			if (this.#failures > MAX_FAILURES) {
				this.#failures = 0;
				this.#restUntil = performance.now() + REST_MS;
			}
		} catch {
			this.#doubtAll(); // the engine does not answer: whoever asks will hear of it
		} finally {
			this.#reading = new Set();
			this.#refreshing = false;
		}
	}

	#doubtAll(): void {
		this.#mistrust();
		for (const id of this.#known.keys()) this.#doubtful.add(id);
	}

	/** The whole list is to be looked at again, also if a look is under way. */
	#mistrust(): void {
		this.#looked = 0;
		this.#mistrusts++;
	}

	/** Compares the engine's whole list with what is known: what differs is in doubt. */
	async #look(): Promise<void> {
		const looked = performance.now();
		const mistrusts = this.#mistrusts;
		const { rows, from, to } = await this.#list();
		const seen = new Set<string>();
		for (const row of rows) {
			const id = idIn(row);
			seen.add(id);
			const known = this.#known.get(id);
			if (!known || !same(known, row) || !agrees(known.status, row, from, to)) {
				this.#doubtful.add(id);
			}
		}
		for (const id of this.#known.keys()) {
			if (!seen.has(id)) this.#forget(id);
		}
		if (mistrusts === this.#mistrusts) this.#looked = looked;
	}

	/** What is to be read now of what is in doubt. */
	#due(): string[] {
		const now = performance.now();
		return [...this.#doubtful].filter((id) => {
			const read = this.#restarting.get(id);
			return read === undefined || now - read > RESTARTING_MS;
		});
	}

	async #readDoubtful(): Promise<void> {
		this.#reading = new Set(this.#due());
		for (const id of this.#reading) this.#doubtful.delete(id);
		const found = new Map<string, ContainerInspect>();
		await inParallel([...this.#reading], AT_ONCE, async (id) => {
			try {
				const container = await this.#engine.inspectContainer(id, INSPECT_MS);
				if (container) found.set(id, container);
				else this.#forget(id);
			} catch {
				this.#doubtful.add(id); // meanwhile the engine answers itself
			}
		});
		if (found.size === 0) return;
		const { rows, from, to } = await this.#list(
			found.size > FEW ? {} : { id: [...found.keys()] },
		);
		for (const row of rows) {
			const container = found.get(idIn(row));
			if (!container) continue;
			const { Created, State } = container;
			const listed = listedOf(row, summaryOf(row), {
				created: inNanoseconds(Created),
				running: State.Running,
				status: wordingOf(State as unknown as State),
			});
			this.#known.set(listed.id, listed);
			this.#born.delete(listed.id);
			// it may be called off
			const mayEnd = listed.state === "restarting";
			if (mayEnd) this.#restarting.set(listed.id, performance.now());
			else this.#restarting.delete(listed.id);
			if (mayEnd || !agrees(listed.status, row, from, to)) {
				this.#doubtful.add(listed.id);
			}
			found.delete(listed.id);
		}
		this.#sorted = undefined;
		// inspected, and gone or not yet in the list
		for (const id of found.keys()) this.#doubtful.add(id);
	}

	/** @returns the rows, and the times between which the engine made them */
	async #list(
		filters: Record<string, string[]> = {},
	): Promise<{ rows: Row[]; from: number; to: number }> {
		const from = Date.now();
		const { status, text } = await this.#engine.answer(
			filtered("/containers/json?all=1", filters),
		);
		if (status !== 200) throw new Error(text);
		return { rows: rowsOf(text), from, to: Date.now() };
	}

	#forget(id: string): void {
		this.#known.delete(id);
		this.#born.delete(id);
		this.#restarting.delete(id);
		this.#sorted = undefined;
	}
}

function idIn({ head }: Row): string {
	return /^\{"Id":"([0-9a-f]+)"/.exec(head)?.[1] ?? "";
}

function same({ head, tail }: Listed, row: Row): boolean {
	const known = head.toString();
	const rest = tail.toString();
	if (known === row.head && rest === row.tail) return true;
	return inOrder(known + rest) === inOrder(row.head + row.tail);
}

/** A row with its ports and mounts in an order: the engine writes them as Go's maps have them, each time in another. */
function inOrder(text: string): string {
	const row = JSON.parse(text) as Record<"Ports" | "Mounts", object[] | null>;
	for (const key of ["Ports", "Mounts"] as const) {
		row[key]?.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
	}
	return JSON.stringify(row);
}

function agrees(status: Wording, row: Row, from: number, to: number): boolean {
	return (
		row.status === statusAt(status, from) || row.status === statusAt(status, to)
	);
}

/** What a row says. */
export function summaryOf({ head, status, tail }: Row): ContainerSummary {
	return JSON.parse(head + status + tail);
}

/**
 * A container as it is listed.
 * @param summary what its row says
 * @param known what the row does not say
 */
export function listedOf(
	{ head, tail }: Row,
	{ Id, Names, State, Labels }: Omit<ContainerSummary, "Status">,
	{ created, running, status }: Pick<Listed, "created" | "running" | "status">,
): Listed {
	return {
		id: Id,
		names: Names.map((name) => name.slice(1)),
		created,
		running,
		state: State,
		labels: Labels ?? {},
		head: Buffer.from(head),
		tail: Buffer.from(tail),
		status,
	};
}

/** A time as the engine writes it, to sort by: Go leaves out the zeros at the end of a fraction. */
export function inNanoseconds(time: string): string {
	const [seconds = "", fraction = ""] = time.replace(/Z$/, "").split(".");
	return `${seconds}.${fraction.padEnd(9, "0")}`;
}
