import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { pino } from "pino";
import { HttpError } from "../../pipeline/errors.ts";
import type { ClientRequest } from "../../pipeline/protocol.ts";
import { Client, eventually, post, rawEngine } from "./helpers.ts";
import { adapter, CREATE, CREATED, setUp } from "./hook-helpers.ts";

const failures: [
	title: string,
	pre: () => Partial<ClientRequest>,
	status: number,
	message: RegExp,
][] = [
	[
		"refuses",
		() => {
			throw new HttpError(409, "dhcp: no free address");
		},
		409,
		/^dhcp: no free address$/,
	],
	[
		"throws",
		() => {
			throw new Error("boom");
		},
		500,
		/^adapter b failed: boom$/,
	],
	[
		"changes the path",
		() => ({ Request: "/v1.41/containers/x/kill" }),
		500,
		/^adapter b changed POST .*never the endpoint; correct the adapter/,
	],
	[
		"changes the method",
		() => ({ Method: "DELETE" }),
		500,
		/^adapter b changed POST/,
	],
	[
		"smuggles a line",
		() => ({ Request: `${CREATE}&x HTTP/1.1\r\nA: b` }),
		502,
		/^adapter b .*URL-encoded/,
	],
	[
		"answers a Request that is no string",
		() => ({ Request: null as unknown as string }),
		502,
		/^adapter b .*ModifiedClientRequest.Request that is no string/,
	],
	[
		"answers a Body that is no string",
		() => ({ Body: {} as string }),
		502,
		/^adapter b .*ModifiedClientRequest.Body/,
	],
];

for (const [title, pre, status, message] of failures) {
	test(`when a pre-hook ${title}, the client is told, and post-hooks give back`, async (t) => {
		const a = adapter();
		const b = adapter(pre);
		const { engine, message: ask } = await setUp(t, { a, b });
		const answer = await ask(post(CREATE, "{}"));
		t.is(answer.status, status);
		t.regex(answer.message, message);
		t.deepEqual(engine.seen, []);
		t.deepEqual(
			a.told().map(({ Code }) => Code),
			[status === 502 ? 500 : status], // 502: the engine was asked
		);
		t.regex(a.told()[0]?.Body ?? "", /"message"/);
	});
}

test("when the first pre-hook refuses, nothing was acquired and no post-hook runs", async (t) => {
	const a = adapter(() => {
		throw new HttpError(400, "no");
	});
	const { message } = await setUp(t, { a });
	t.deepEqual(await message(post(CREATE, "{}")), {
		status: 400,
		message: "no",
	});
	t.deepEqual(a.told(), []);
});

for (const [title, answer, message] of [
	[
		"another protocol version",
		{ PowerstripProtocolVersion: 2 },
		/PowerstripProtocolVersion 2/,
	],
	[
		"no ModifiedClientRequest",
		{ PowerstripProtocolVersion: 1 },
		/without ModifiedClientRequest/,
	],
	["null", null, /PowerstripProtocolVersion undefined/],
] as const) {
	test(`502 for an adapter that answers ${title}`, async (t) => {
		const a = { ...adapter(), preHook: async () => answer as never };
		const { message: ask } = await setUp(t, { a });
		const said = await ask(post(CREATE, "{}"));
		t.is(said.status, 502);
		t.regex(said.message, message);
		t.regex(said.message, /^adapter a /);
	});
}

test("504 for a hook over its time, and post-hooks run", async (t) => {
	const a = adapter(() => sleep(5_000, {}, { ref: false }));
	const { message } = await setUp(t, { a }, { hookTimeout: 100 });
	const said = await message(post(CREATE, "{}"));
	t.is(said.status, 504);
	t.regex(said.message, /^adapter a did not answer in 0\.1 s/);
	t.deepEqual(
		a.told().map(({ Code }) => Code),
		[504],
	);
});

test("when the engine cannot be reached after pre-hooks, post-hooks are told so", async (t) => {
	const a = adapter();
	const { message } = await setUp(
		t,
		{ a },
		{ engine: { socketPath: "/nowhere/docker.sock" } },
	);
	const said = await message(post(CREATE, "{}"));
	t.is(said.status, 502);
	t.deepEqual(
		a.told().map(({ Code }) => Code),
		[502],
	);
});

test("when the client leaves meanwhile, the engine's answer is awaited and post-hooks run", async (t) => {
	const a = adapter();
	let asked = false;
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", async () => {
			asked = true;
			await sleep(200);
			socket.write(CREATED);
		});
	});
	const { port } = await setUp(t, { a }, { engine });
	const client = new Client(port).send(post(CREATE, "{}"));
	await eventually(() => asked);
	client.socket.resetAndDestroy();
	await eventually(() => a.told().length === 1);
	t.is(a.told()[0]?.Code, 201);
});

test("when the client leaves during a pre-hook, the engine is not asked and post-hooks run", async (t) => {
	const a = adapter(() => sleep(200, {}));
	const { engine, port } = await setUp(t, { a });
	const client = new Client(port).send(post(CREATE, "{}"));
	await eventually(() => a.calls.length === 1);
	client.socket.resetAndDestroy();
	await eventually(() => a.told().length === 1);
	t.is(a.told()[0]?.Code, 500);
	t.deepEqual(engine.seen, []);
});

test("a post-hook that breaks does not hide Docker's answer; one that refuses does; the others still run", async (t) => {
	const broken = adapter(undefined, () => {
		throw new Error("boom");
	});
	const refusing = adapter(undefined, () => {
		throw new HttpError(503, "Consul is away");
	});
	const last = adapter();
	const { request } = await setUp(t, { broken, last });
	t.is((await request(post(CREATE, "{}"))).status, 201);
	t.is(last.told().length, 1);
	const { message } = await setUp(t, { refusing, last });
	t.deepEqual(await message(post(CREATE, "{}")), {
		status: 503,
		message: "Consul is away",
	});
	t.is(last.told()[1]?.Code, 201);
});

test("a connection serves on after an adapter's error", async (t) => {
	let times = 0;
	const a = adapter(() => {
		if (++times === 1) throw new HttpError(400, "no");
		return {};
	});
	const { port } = await setUp(t, { a });
	const client = new Client(port).send(post(CREATE, "{}") + post(CREATE, "{}"));
	await client.until((text) => text.includes('"no"') && text.includes('"ab"'));
	client.socket.destroy();
	t.pass();
});

test("of a request's query only the name is logged: a client may say there what a container is given as its environment", async (t) => {
	let said = "";
	const log = pino({ level: "trace" }, { write: (line) => (said += line) });
	const a = adapter();
	const b = adapter(
		() => ({ Request: `/elsewhere?Env=secret` }),
		() => {
			throw new Error("broken");
		},
	);
	const { message } = await setUp(t, { a, b }, { log });
	const answer = await message(post(`${CREATE}&Env=PASSWORD%3Dsecret`, "{}"));
	t.is(answer.status, 500);
	t.regex(said, /"request":"\/v1.41\/containers\/create\?name=web"/);
	t.regex(said, /post-hook failed/);
	t.notRegex(said, /secret/);
});
