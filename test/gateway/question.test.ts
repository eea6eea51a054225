import type { Socket } from "node:net";
import test, { type ExecutionContext } from "ava";
import { ask } from "../../gateway/question.ts";
import { EnginePool } from "../../gateway/upstream.ts";
import { rawEngine } from "./helpers.ts";

/**
 * Connections to something that listens as an engine does.
 * @param answer is told each request's first line, and which connection it came on
 */
async function engine(
	t: ExecutionContext,
	answer: (socket: Socket, line: string, connection: number) => void,
): Promise<EnginePool> {
	let connections = 0;
	const address = await rawEngine(t, (socket) => {
		const number = ++connections;
		socket.on("data", (bytes) =>
			answer(socket, bytes.toString().split("\r\n", 1)[0] ?? "", number),
		);
	});
	const pool = new EnginePool(address);
	t.teardown(() => pool.close());
	return pool;
}

const CHUNKED =
	"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,\u00e9\r\n2\r\n]\n\r\n0\r\n\r\n";

test("an answer is read whole, whatever pieces it comes in, and its connection serves the next", async (t) => {
	const pool = await engine(t, async (socket, _, connection) => {
		t.is(connection, 1);
		for (const byte of Buffer.from(CHUNKED)) {
			socket.write(Buffer.from([byte]));
			await new Promise(setImmediate);
		}
	});
	for (let i = 0; i < 3; i++) {
		t.deepEqual(await ask(pool, "/events?until=0"), {
			status: 200,
			headers: ["Api-Version", "1.41", "Transfer-Encoding", "chunked"],
			text: "[1,\u00e9]\n",
		});
	}
});

test("any status is an answer", async (t) => {
	const pool = await engine(t, (socket, line) => {
		t.is(line, "GET /v9/events HTTP/1.1");
		socket.write("HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nno\n");
	});
	const { status, text } = await ask(pool, "/v9/events");
	t.deepEqual({ status, text }, { status: 400, text: "no\n" });
});

test("a kept connection that the engine has closed is no reason to fail", async (t) => {
	const asked: number[] = [];
	const pool = await engine(t, (socket, _, connection) => {
		asked.push(connection);
		if (asked.length === 2) socket.destroy();
		else socket.write(CHUNKED);
	});
	await ask(pool, "/");
	t.is((await ask(pool, "/")).status, 200);
	t.deepEqual(asked, [1, 1, 2]);
});

for (const [what, bytes] of [
	["breaks off", CHUNKED.slice(0, -9)],
	["is no HTTP", "hello\r\n\r\n"],
	["is nothing", ""],
] as const) {
	test(`an answer that ${what} is an error that names the engine`, async (t) => {
		const pool = await engine(t, (socket) => socket.end(bytes));
		await t.throwsAsync(ask(pool, "/"), {
			message: /^engine tcp:\/\/127\.0\.0\.1:\d+ does not answer: /,
		});
	});
}
