import type { Answer, Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import type { BringImage } from "./images.ts";
import { mergedList, type Row } from "./treatment.ts";

/** Ids whose hosts are remembered. */
const MAX_KNOWN = 20_000;
const ID = /^[0-9a-f]{64}$/;

/** `containers/…` and `exec/…`: a container's requests go to its host, and the list is of all. */
export function containers(engines: Engines, bringImage: BringImage): Row[] {
	const { cluster, local } = engines;
	/** Where containers and execs are, by full id: that never changes. */
	const hosts = new Map<string, string>();

	function remember(id: string, host: string): void {
		if (hosts.size >= MAX_KNOWN) hosts.clear();
		hosts.set(id, host);
	}

	async function create(body: string | null): Promise<EnginePool> {
		let create: { Image?: string; Labels?: Record<string, string> };
		try {
			create = JSON.parse(body ?? "");
		} catch {
			return local; // the engine says what is wrong with it
		}
		const host = create.Labels?.["arpanet.host"] ?? cluster.self;
		if (create.Image) await bringImage(create.Image, host);
		return engines.pool(host);
	}

	async function container(ref: string): Promise<EnginePool> {
		const known = hosts.get(ref);
		if (known) return engines.pool(known);
		const found = await cluster.find(ref);
		if (!found) return local; // and its engine says that there is none
		remember(found.container.Id, found.host);
		return engines.pool(found.host);
	}

	async function exec(id: string): Promise<EnginePool> {
		const known = hosts.get(id);
		if (known) return engines.pool(known);
		const host = await engines.holder(`/exec/${id}/json`);
		if (ID.test(id) && host) remember(id, host);
		return host ? engines.pool(host) : local;
	}

	return [
		[/^POST$/, /^\/containers\/create$/, ({ body }) => create(body)],
		[/^GET$/, /^\/containers\/json$/, mergedList(engines, mergeContainers)],
		[
			/^/,
			/^\/containers\/(?!prune$)([^/]+)(?:\/|$)/,
			({ ref }) => container(ref),
		],
		[/^/, /^\/exec\/([^/]+)\//, ({ ref }) => exec(ref)],
	];
}

interface Created {
	Created: number;
}

/** `GET /containers/json` of all hosts: newest first, `limit` over the whole. */
function mergeContainers(answers: Answer[], query: URLSearchParams): unknown {
	const rows = answers.flatMap(({ answer }) => answer as Created[]);
	rows.sort((a, b) => b.Created - a.Created);
	const limit = Number(query.get("limit"));
	return limit > 0 ? rows.slice(0, limit) : rows;
}
