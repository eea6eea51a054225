import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { parseEngineUrl } from "../../pipeline/engine.ts";
import { ask, Client, parts, post, startGateway } from "./helpers.ts";
import { adapter, CREATE, CREATED, setUp } from "./hook-helpers.ts";
import { type FakeEngine, startHosts } from "./hosts.ts";

test("hooks that change nothing change no byte", async (t) => {
	const a = adapter();
	const { engine, request } = await setUp(t, { a });
	const asked = post(
		CREATE,
		'{"Image" : "busybox"}',
		"x-Odd:1\r\nX-Arpanet-Deployment: abc\r\n",
	);
	const { head, body } = await request(asked);
	t.is(`${head}\r\n\r\n${body}`, CREATED);
	t.deepEqual(engine.seen, [asked]);
	const ClientRequest = {
		Method: "POST",
		Request: CREATE,
		Body: '{"Image" : "busybox"}',
	};
	t.deepEqual(a.calls, [
		{ PowerstripProtocolVersion: 1, Type: "pre-hook", ClientRequest },
		{
			PowerstripProtocolVersion: 1,
			Type: "post-hook",
			ClientRequest,
			ServerResponse: {
				ContentType: "application/json",
				Body: '{"Id": "ab"}',
				Code: 201,
			},
		},
	]);
	t.is(a.headers[0]?.["x-arpanet-deployment"], "abc");
	t.truthy(a.headers[0]?.["x-arpanet-request"]);
	t.deepEqual(a.headers[0], a.headers[1]);
});

test("each hook is given what the one before made, and the engine what the last made", async (t) => {
	const a = adapter(
		({ Body }) => ({
			Body: Body?.replace("}", ',"é":1}') ?? null,
			Request: `${CREATE}&a=1`,
		}),
		() => ({ Code: 200 }),
	);
	const b = adapter(
		({ Body }) => ({ Body: Body?.replace("}", ',"b":2}') ?? null }),
		({ Body }) => ({ Body: `${Body}!`, ContentType: "text/plain" }),
	);
	const { engine, request } = await setUp(t, { a, b });
	const answer = await request(post(CREATE, '{"x":0}'));
	t.is(engine.seen.length, 1);
	const sent = Buffer.from(engine.seen[0] ?? "", "latin1").toString();
	t.is(
		sent,
		`POST ${CREATE}&a=1 HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{"x":0,"é":1,"b":2}`,
	);
	t.is(
		answer.head,
		"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\ncontent-type: text/plain\r\nContent-Length: 13",
	);
	t.is(answer.body, '{"Id": "ab"}!');
	t.is(
		b.calls[1]?.ClientRequest.Body,
		'{"x":0}',
		"post-hooks get the client's own body",
	);
});

test("hooks are given an absolute target without its origin, and the engine as it came where they change nothing", async (t) => {
	const a = adapter(({ Body }) => ({ Body: Body === "{1}" ? "{2}" : Body }));
	const { engine, request } = await setUp(t, { a });
	for (const body of ["{}", "{1}"]) {
		await request(post(`http://docker${CREATE}`, body));
		t.is(a.calls.at(-1)?.ClientRequest.Request, CREATE);
	}
	t.deepEqual(engine.seen, [
		post(`http://docker${CREATE}`, "{}"),
		post(CREATE, "{2}"),
	]);
});

test("a body in chunks is put together for hooks, and sent with its length when changed", async (t) => {
	const a = adapter(({ Body }) => ({ Body: `${Body} {}` }));
	const { engine, request } = await setUp(t, { a });
	await request(
		`POST ${CREATE} HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n4;x\r\n":1}\r\n0\r\n\r\n`,
	);
	t.is(a.calls[0]?.ClientRequest.Body, '{"a":1}');
	t.is(
		engine.seen[0],
		`POST ${CREATE} HTTP/1.1\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: 10\r\n\r\n{"a":1} {}`,
	);
});

test("an answer in chunks is put together for hooks", async (t) => {
	const a = adapter(undefined, ({ Body }) => ({ Body: `${Body}?` }));
	const { request } = await setUp(
		t,
		{ a },
		{
			answer:
				'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{"\r\n3\r\na"}\r\n0\r\n\r\n',
		},
	);
	t.is((await request(post(CREATE, "{}"))).body, '{"a"}?');
});

test("a 204 has an empty Body, and an answer made a 204 loses its own", async (t) => {
	const a = adapter();
	const none = await setUp(
		t,
		{ a },
		{ answer: "HTTP/1.1 204 No Content\r\n\r\n" },
	);
	t.is(
		(await none.request(post("/containers/a/start", "{}"))).head,
		"HTTP/1.1 204 No Content",
	);
	t.deepEqual(a.told(), [{ ContentType: null, Body: "", Code: 204 }]);

	const b = adapter(undefined, () => ({ Code: 204, Body: "" }));
	const made = await setUp(t, { b });
	t.regex(
		(await made.request(post(CREATE, "{}"))).head,
		/^HTTP\/1\.1 204 No Content\r\nApi-Version: 1.41\r\ncontent-type: application\/json$/,
	);
});

test("a body that is no JSON is streamed on, and hooks get null", async (t) => {
	const a = adapter();
	const { engine, request } = await setUp(t, { a });
	const asked = `POST /containers/a/archive HTTP/1.1\r\nContent-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n\xff\xfe\x00a\r\n0\r\n\r\n`;
	await request(asked);
	t.is(a.calls[0]?.ClientRequest.Body, null);
	t.is(engine.seen[0], asked);
});

test("hooks are given what the engine reads, which heeds no encoding", async (t) => {
	const a = adapter();
	const { engine, request } = await setUp(t, { a });
	const asked = post(CREATE, "{}", "Content-Encoding: gzip\r\n");
	await request(asked);
	t.is(a.calls[0]?.ClientRequest.Body, "{}");
	t.is(engine.seen[0], asked);
});

