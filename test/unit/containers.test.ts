import { setTimeout } from "node:timers/promises";
import test from "ava";
import { Containers } from "../../pipeline/state/containers.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;
let store: Store;

test.before(async () => {
	consul = await startConsul();
	store = new Store({ address: consul.address });
});
test.after.always(async () => {
	store?.close();
	await consul?.stop();
});

/** Longer than a record may stay unwritten. */
const LONG_MS = 9_000;

test("the record of a create that waits for its image is written again, and missed if it is gone", async (t) => {
	const containers = new Containers(store);
	const facts = { host: "h1", network: "abc", address: "10.32.0.2" };
	const value = { facts, holds: [], attempts: 1 };
	const key = containers.key("abc_web_1");
	await store.commit([{ verb: "create", key, value }]);
	const before = await containers.get("abc_web_1");

	await containers.keepDuring("abc_web_1", facts, setTimeout(LONG_MS));
	const after = await containers.get("abc_web_1");
	t.like(after?.value, value);
	t.true((after?.index ?? 0) > (before?.index ?? 0));

	const working = containers.keepDuring(
		"abc_web_1",
		facts,
		setTimeout(LONG_MS),
	);
	await store.commit([{ verb: "delete", key }]);
	await t.throwsAsync(working, {
		message: "the create of abc_web_1 was given up meanwhile; try again",
	});
	t.is(await containers.get("abc_web_1"), undefined);
});

test("a create that fails gives back its own record, and not that of another create of the name", async (t) => {
	const allocator = new Allocator(consul.address);
	t.teardown(() => allocator.close());
	const { containers, services } = allocator;
	const labels = { "arpanet.deployment": "abc", "arpanet.service": "web" };
	await containers.create({
		name: "abc_web_7",
		body: { Image: "busybox", Labels: labels },
		headers: { "x-arpanet-request": "one" },
		onlyHost: undefined,
	});
	await containers.createFailed("abc_web_7", { "x-arpanet-request": "two" });
	t.truthy(await services.containers.get("abc_web_7"));
	await containers.createFailed("abc_web_7", { "x-arpanet-request": "one" });
	t.is(await services.containers.get("abc_web_7"), undefined);
});
