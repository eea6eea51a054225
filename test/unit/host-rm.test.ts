import test, { type ExecutionContext } from "ava";
import { removeHost } from "../../cli/hosts.ts";
import { parseConfig } from "../../pipeline/config.ts";
import { type HostRecord, hostKeys } from "../../pipeline/state/hosts.ts";
import { Store } from "../../pipeline/state/store.ts";
import { type VolumeRecord, volumeKey } from "../../pipeline/state/volumes.ts";
import { startConsul } from "./consul.ts";

/** A host on record, and a configuration for who removes it. */
async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	t.teardown(() => consul.stop());
	const config = parseConfig("endpoints: {}\nadapters: {}\n", "ps.yml");
	config.arpanet.consul.address = consul.address;
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());
	const key = hostKeys("h2").record;
	const value = { name: "h2", address: "10.213.0.2", cpus: 1, memory: 1 };
	await store.commit([{ verb: "create", key, value }]);
	return { config, store, key, value };
}

test("a host is not removed with volumes that are nowhere else, unless it is said", async (t) => {
	const { config, store, key } = await stage(t);
	const note = (name: string, value: VolumeRecord) =>
		store.commit([{ verb: "create", key: volumeKey(name), value }]);
	await note("data", { host: "h2" });
	await note("empty", { host: "h2", unclaimed: true });
	await note("other", { host: "h1" });
	await t.throwsAsync(removeHost(config, "h2", false), {
		message: /^host h2 has volumes data on record; .* --force/,
	});
	const unwatch = store.watch<HostRecord>(key, async ([entry]) => {
		if (!entry?.value.removed) return;
		unwatch();
		await store.commit([{ verb: "delete", key }]); // as the leader does
	});
	t.is(
		await removeHost(config, "h2", true),
		"h2 is forgotten, and volumes data",
	);
});

test("a host that comes back while it is to be removed keeps what is left, and who removes it is told", async (t) => {
	const { config, store, key, value } = await stage(t);

	const back = new Promise<void>((done) => {
		const unwatch = store.watch<HostRecord>(key, async ([entry]) => {
			if (!entry?.value.removed) return;
			unwatch();
			await store.commit([{ verb: "set", key, value }]); // as its agent's first sign of life does
			done();
		});
	});
	await t.throwsAsync(removeHost(config, "h2", false), {
		message: /^host h2 is back and keeps what is left of it; stop arpanet /,
	});
	await back;
});
