import test from "ava";
import { FORMAT, FORMAT_KEY, Format } from "../../pipeline/state/format.ts";
import { Store } from "../../pipeline/state/store.ts";
import { eventually, until } from "../e2e/stage.ts";
import { startConsul, type TestConsul } from "./consul.ts";

let consul: TestConsul;
let outside: Store;

test.before(async () => {
	consul = await startConsul();
	outside = new Store({ address: consul.address });
});
test.after.always(async () => {
	outside?.close();
	await consul?.stop();
});

/** What a process has that keeps to its format. */
function processWith(): { store: Store; format: Format; close(): void } {
	const store = new Store({ address: consul.address });
	const format = new Format(store);
	return {
		store,
		format,
		close: () => {
			format.close();
			store.close();
		},
	};
}

async function written(): Promise<number | undefined> {
	return (await outside.get<number>(FORMAT_KEY))?.value;
}

test.serial(
	"the first writes the format down, again if Consul loses everything",
	async (t) => {
		const first = processWith();
		t.teardown(() => first.close());
		await first.format.begin();
		t.is(await written(), FORMAT);
		await consul.stop();
		await consul.start();
		const again = await eventually(
			() => written().catch(() => undefined),
			(found) => found === FORMAT,
			30,
		);
		t.is(again, FORMAT);
	},
);

test.serial(
	"who finds a newer format while it runs writes nothing more, and says what to do; until it is gone",
	async (t) => {
		const running = processWith();
		t.teardown(() => running.close());
		await running.format.begin();
		const write = (key: string) =>
			running.store.commit([{ verb: "set", key, value: 1 }]);
		await write("f/before");
		await outside.commit([{ verb: "set", key: FORMAT_KEY, value: FORMAT + 1 }]);
		await until(
			async () => running.store.refusal,
			(refusal) => refusal !== undefined,
		);
		const error = await t.throwsAsync(write("f/after"), { name: "HttpError" });
		t.regex(error?.message ?? "", /format 2, .* install that version/);
		t.deepEqual(await outside.keys("f/"), ["f/before"]);

		const late = processWith();
		t.teardown(() => late.close());
		await t.throwsAsync(late.format.begin(), { message: /newer one runs/ });
		await outside.commit([{ verb: "set", key: FORMAT_KEY, value: 0 }]);
		const later = processWith();
		t.teardown(() => later.close());
		await t.throwsAsync(later.format.begin(), { message: /go back to/ });

		await outside.commit([{ verb: "set", key: FORMAT_KEY, value: FORMAT }]);
		await until(
			async () => running.store.refusal,
			(refusal) => refusal === undefined,
		);
		await write("f/after");
		t.deepEqual(await outside.keys("f/"), ["f/after", "f/before"]);
	},
);

test.serial(
	"who begins at the same moment as a newer one hears of it, and does not forget it",
	async (t) => {
		await outside.commit([{ verb: "delete", key: FORMAT_KEY }]);
		const late = processWith();
		t.teardown(() => late.close());
		const { store } = late;
		let told = () => {};
		const heard = new Promise<void>((resolve) => {
			told = resolve;
		});
		const watch = store.watch.bind(store);
		store.watch = ((key: string, changed: (entries: unknown[]) => void) =>
			watch(key, (entries) => {
				changed(entries);
				if (entries.length > 0) told();
			})) as typeof store.watch;
		store.get = async () => {
			const newer = {
				verb: "set",
				key: FORMAT_KEY,
				value: FORMAT + 1,
			} as const;
			await outside.commit([newer]);
			await heard;
			return undefined; // as it was when it was asked
		};
		await late.format.begin();
		t.regex(store.refusal ?? "", /newer one runs/);
	},
);

test.serial(
	"what is no format at all is refused with its remedy: it may be that of an arpanet to come",
	async (t) => {
		await outside.ask(() => outside.consul.kv.set(FORMAT_KEY, "two"));
		const late = processWith();
		t.teardown(() => late.close());
		await t.throwsAsync(late.format.begin(), {
			message: /arpanet\/format is not JSON, .* consul kv delete/,
		});
	},
);
