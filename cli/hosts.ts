import { setTimeout } from "node:timers/promises";
import type { Config } from "../pipeline/config.ts";
import { HttpError } from "../pipeline/errors.ts";
import { Containers } from "../pipeline/state/containers.ts";
import { formatRefusal, readFormat } from "../pipeline/state/format.ts";
import {
	type HostRecord,
	Hosts,
	hostKeys,
	type KnownHost,
} from "../pipeline/state/hosts.ts";
import { Store } from "../pipeline/state/store.ts";
import { VOLUMES, type VolumeRecord } from "../pipeline/state/volumes.ts";
import { hostOf } from "./boot.ts";
import { table } from "./table.ts";

/**
 * The hosts of the cluster with their state, as a table.
 * @throws HttpError 503 when Consul does not answer
 */
export async function listHosts(config: Config): Promise<string> {
	return withStore(config, async (store, hosts) => {
		const records = await new Containers(store).list();
		const known = await hosts.list();
		if (known.length === 0) return "No hosts. Run arpanet up on each.";
		const head = [
			"HOST",
			"ADDRESS",
			"STATE",
			"CONTAINERS",
			"LOAD",
			"MEMORY",
			"NETWORK",
			"CPUS",
			"ENGINE",
			"LABELS",
		];
		const rows = known.map((host) => {
			const { name, address, state, cpus, engine, labels } = host;
			const here = records.filter(({ value }) => value.facts.host === name);
			return [
				...[name, address, stateOf(host), String(here.length)],
				...[state?.load, state?.memory, state?.network].map(percent),
				...[String(cpus), engine ?? "(its own gateway only)"],
				Object.entries(labels ?? {})
					.filter(([label]) => !OF_ENGINES.has(label))
					.map(([label, value]) => `${label}=${value}`)
					.join(" "),
			];
		});
		return table([head, ...rows]).join("\n");
	});
}

/**
 * Keeps new containers off a host, or lets them on again; what runs there goes on running.
 * @throws HttpError 404 for a host that is not known
 */
export async function drainHost(
	config: Config,
	name: string,
	drained: boolean,
): Promise<string> {
	return withStore(config, async (store) => {
		const entry = await mustExist(store, name);
		const { drained: _, ...record } = entry.value;
		const value: HostRecord = drained ? { ...record, drained } : record;
		await store.commit([
			{ verb: "update", key: entry.key, value, index: entry.index },
		]);
		return drained
			? `${name} gets no new containers; what runs there goes on running`
			: `${name} gets new containers again`;
	});
}

/** The leader looks every second, and a new one is elected in half a minute at most. */
const REMOVAL_MS = 60_000;

/**
 * Forgets a host that is gone for good: the agent that leads gives back what is left of it.
 * @param force although containers or volumes of it are on record
 * @throws HttpError 409 while it lives, when it comes back or, without `force`, while it has containers or volumes on record; 404 if it is not known; 503 if nobody leads
 */
export async function removeHost(
	config: Config,
	name: string,
	force: boolean,
): Promise<string> {
	return withStore(config, async (store) => {
		const { key, value, index } = await mustExist(store, name);
		const { beat } = hostKeys(name);
		if (await store.get(beat)) {
			throw new HttpError(409, `host ${name} lives; stop arpanet there first`);
		}
		const left = await leftOn(store, name);
		if (left && !force) {
			throw new HttpError(
				409,
				`host ${name} has ${left} on record; start it and remove them, or give all back with --force if it never comes again`,
			);
		}
		await store.commit([
			{ verb: "absent", key: beat },
			{ verb: "update", key, value: { ...value, removed: true }, index },
		]);
		await forgotten(store, name);
		return `${name} is forgotten${left ? `, and ${left}` : ""}`;
	});
}

/** What is on a host alone, for people; a name of a volume that is given back is that of a new, empty one from then on. */
async function leftOn(store: Store, host: string): Promise<string> {
	const containers = (await new Containers(store).list()).filter(
		({ value }) => value.facts.host === host,
	);
	const volumes = (await store.list<VolumeRecord>(VOLUMES))
		.filter(({ value }) => value.host === host && !value.unclaimed)
		.map(({ key }) => key.slice(VOLUMES.length));
	const left = [
		...(containers.length > 0 ? [`${containers.length} containers`] : []),
		...(volumes.length > 0 ? [`volumes ${volumes.join(", ")}`] : []),
	];
	return left.join(" and ");
}

/**
 * Waits until a host that is to be removed is forgotten.
 * @throws HttpError 409 when it comes back, which takes its record over; 503 if nobody leads
 */
async function forgotten(store: Store, name: string): Promise<void> {
	const end = performance.now() + REMOVAL_MS;
	for (;;) {
		const entry = await store.get<HostRecord>(hostKeys(name).record);
		if (!entry) return;
		if (!entry.value.removed) {
			throw new HttpError(
				409,
				`host ${name} is back and keeps what is left of it; stop arpanet there first, and remove it again`,
			);
		}
		if (performance.now() > end) {
			throw new HttpError(
				503,
				`host ${name} is to be removed, but no agent that leads has done so yet; look at arpanet leader`,
			);
		}
		await setTimeout(200);
	}
}

/** Labels that every host has, too long for a table. */
const OF_ENGINES = new Set([
	"storagedriver",
	"kernelversion",
	"operatingsystem",
	"architecture",
]);

function percent(share: number | undefined): string {
	return share === undefined ? "-" : `${Math.round(share * 100)}%`;
}

function stateOf({ state, drained, removed }: KnownHost): string {
	if (removed) return "removed";
	if (!state) return "lost";
	if (state.stopping) return "stopping";
	if (state.engineless) return "no engine";
	return drained ? "drained" : "ready";
}

async function mustExist(store: Store, name: string) {
	const entry = await store.get<HostRecord>(hostKeys(name).record);
	if (entry) return entry;
	throw new HttpError(
		404,
		`there is no host ${name}; arpanet hosts lists them`,
	);
}

async function withStore(
	config: Config,
	work: (store: Store, hosts: Hosts) => Promise<string>,
): Promise<string> {
	const store = new Store(config.arpanet.consul);
	try {
		store.refusal = formatRefusal((await readFormat(store))?.value);
		return await work(store, new Hosts(store, hostOf(config)));
	} finally {
		store.close();
	}
}
