import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { type GatewayOptions, HttpAdapter } from "../../gateway/gateway.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type {
	Adapter,
	ClientRequest,
	HookHeaders,
	PostHook,
	PreHook,
	ServerResponse,
} from "../../pipeline/protocol.ts";
import {
	answering,
	Client,
	eventually,
	parts,
	post,
	rawEngine,
	startGateway,
} from "./helpers.ts";

const CREATED =
	'HTTP/1.1 201 Created\r\nApi-Version: 1.41\r\ncontent-type: application/json\r\nContent-Length: 12\r\n\r\n{"Id": "ab"}';
const CREATE = "/v1.41/containers/create?name=web";
const LIMIT = 64 * 1024;

/** An adapter that writes down what it is called with. */
function adapter(
	pre: (
		request: ClientRequest,
	) => Partial<ClientRequest> | Promise<Partial<ClientRequest>> = () => ({}),
	after: (
		response: ServerResponse,
	) => Partial<ServerResponse> | Promise<Partial<ServerResponse>> = () => ({}),
) {
	const calls: (PreHook | PostHook)[] = [];
	const headers: HookHeaders[] = [];
	const it: Adapter = {
		async preHook(hook, sent) {
			calls.push(hook);
			headers.push(sent);
			return {
				PowerstripProtocolVersion: 1,
				ModifiedClientRequest: {
					...hook.ClientRequest,
					...(await pre(hook.ClientRequest)),
				},
			};
		},
		async postHook(hook, sent) {
			calls.push(hook);
			headers.push(sent);
			return {
				PowerstripProtocolVersion: 1,
				ModifiedServerResponse: {
					...hook.ServerResponse,
					...(await after(hook.ServerResponse)),
				},
			};
		},
	};
	const told = () =>
		calls.flatMap((call) =>
			call.Type === "post-hook" ? [call.ServerResponse] : [],
		);
	return { ...it, calls, headers, told };
}

/** Bodies in these tests end with } or with the last chunk. */
const whole = (text: string) =>
	text.endsWith("}") ||
	text.endsWith("0\r\n\r\n") ||
	text.endsWith("0\r\n\r\n\r\n");

/** A gateway with hooks on create, its engine, and a client that asks it once. */
async function setUp(
	t: ExecutionContext,
	adapters: Record<string, Adapter>,
	options: Partial<GatewayOptions> & {
		answer?: string;
		pre?: string[];
		post?: string[];
	} = {},
) {
	const {
		answer = CREATED,
		pre = Object.keys(adapters),
		post = Object.keys(adapters),
		...rest
	} = options;
	const engine = await answering(t, answer, whole);
	const { port } = await startGateway(t, rest.engine ?? engine, {
		endpoints: [{ pattern: "POST */containers/*", pre, post }],
		adapters,
		...rest,
	});
	async function request(text: string) {
		const client = new Client(port).send(text);
		await client.until((text) => {
			const { head, body } = parts(text);
			const length = /content-length: (\d+)/i.exec(head);
			return (
				text.includes("\r\n\r\n") && body.length >= Number(length?.[1] ?? 0)
			);
		});
		client.socket.destroy();
		return parts(client.received);
	}
	const message = async (text: string) => {
		const { status, body } = await request(text);
		return { status, message: JSON.parse(body).message as string };
	};
	return { engine, port, request, message };
}

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

for (const [title, framing] of [
	["by its length", `Content-Length: ${LIMIT + 1}\r\n\r\n`],
	[
		"in chunks",
		`Transfer-Encoding: chunked\r\n\r\n${(LIMIT + 1).toString(16)}\r\n`,
	],
] as const) {
	test(`413 for a body over the limit ${title}, read by a client that sends it all first`, async (t) => {
		const a = adapter();
		const { engine, message, port } = await setUp(t, { a });
		const asked = `POST ${CREATE} HTTP/1.1\r\nContent-Type: application/json\r\n${framing}${" ".repeat(LIMIT + 1)}`;
		const { status, message: text } = await message(asked);
		t.is(status, 413);
		t.regex(text, /over 65536 bytes.*powerstrip\.yml/);
		t.deepEqual([a.calls, engine.seen], [[], []]);
		const client = new Client(port).send(
			asked
				.replace(/Length: \d+/, "Length: 20000000")
				.replace("\n10001\r", "\nfffffff\r"),
		);
		for (let sent = 0; sent < 20; sent++) client.send(Buffer.alloc(1_000_000));
		t.is(parts(await client.end()).status, 413);
	});
}

test("a large body that only post-hooks could read is passed on, and they get null", async (t) => {
	const a = adapter();
	const { engine, request } = await setUp(t, { a }, { pre: [] });
	const asked = post(CREATE, `{"a":"${"x".repeat(3 * LIMIT)}"}`);
	await request(asked);
	t.is(engine.seen[0], asked);
	t.is(a.calls[0]?.ClientRequest.Body, null);
	const chunked = `POST ${CREATE} HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n${(3 * LIMIT).toString(16)}\r\n${" ".repeat(3 * LIMIT)}\r\n0\r\n\r\n`;
	await request(chunked);
	t.is(engine.seen[1], chunked);
});

