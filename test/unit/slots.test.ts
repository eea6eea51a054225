import test from "ava";
import { Slots, slotKey } from "../../pipeline/state/slots.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul, type TestConsul } from "./consul.ts";

let consul: TestConsul;

test.before(async () => {
	consul = await startConsul();
});
test.after.always(() => consul?.stop());

test("a slot of which a lost commit told is free as soon as it was given back", async (t) => {
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());
	const slots = new Slots(store);
	const key = slotKey("h1", 1);
	const value = { container: "abc_web_1", ports: ["8080/tcp"] };
	await store.commit([{ verb: "create", key, value }]);
	await slots.learn(key);
	t.is(slots.named("abc_web_1")?.key, key);

	await store.commit([{ verb: "delete", key }]);
	await slots.refresh();
	t.is(slots.named("abc_web_1"), undefined);
});

test("a slot that was taken is kept until its create had time to be on record", async (t) => {
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());
	const slots = new Slots(store);
	const slot = slots.take("h2", { container: "abc_web_2" }, false);
	await slots.refresh();
	t.is(slots.named("abc_web_2")?.key, slot.key);
});
