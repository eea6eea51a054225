import type { Config } from "../pipeline/config.ts";
import { HttpError } from "../pipeline/errors.ts";
import { Containers } from "../pipeline/state/containers.ts";
import {
	type HostRecord,
	Hosts,
	hostKeys,
	type KnownHost,
} from "../pipeline/state/hosts.ts";
import { Store } from "../pipeline/state/store.ts";
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

/**
 * Forgets a host that is gone for good.
 * @throws HttpError 409 while it lives or has containers on record, 404 if it is not known
 */
export async function removeHost(
	config: Config,
	name: string,
): Promise<string> {
	return withStore(config, async (store, hosts) => {
		const entry = await mustExist(store, name);
		const living = (await hosts.list()).some(
			(host) => host.name === name && host.state,
		);
		if (living) {
			throw new HttpError(409, `host ${name} lives; stop arpanet there first`);
		}
		const records = await new Containers(store).list();
		const left = records.filter(({ value }) => value.facts.host === name);
		if (left.length > 0) {
			throw new HttpError(
				409,
				`host ${name} has ${left.length} containers on record; start it and remove them first`,
			);
		}
		await store.commit([
			{ verb: "delete", key: entry.key, index: entry.index },
		]);
		return `${name} is forgotten`;
	});
}

function percent(share: number | undefined): string {
	return share === undefined ? "-" : `${Math.round(share * 100)}%`;
}

function stateOf({ state, drained }: KnownHost): string {
	if (!state) return "lost";
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
		return await work(store, new Hosts(store, hostOf(config)));
	} finally {
		store.close();
	}
}
