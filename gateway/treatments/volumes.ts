import { type Has, whoHas } from "../../pipeline/answers.ts";
import {
	filtered,
	isVolumeCreate,
	type VolumeCreate,
} from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { readBody } from "../../pipeline/spelling.ts";
import { type VolumeRecord, volumeKey } from "../../pipeline/state/volumes.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { addedUp, mergedList, type Route } from "./treatment.ts";

/** `volumes/…`: a volume is on one host, and the list is of all. */
export function volumes(engines: Engines): Route[] {
	/**
	 * The engine that has a volume: of several that have one of that name the one on record. Where none has it, this one's, which says so.
	 * @throws HttpError 502 if its host does not answer: it is there, and another of that name would hide it
	 */
	async function holderOf(name: string): Promise<EnginePool> {
		const answers = await engines.cluster.answers(pathOf(name));
		const holders = whoHas(answers);
		if (holders.length === 1) return engines.pool(holders[0]?.host ?? "");
		const record = await recordOf(name);
		const { host = "", unclaimed } = record?.value ?? {};
		const home = holders.find((each) => each.host === host) ?? holders[0];
		if (home) return engines.pool(home.host);
		const answered = answers.some(
			(each) => each.host === host && each.error === undefined,
		);
		if (!record || unclaimed || answered) return engines.local;
		throw new HttpError(
			502,
			`volume ${name} is on host ${host}, which does not answer; bring it back, or arpanet host rm ${host}`,
		);
	}

	/** Where a volume is on record; undefined without Consul: then what the engines say must do. */
	function recordOf(name: string) {
		return engines.store
			.get<VolumeRecord>(volumeKey(name))
			.catch(() => undefined);
	}

	/** One that is made anew is this host's, until its first container says where it goes. */
	async function create(body: string | null): Promise<EnginePool> {
		const asked = readBody(body, isVolumeCreate) as VolumeCreate | undefined;
		// else the engine says what is wrong, or makes a name up
		return asked?.Name ? holderOf(asked.Name) : engines.local;
	}

	/**
	 * Gone from everywhere, for one that was made and went elsewhere with its container may still be there as well; or from
	 * nowhere, if containers use it: then the engine where they are says so.
	 * @throws HttpError 502 if its host does not answer: it would still be there
	 */
	async function remove(ref: string, request: string): Promise<EnginePool> {
		const answers = await engines.cluster.answers(pathOf(ref));
		const [first, ...copies] = whoHas(answers);
		const late = answers.filter(({ error }) => error).map(({ host }) => host);
		const record = late.length > 0 ? await recordOf(ref) : undefined;
		const { host = "" } = record?.value ?? {};
		if (late.includes(host)) {
			throw new HttpError(
				502,
				`volume ${ref} is on host ${host}, which does not answer; try again, and look at arpanet hosts`,
			);
		}
		if (first && copies.length > 0) {
			const users = await engines.cluster.answers<unknown[]>(
				filtered("/containers/json?all=1", { volume: [ref] }),
			);
			const used = users.find(({ answer }) => answer?.length);
			if (used) return engines.pool(used.host);
		}
		await Promise.allSettled(
			copies.map(async ({ host }) =>
				(await engines.cluster.engine(host)).remove(request),
			),
		);
		return first ? engines.pool(first.host) : holderOf(ref);
	}

	return [
		[/^GET$/, /^\/volumes$/, mergedList(engines, mergeVolumes)],
		[/^POST$/, /^\/volumes\/prune$/, addedUp(engines)],
		[/^POST$/, /^\/volumes\/create$/, ({ body }) => create(body)],
		[
			/^DELETE$/,
			/^\/volumes\/([^/]+)$/,
			({ ref, path, query }) => remove(ref, path + query),
		],
		[/^(GET|PUT)$/, /^\/volumes\/([^/]+)$/, ({ ref }) => holderOf(ref)],
	];
}

function pathOf(name: string): string {
	return `/volumes/${encodeURIComponent(name)}`;
}

interface Volumes {
	Volumes: { Name: string }[] | null;
	Warnings: string[] | null;
}

/** `GET /volumes` of all hosts: each name once, this host's first. */
function mergeVolumes(answers: Has<Volumes>[]): unknown {
	const lists = answers.map(({ answer }) => answer);
	const rows = new Map<string, unknown>();
	for (const volume of lists.flatMap(({ Volumes }) => Volumes ?? [])) {
		if (!rows.has(volume.Name)) rows.set(volume.Name, volume);
	}
	return {
		Volumes: [...rows.values()],
		Warnings: lists.flatMap(({ Warnings }) => Warnings ?? []),
	};
}
