import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { pino } from "pino";
import { Client, eventually, parts, post } from "./helpers.ts";
import { adapter, CREATE, LIMIT, setUp } from "./hook-helpers.ts";

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
	const said: string[] = [];
	const { port } = await setUp(
		t,
		{ a },
		{
			answer: "HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n\r\n",
			log: pino({ level: "error" }, { write: (line) => said.push(line) }),
		},
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
	await sleep(50);
	t.deepEqual(said, []); // who hands the 101 back has made no mistake
});
