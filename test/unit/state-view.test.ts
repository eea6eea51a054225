import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { type Entry, Store } from "../../pipeline/state/store.ts";
import { View } from "../../pipeline/state/view.ts";
import { eventually } from "../gateway/helpers.ts";
import { startConsul, type TestConsul } from "./consul.ts";

const PREFIX = "arpanet/volumes/";
const KEY = `${PREFIX}data`;

let consul: TestConsul;

test.before(async () => {
	consul = await startConsul();
});
test.after.always(() => consul?.stop());

/** Answers to lists are on their way until `arrived` is fulfilled. */
class DistantStore extends Store {
	arrived = Promise.resolve();

	override async list<T>(prefix: string): Promise<Entry<T>[]> {
		const entries = await super.list<T>(prefix);
		await this.arrived;
		return entries;
	}
}

function stage(t: ExecutionContext) {
	const store = new DistantStore({ address: consul.address });
	const view = new View<string, string[]>(store, PREFIX, (entries) =>
		entries.map(({ value }) => value),
	);
	t.teardown(() => {
		view.close();
		store.close();
	});
	const write = (value: string) =>
		store.commit([{ verb: "set", key: KEY, value }]);
	return { store, view, write };
}

function told(view: View<string, string[]>, value: string): Promise<void> {
	return eventually(() => view.known?.[0] === value);
}

test.serial("a view that nobody follows is read each time", async (t) => {
	const { view, write } = stage(t);
	await write("first");
	t.deepEqual(await view.get(), ["first"]);
	await write("second");
	t.deepEqual(await view.get(), ["second"]);
	t.is(view.known, undefined);
});

test.serial(
	"a read that was overtaken by what Consul told of is read again",
	async (t) => {
		const { store, view, write } = stage(t);
		await write("before");
		view.follow();
		await told(view, "before");

		let arrive = () => {};
		store.arrived = new Promise((resolve) => {
			arrive = resolve;
		});
		const reading = view.refresh();
		await setTimeout(200); // Consul has answered, and the list is on its way
		await write("after");
		await told(view, "after");
		arrive();
		t.deepEqual(await reading, ["after"]);
		t.deepEqual(view.known, ["after"]);
	},
);

test.serial(
	"a read is as new as what is asked for, also if a server that is behind tells twice meanwhile",
	async (t) => {
		const { store, view, write } = stage(t);
		let tell = (_: Entry<never>[]) => {};
		store.watch = (_, changed) => {
			tell = changed;
			return () => {};
		};
		view.follow();
		let arrive = () => {};
		store.arrived = new Promise((resolve) => {
			arrive = resolve;
		});
		await write("new");
		const reading = view.refresh();
		tell([]);
		tell([]);
		arrive();
		t.deepEqual(await reading, ["new"]);
	},
);
