import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { pino } from "pino";
import { HttpError } from "../../pipeline/errors.ts";
import { Conflict, type Operation } from "../../pipeline/state/operations.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul, type TestConsul } from "./consul.ts";

let consul: TestConsul;
const stores: Store[] = [];

test.before(async () => {
	consul = await startConsul();
});
test.after.always(async () => {
	for (const store of stores) store.close();
	await consul?.stop();
});

function newStore(): Store {
	const store = new Store({ address: consul.address });
	stores.push(store);
	return store;
}

const create = (key: string, value: unknown = 1): Operation => ({
	verb: "create",
	key,
	value,
});

test.serial("what was written is read back, with its index", async (t) => {
	const store = newStore();
	await store.commit([
		create("one/a", { x: [1, "ü"] }),
		create("one/b", false),
	]);
	t.deepEqual((await store.get("one/a"))?.value, { x: [1, "ü"] });
	t.deepEqual(
		(await store.list("one/")).map(({ key, value }) => [key, value]),
		[
			["one/a", { x: [1, "ü"] }],
			["one/b", false],
		],
	);
	t.deepEqual(await store.keys("one/"), ["one/a", "one/b"]);
});

test("Consul may have an address of IPv6", async (t) => {
	const store = new Store({ address: "http://[::1]:1" });
	stores.push(store);
	const message =
		/^consul: http:\/\/\[::1\]:1 does not answer \((consul: kv.get: )?connect E\w+ ::1:1\b/;
	await t.throwsAsync(store.get("one/a"), { message });
	await t.throwsAsync(store.commit([create("one/a")]), { message });
});

test.serial("what is not there is undefined, or nothing", async (t) => {
	const store = newStore();
	t.is(await store.get("none"), undefined);
	t.deepEqual(await store.list("none/"), []);
	t.deepEqual(await store.keys("none/"), []);
});

test.serial(
	"of some keys those that are there are read, 64 with one request",
	async (t) => {
		const store = newStore();
		const keys = Array.from({ length: 70 }, (_, i) => `some/${i}`);
		for (const key of keys) await store.commit([create(key)]);
		const before = store.requests;
		const found = await store.some(keys);
		t.is(store.requests - before, 2);
		t.deepEqual(
			found.map(({ key }) => key),
			keys,
		);
		t.deepEqual(found[7], await store.get(keys[7] as string));
		const gaps = ["some/none", "some/1", "some", "some/1", "some/70"];
		t.deepEqual(await store.some(gaps), [found[1]]);
		t.deepEqual(await store.some(["some/none", "some/nil"]), []);
		t.deepEqual(await store.some([]), []);
	},
);

/** What somebody puts there with `consul kv put`. */
async function putByHand(key: string, value: string): Promise<void> {
	const put = { method: "PUT", body: value };
	await fetch(`${consul.address}/v1/kv/${key}`, put);
}

test.serial(
	"what is not JSON is left out of lists and watches, and said once; to get it is an error with the remedy",
	async (t) => {
		const said: string[] = [];
		const log = pino({ base: null }, { write: (line) => said.push(line) });
		const store = new Store({ address: consul.address }, log);
		stores.push(store);
		await store.commit([create("hand/a"), create("hand/z")]);
		const told: string[][] = [];
		const stop = store.watch("hand/", (entries) =>
			told.push(entries.map(({ key }) => key)),
		);
		t.teardown(stop);
		await until(() => told.length === 1);
		await putByHand("hand/note", "replaced the disk");
		await until(() => told.length === 2);
		await store.commit([create("hand/b")]);
		await until(() => told.length === 3);
		t.deepEqual(told, [
			["hand/a", "hand/z"],
			["hand/a", "hand/z"],
			["hand/a", "hand/b", "hand/z"],
		]);
		const listed = await store.list("hand/");
		t.deepEqual(
			listed.map(({ key }) => key),
			["hand/a", "hand/b", "hand/z"],
		);
		t.is(said.length, 1);
		t.like(JSON.parse(said[0] ?? ""), { level: 40, key: "hand/note" });
		await putByHand("hand/folder/", "");
		t.is((await store.list("hand/")).length, 3);
		await t.throwsAsync(store.get("hand/note"), {
			instanceOf: HttpError,
			message:
				"consul: the value of hand/note is not JSON, so it is not arpanet's; delete it: consul kv delete hand/note",
		});
	},
);

test.serial(
	"who throws when told of a change is warned of, and told of the next one, not of the same again",
	async (t) => {
		const store = newStore();
		await store.commit([create("throws/1")]);
		t.timeout(10_000);
		const warned = once(process, "warning");
		const told: number[] = [];
		const stop = store.watch("throws/", ({ length }) => {
			told.push(length);
			if (length === 1) throw new Error("a fault of ours");
		});
		t.teardown(stop);
		const [warning] = await warned;
		t.is(warning.message, "a fault of ours");
		await sleep(500);
		await store.commit([create("throws/2")]);
		await until(() => told.includes(2));
		t.deepEqual(told, [1, 2]);
	},
);

async function until(seen: () => boolean): Promise<void> {
	for (let tries = 0; !seen() && tries < 200; tries++) await sleep(20);
}

test.serial("commits at once share transactions", async (t) => {
	const store = newStore();
	await Promise.all(
		Array.from({ length: 300 }, (_, i) => store.commit([create(`many/${i}`)])),
	);
	t.is((await store.keys("many/")).length, 300);
	t.true(store.requests <= 300 / 64 + 4, `${store.requests} requests`);
});

test.serial("checks that many commits share are sent once", async (t) => {
	const store = newStore();
	await store.commit([create("shared/network")]);
	const { index } = (await store.get("shared/network")) as { index: number };
	const before = store.requests;
	await Promise.all(
		Array.from({ length: 126 }, (_, i) =>
			store.commit([
				{ verb: "check", key: "shared/network", index },
				create(`shared/${i}`),
			]),
		),
	);
	t.true(store.requests - before <= 4, `${store.requests - before} requests`);
});

test.serial(
	"one that loses takes none of those down that wait with it",
	async (t) => {
		const store = newStore();
		await store.commit([create("taken/17"), create("taken/99")]);
		const results = await Promise.allSettled(
			Array.from({ length: 128 }, (_, i) =>
				store.commit([create(`beside/${i}`), create(`taken/${i}`)]),
			),
		);
		const lost = results.flatMap((result, i) =>
			result.status === "rejected" ? [[i, result.reason] as const] : [],
		);
		t.deepEqual(
			lost.map(([i, reason]) => [
				i,
				reason instanceof Conflict,
				reason.operation.key,
			]),
			[
				[17, true, "taken/17"],
				[99, true, "taken/99"],
			],
		);
		const written = new Set(await store.keys("beside/"));
		t.is(written.size, 126);
		t.false(written.has("beside/17"));
	},
);

test.serial(
	"of many that want one key, one gets it and the others are told so",
	async (t) => {
		const all = [newStore(), newStore(), newStore()];
		const results = await Promise.allSettled(
			Array.from({ length: 60 }, (_, i) =>
				(all[i % 3] as Store).commit([
					create("wanted", i),
					create(`with/${i}`),
				]),
			),
		);
		const won = results.flatMap(({ status }, i) =>
			status === "fulfilled" ? [i] : [],
		);
		t.is(won.length, 1);
		t.is((await newStore().get("wanted"))?.value, won[0]);
		t.deepEqual(await newStore().keys("with/"), [`with/${won[0]}`]);
		for (const result of results) {
			if (result.status === "fulfilled") continue;
			t.true(result.reason instanceof Conflict);
			t.is(result.reason.operation.key, "wanted");
		}
	},
);

const loses = test.macro({
	async exec(t, _: string, make: (index: number) => Operation) {
		const store = newStore();
		const key = `lost/${t.title}`;
		await store.commit([create(key, "old")]);
		const { index } = (await store.get(key)) as { index: number };
		await store.commit([{ verb: "set", key, value: "new" }]);
		const operation = { ...make(index), key } as Operation;
		const other = create(`${key}/other`);
		const error = await t.throwsAsync<Conflict>(
			store.commit([other, operation]),
		);
		t.true(error instanceof Conflict);
		t.deepEqual(error.operation, operation);
		t.is((await store.get(key))?.value, "new");
		t.is(await store.get(`${key}/other`), undefined);
	},
	title: (_, what: string) => `${what} loses when the key was written since`,
});

test.serial(loses, "an update", (index) => ({
	verb: "update",
	key: "",
	value: 2,
	index,
}));
test.serial(loses, "a check", (index) => ({ verb: "check", key: "", index }));
test.serial(loses, "an indexed delete", (index) => ({
	verb: "delete",
	key: "",
	index,
}));
test.serial(loses, "a create", () => create(""));

test.serial(
	"what is no operation fails by itself, and not what is committed with it",
	async (t) => {
		const store = newStore();
		const good = store.commit([create("rubbish/good")]);
		for (const rubbish of [
			{ verb: "crate", key: "rubbish/a", value: 1 },
			{},
			{ verb: "create", value: 1 },
			{ verb: "create", key: "", value: 1 },
			{ verb: "create", key: "rubbish/b" },
		]) {
			await t.throwsAsync(store.commit([rubbish as Operation]), {
				instanceOf: TypeError,
			});
		}
		await t.notThrowsAsync(good);
	},
);

test.serial("a delete of what is not there is success", async (t) => {
	await t.notThrowsAsync(
		newStore().commit([{ verb: "delete", key: "nothing" }]),
	);
});

test.serial(
	"more operations than Consul takes at once are refused before they are sent",
	async (t) => {
		const store = newStore();
		const many = Array.from({ length: 65 }, (_, i) => create(`big/${i}`));
		await t.throwsAsync(store.commit(many), {
			message: /^65 operations, and Consul takes 64 at once/,
		});
		t.is(store.requests, 0);
	},
);

test.serial(
	"a Consul that is away is a 503 that says what to do, soon",
	async (t) => {
		const store = newStore();
		await consul.stop();
		const began = performance.now();
		for (const attempt of [
			() => store.get("x"),
			() => store.list("x"),
			() => store.keys("x"),
			() => store.commit([create("x")]),
		]) {
			const error = await t.throwsAsync<HttpError>(attempt());
			t.true(error instanceof HttpError);
			t.is(error.status, 503);
			t.regex(
				error.message,
				/^consul: http:\/\/127\.0\.0\.1:\d+ does not answer \(.*\); running containers are not touched: start Consul and try again$/,
			);
		}
		t.true(performance.now() - began < 5_000);
		await consul.start();
		await t.notThrowsAsync(store.commit([create("back")]));
	},
);

test.serial(
	"who loses and tries again at once keeps no other from being written",
	async (t) => {
		t.timeout(20_000);
		const store = newStore();
		const others = (i: number) =>
			Array.from({ length: 20 }, (_, n) => create(`herd/${i}/${n}`));
		const want = async (i: number) => {
			while (!(await store.get("herd/key"))) {
				await store
					.commit([...(i === 0 ? others(i) : []), create("herd/key", i)])
					.catch((error) => t.true(error instanceof Conflict));
			}
		};
		await Promise.all(Array.from({ length: 12 }, (_, i) => want(i)));
		t.truthy(await store.get("herd/key"));
	},
);

test.serial(
	"a Consul that has forgotten everything is heard, though it is at the same index again",
	async (t) => {
		const Value = Buffer.from("1").toString("base64");
		const item = { Key: "same", Value, ModifyIndex: 5 };
		let forgot = false;
		const address = await inItsPlace(t, ({ url = "" }, answer) => {
			const index = new URL(url, consul.address).searchParams.get("index");
			if (index === "5") {
				if (forgot) return; // nothing changes any more
				forgot = true;
				answer.destroy();
				return;
			}
			answer.writeHead(forgot ? 404 : 200, {
				"content-type": "application/json",
				"x-consul-index": "5",
			});
			answer.end(forgot ? "" : JSON.stringify([item]));
		});
		const store = new Store({ address });
		t.teardown(() => store.close());
		const told: unknown[][] = [];
		await new Promise<void>((resolve) => {
			const stop = store.watch("same", (entries) => {
				told.push(entries.map(({ value }) => value));
				if (told.length < 2) return;
				stop();
				resolve();
			});
		});
		t.deepEqual(told, [[1], []]);
	},
);

/** A server on loopback in Consul's place, until the test ends. @returns its address */
async function inItsPlace(
	t: ExecutionContext,
	answer: RequestListener,
): Promise<string> {
	const server = createServer(answer).listen(0, "127.0.0.1");
	await once(server, "listening");
	t.teardown(() => {
		server.closeAllConnections();
		server.close();
	});
	const { port } = server.address() as AddressInfo;
	return `http://127.0.0.1:${port}`;
}

for (const status of [429, 500, 502, 503]) {
	test(`an answer ${status} says that Consul is away`, async (t) => {
		const address = await inItsPlace(t, (_, answer) => {
			answer.writeHead(status).end("too busy");
		});
		const store = new Store({ address });
		t.teardown(() => store.close());
		for (const ask of [store.get("any"), store.commit([create("any")])]) {
			const error = await t.throwsAsync(ask, { instanceOf: HttpError });
			t.is(error.status, 503);
			t.regex(error.message, /^consul: http:\S+ does not answer/);
		}
	});
}

test("an error of Consul's does not tell the token, however it is logged", async (t) => {
	let status = 418;
	const address = await inItsPlace(t, (_, answer) => {
		answer.writeHead(status).end("no");
	});
	const store = new Store({ address, token: "very-secret" });
	t.teardown(() => store.close());
	let said = "";
	const write = (line: string) => {
		said += line;
	};
	const log = pino({}, { write });
	for (status of [400, 403, 418, 503]) {
		const ask = store.get("any");
		log.error({ err: await t.throwsAsync(ask) }, "failed");
	}
	t.is(said.trim().split("\n").length, 4);
	t.notRegex(said, /very-secret/);
});

test.serial(
	"what is large fails nobody's commit, but its own when Consul does not take it by itself",
	async (t) => {
		const store = newStore();
		const large = "x".repeat(60_000);
		const requests = store.requests;
		await Promise.all(
			Array.from({ length: 12 }, (_, i) =>
				store.commit([create(`large/${i}`, large)]),
			),
		);
		t.true(store.requests - requests < 12);
		const small = [0, 1, 2].map((i) => store.commit([create(`little/${i}`)]));
		const most = store.commit([create("large/most", "x".repeat(380_000))]);
		const tooMuch = store.commit([create("large/more", "x".repeat(400_000))]);
		const refused = await t.throwsAsync(tooMuch, { instanceOf: HttpError });
		t.is(refused.status, 413);
		t.regex(refused.message, /takes no transaction of \d+ bytes; make the/);
		await Promise.all([...small, most]);
		t.is((await store.keys("large/")).length, 13);
		t.is((await store.keys("little/")).length, 3);
	},
);

test("a watch goes on after an answer that is not Consul's", async (t) => {
	let asked = 0;
	const address = await inItsPlace(t, ({ url = "" }, answer) => {
		const { searchParams } = new URL(url, "http://consul");
		asked++;
		if (asked === 1) answer.writeHead(400).end("what?");
		else if (asked === 2) answer.writeHead(200).end("<html>");
		else if (asked === 3) answer.writeHead(200).end("[]");
		else if (searchParams.has("index") && searchParams.get("index") !== "0")
			return; // nothing changes any more
		else
			answer
				.writeHead(200, {
					"content-type": "application/json",
					"x-consul-index": "7",
				})
				.end(JSON.stringify([{ Key: "k", Value: "MQ==", ModifyIndex: 7 }]));
	});
	const store = new Store({ address });
	t.teardown(() => store.close());
	const seen = await new Promise<unknown>((resolve) => {
		const stop = store.watch("k", (entries) => {
			if (entries.length === 0) return;
			stop();
			resolve(entries.map(({ value }) => value));
		});
	});
	t.deepEqual(seen, [1]);
});
