import test from "ava";
import { Orphans } from "../../agent/leader/orphans.ts";
import { readLabels } from "../../pipeline/facts.ts";
import { listRepairs, Repairs } from "../../pipeline/state/repairs.ts";
import { slotKeyOf } from "../../pipeline/state/slots.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;
let another: TestConsul;
let skew = 0;
const now = performance.now.bind(performance);

test.before(async () => {
	[consul, another] = await Promise.all([startConsul(), startConsul()]);
	performance.now = () => now() + skew; // what the leader waits for it need not wait for here
});
test.after.always(async () => {
	performance.now = now;
	await consul?.stop();
	await another?.stop();
});

test("a record without a slot is given back unless its container exists: its host's agent does not see it", async (t) => {
	const host = new Allocator(consul.address);
	t.teardown(() => host.close());
	const { chain, containers, docker, reconcile, services, store } = host;
	await host.announce(["h1"]);
	const names = ["abc_web_1", "abc_web_2", "abc_web_3"];
	const [lives, gone, slotted] = names as [string, string, string];
	// as without placement
	const key = services.containers.key("unplaced");
	const value = { facts: { host: "h1", colour: "red" }, holds: [] };
	await store.commit([{ verb: "create", key, value }]);
	for (const name of names) {
		const { body } = await host.create("abc", name);
		if (name === lives) docker.create(name, body);
		const key = slotKeyOf(readLabels(body.Labels ?? {})) ?? "";
		if (name !== slotted) await store.commit([{ verb: "delete", key }]);
	}
	const orphans = new Orphans(
		services,
		chain,
		containers,
		new Repairs(store, "h1"),
	);
	const look = async () => {
		await orphans.look();
		skew += 60_000;
		await orphans.look();
	};
	await look();
	const onRecord = async () =>
		(await services.containers.list()).map(({ key }) => key.split("/")[2]);
	t.deepEqual(await onRecord(), [lives, slotted]);
	const repairs = (await listRepairs(store)).map(({ value }) => value);
	t.deepEqual(
		repairs.map(({ what, container }) => `${what}: ${container}`).sort(),
		[gone, "unplaced"].map((name) => `container given back: ${name}`),
	);

	// the others are its host's to put right
	for (const _ of "ab") {
		await reconcile.sweep(await docker.engine.listContainers("arpanet.host"));
		skew += 60_000;
	}
	t.deepEqual(await onRecord(), [lives]);
	t.is((await store.keys("arpanet/slots/h1/")).length, 1);
	t.is((await store.keys("arpanet/leases/")).length, 2); // one is the host's bridge's
});

test("containers without slots that live take nothing of what is given back at each look, and are asked for together", async (t) => {
	const host = new Allocator(another.address);
	t.teardown(() => host.close());
	const { chain, containers, docker, services, store } = host;
	await host.announce(["h1"]);
	const facts = { host: "h1", colour: "red" };
	const names = Array.from({ length: 70 }, (_, i) => `lives_${i}`);
	for (const name of [...names, "zzz_gone"]) {
		const key = services.containers.key(name);
		const value = { facts, holds: [], attempts: 1 };
		await store.commit([{ verb: "create", key, value }]);
		if (name === "zzz_gone") continue;
		const Labels = { "arpanet.host": "h1", "arpanet.colour": "red" };
		docker.create(name, { Labels });
	}
	let asked = 0;
	const engine = await services.cluster.engine("h1");
	for (const method of ["containerNamed", "listContainers"] as const) {
		const own = engine[method].bind(engine) as (by: never) => never;
		engine[method] = (by: string) => {
			asked++;
			return own(by as never);
		};
	}
	const repairs = new Repairs(store, "h1");
	const orphans = new Orphans(services, chain, containers, repairs);
	await orphans.look();
	skew += 60_000;
	await orphans.look();
	t.is(await services.containers.get("zzz_gone"), undefined);
	t.is((await store.keys(services.containers.key("lives_"))).length, 70);
	t.true(asked < 5, `${asked} questions`);
});