test("an answer over the limit goes on as it is, and hooks get null", async (t) => {
	const a = adapter(undefined, () => ({ Body: "mine" }));
	const body = "x".repeat(5 * LIMIT);
	const { request } = await setUp(
		t,
		{ a },
		{
			answer: `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
		},
	);
	t.is((await request(post(CREATE, "{}"))).body, body);
	await eventually(() => a.told().length === 1);
	t.is(a.told()[0]?.Body, null);
});

test("a hijacked answer is a stream, also where hooks match", async (t) => {
	const a = adapter();
	const { port } = await setUp(
		t,
		{ a },
		{ answer: "HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n" },
	);
	const client = new Client(port).send(
		post(
			"/containers/a/attach",
			"{}",
			"Upgrade: tcp\r\nConnection: Upgrade\r\n",
		),
	);
	await client.until((text) => text.endsWith("\r\n\r\n"));
	client.send("}");
	await client.until((text) => text.split("101 UPGRADED").length === 3);
	t.deepEqual(
		a.told().map(({ Code }) => Code),
		[101],
	);
	client.socket.destroy();
});

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
		/^adapter b changed POST .*never the endpoint$/,
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
			[status],
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
	t.is(a.told()[0]?.Code, 502);
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

/** A stock adapter: a web server. */
async function webAdapter(
	t: ExecutionContext,
	answer: (body: string) => { status?: number; text: string },
) {
	const seen: {
		path?: string;
		headers: NodeJS.Dict<string | string[]>;
		body: PreHook;
	}[] = [];
	const server = createServer(async (request, response) => {
		let body = "";
		for await (const chunk of request) body += chunk;
		seen.push({
			path: request.url ?? "",
			headers: request.headers,
			body: JSON.parse(body),
		});
		const { status = 200, text } = answer(body);
		response.writeHead(status).end(text);
	});
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	t.teardown(() => server.close().closeAllConnections());
	const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?host=node1`;
	const adapter = new HttpAdapter("dhcp", url, 2_000);
	t.teardown(() => adapter.close());
	return { dhcp: adapter, seen, url, server };
}

test("an adapter over HTTP is called at its URL and applied", async (t) => {
	const { dhcp, seen } = await webAdapter(t, (body) => {
		const hook = JSON.parse(body);
		return {
			text: JSON.stringify(
				hook.Type === "pre-hook"
					? {
							PowerstripProtocolVersion: 1,
							ModifiedClientRequest: { ...hook.ClientRequest, Body: '{"b":1}' },
						}
					: {
							PowerstripProtocolVersion: 1,
							ModifiedServerResponse: { Body: "{}" },
						},
			),
		};
	});
	const { engine, request } = await setUp(t, { dhcp });
	const { status, body } = await request(post(CREATE, '{"a":1}'));
	t.deepEqual([status, body], [201, "{}"]);
	t.regex(engine.seen[0] ?? "", /\{"b":1\}$/);
	t.is(seen[0]?.path, "/hook?host=node1");
	t.is(seen[0]?.headers["content-type"], "application/json");
	t.is(
		seen[0]?.headers["x-arpanet-request"],
		seen[1]?.headers["x-arpanet-request"],
	);
	t.is(seen[0]?.body.ClientRequest.Body, '{"a":1}');
});

for (const [text, message] of [
	['{"message":"dhcp: no free address"}', "dhcp: no free address"],
	["plain words\n", "plain words"],
] as const) {
	test(`an adapter's HTTP error reaches the client: ${text.trim()}`, async (t) => {
		const { dhcp } = await webAdapter(t, () => ({ status: 409, text }));
		const { message: ask } = await setUp(t, { dhcp });
		t.deepEqual(await ask(post(CREATE, "{}")), { status: 409, message });
	});
}

test("502 for an adapter over HTTP that is down or answers no JSON", async (t) => {
	const { dhcp, url, server } = await webAdapter(t, () => ({ text: "<html>" }));
	const { message } = await setUp(t, { dhcp });
	const nonsense = await message(post(CREATE, "{}"));
	t.deepEqual(nonsense, {
		status: 502,
		message: `adapter dhcp (${url}) answered no JSON: "<html>"`,
	});
	server.close().closeAllConnections();
	await eventually(async () =>
		(await message(post(CREATE, "{}"))).message.includes("ECONNREFUSED"),
	);
	const down = await message(post(CREATE, "{}"));
	t.is(down.status, 502);
	t.true(
		down.message.startsWith(
			`adapter dhcp (${url}) does not answer: connect ECONNREFUSED`,
		),
		down.message,
	);
	t.regex(down.message, /start it or remove it from powerstrip\.yml$/);
});