test("a body that hooks were not given goes on also with a client that asks whether to send it and does not wait", async (t) => {
	const a = adapter();
	const { engine, request } = await setUp(t, { a });
	const asked = post(CREATE, "{}", "Expect: 100-continue\r\n").replace(
		"application/json",
		"application/x-tar",
	);
	await request(asked);
	t.deepEqual(engine.seen, [asked]);
	t.is(a.calls[0]?.ClientRequest.Body, null);
});

test("a hook whose language has no null keeps a body that it was not given", async (t) => {
	const a = adapter(({ Body }) => ({ Body: Body ?? "" }));
	const b = adapter();
	const { engine, request } = await setUp(t, { a, b });
	const text = post(CREATE, "tar{}").replace("application/json", "text/plain");
	await request(text);
	t.is(engine.seen[0], text);
	t.deepEqual(
		b.calls.map(({ ClientRequest }) => ClientRequest.Body),
		[null, null],
	);
});

test("a hook may put a body in place of one it was not given", async (t) => {
	const a = adapter(() => ({ Body: "{}" }));
	const { engine, port } = await setUp(t, { a });
	const client = new Client(port).send(
		"POST /containers/a/x HTTP/1.1\r\nContent-Length: 5\r\n\r\nab",
	);
	await sleep(50);
	client.send("cde");
	await client.until((text) => text.endsWith('{"Id": "ab"}'));
	t.is(
		engine.seen[0],
		"POST /containers/a/x HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}",
	);
	client.send(post(CREATE, "{}"));
	await client.until((text) => text.split('{"Id": "ab"}').length === 3);
	client.socket.destroy();
});

test("pre-hooks are not called for application/tar, post-hooks are", async (t) => {
	const a = adapter();
	const { request } = await setUp(t, { a });
	await request(
		"POST /containers/a/archive HTTP/1.1\r\nContent-Type: application/tar\r\nContent-Length: 2\r\n\r\n{}",
	);
	t.deepEqual(
		a.calls.map(({ Type }) => Type),
		["post-hook"],
	);
});

test("a request without a tar is given to its pre-hooks, whatever it calls its body", async (t) => {
	const a = adapter();
	const { request } = await setUp(t, { a });
	const tar = "Content-Type: application/tar\r\nContent-Length: 0\r\n\r\n";
	await request(`POST /v1.41/containers/a/start HTTP/1.1\r\n${tar}`);
	t.deepEqual(
		a.calls.map(({ Type }) => Type),
		["pre-hook", "post-hook"],
	);
});

for (const [what, path, form, expected] of [
	[
		"before the query",
		"/containers/a/rename?name=b&x",
		"name=c",
		"name=c&name=b&x",
	],
	["where there is no query", "/containers/a/stop", "t=3", "t=3"],
	["that is empty", "/containers/a/stop?t=3", "", "t=3"],
	[
		"in any bytes",
		"/containers/a/rename",
		"name=a b#\xe9\r\n",
		"name=a%20b%23%e9%0d%0a",
	],
] as const) {
	test(`hooks and the engine find in the query what stands in a form: ${what}`, async (t) => {
		const a = adapter();
		const { engine, request } = await setUp(t, { a });
		const type =
			"content-type: application/x-www-form-urlencoded; charset=utf-8";
		for (const framed of [
			`Content-Length: ${form.length}\r\n\r\n${form}`,
			`Transfer-Encoding: chunked\r\n\r\n${form && `${form.length.toString(16)}\r\n${form}\r\n`}0\r\n\r\n`,
		]) {
			engine.seen.length = 0;
			a.calls.length = 0;
			const answer = await request(
				`POST ${path} HTTP/1.1\r\n${type}\r\n${framed}`,
			);
			t.is(answer.status, 201);
			const target = `${path.split("?")[0]}?${expected}`;
			t.regex(engine.seen[0] ?? "", /\r\nContent-Length: 0\r\n|\r\n\r\n$/);
			t.is(engine.seen[0]?.split(" ")[1], target);
			t.deepEqual(
				a.calls.map(({ ClientRequest }) => ClientRequest),
				Array(2).fill({ Method: "POST", Request: target, Body: null }),
			);
		}
	});
}

test("what the gateway answers itself goes through the post-hooks, too", async (t) => {
	const nothing: FakeEngine = (_, { pathname }) =>
		pathname === "/events" ? "" : [];
	const { known, services } = await startHosts(t, {
		one: nothing,
		two: nothing,
	});
	let refuses = false;
	const a = adapter(undefined, () =>
		refuses ? { Code: 403, Body: '{"message":"no"}' } : {},
	);
	const engine = parseEngineUrl(known.one?.engine ?? "");
	const list = "/v1.41/containers/json";
	const prune = "/v1.41/volumes/prune";
	const patterns = ["GET */containers/json", "POST */volumes/prune"];
	const endpoints = patterns.map((pattern) => {
		return { pattern, pre: [], post: ["a"] };
	});
	const { port } = await startGateway(t, engine, {
		services: services as never,
		endpoints,
		adapters: { a },
	});
	const request = async (method: string, path: string) => {
		const text = `${method} ${path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n`;
		return parts(await ask(port, text));
	};
	const plain = [await request("GET", list), await request("POST", prune)];
	t.deepEqual(
		plain.map(({ status }) => status),
		[200, 200],
	);
	t.deepEqual(
		a.told().map(({ Body }) => Body),
		plain.map(({ body }) => body),
	);
	refuses = true;
	for (const refused of [
		await request("GET", list),
		await request("POST", prune),
	]) {
		t.is(refused.status, 403);
		t.is(refused.body, '{"message":"no"}');
	}
});
