import { loadavg } from "node:os";
import { setTimeout } from "node:timers/promises";
import type { Services } from "../pipeline/plugin.ts";
import {
	type HostRecord,
	type HostState,
	hostKeys,
} from "../pipeline/state/hosts.ts";
import type { Entry } from "../pipeline/state/store.ts";

/** Seconds after which a host that says nothing is lost; Consul takes up to twice as long to see it. */
const TTL_S = 10;
const BEAT_MS = 3_000;

/**
 * Says that this host is there, as long as it is: its record for good, its state under a session
 * that ends when it falls silent.
 */
export async function announce(
	services: Services,
	signal: AbortSignal,
): Promise<void> {
	let session: string | undefined;
	let complained = false;
	while (!signal.aborted) {
		try {
			session = await beat(services, session);
			complained = false;
		} catch (error) {
			session = undefined;
			if (!complained)
				services.log.warn({ err: error }, "this host is not announced");
			complained = true;
		}
		await setTimeout(BEAT_MS, undefined, { signal }).catch(() => {});
	}
	if (session) {
		const id = session;
		await services.store
			.ask(() => services.store.consul.session.destroy(id))
			.catch(() => {});
	}
}

/** @returns the session that holds the host's state */
async function beat(
	{ store, host }: Services,
	before: string | undefined,
): Promise<string> {
	const { consul } = store;
	const keys = hostKeys(host.name);
	let session = before;
	if (session) {
		await store.ask(() => consul.session.renew(session as string));
	} else {
		await write(store, keys.record, host);
		const made = (await store.ask(() =>
			consul.session.create({
				name: `arpanet host ${host.name}`,
				ttl: `${TTL_S}s`,
				behavior: "delete",
				lockdelay: "0s",
				checks: [], // the session's own time is the check: Consul's agent may be another host's
			} as never),
		)) as { ID: string };
		session = made.ID;
	}
	const id = session;
	const load = (loadavg()[0] ?? 0) / host.cpus;
	const state: HostState = { load, address: host.address };
	const value = JSON.stringify(state);
	const hold = () =>
		store.ask(() => consul.kv.set({ key: keys.alive, value, acquire: id }));
	if (await hold()) return session;

	const other = await store.get<HostState>(keys.alive);
	if (!other || other.value.address === host.address) {
		// this very host's, before it was killed: its session would keep us waiting, and then leave a gap
		await store.commit([{ verb: "delete", key: keys.alive }]);
		if (await hold()) return session;
	}
	await store.ask(() => consul.session.destroy(id));
	throw new Error(
		`another host, at ${other?.value.address}, is announced as ${host.name}; give one another host.name`,
	);
}

/** Writes the record, keeping what an operator set. */
async function write(
	store: Services["store"],
	key: string,
	host: HostRecord,
): Promise<void> {
	const before: Entry<HostRecord> | undefined = await store.get(key);
	const value: HostRecord = {
		...host,
		...(before?.value.drained ? { drained: true } : {}),
	};
	// a drain that comes in between must not be lost: then the next beat writes
	await store.commit([
		before
			? { verb: "update", key, value, index: before.index }
			: { verb: "create", key, value },
	]);
}
