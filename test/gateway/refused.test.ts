import { randomBytes } from "node:crypto";
import test from "ava";
import {
	answering,
	ask,
	Client,
	eventually,
	parts,
	rawEngine,
	startGateway,
} from "./helpers.ts";

const PING = "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

const refused: [title: string, bytes: string | Buffer][] = [
	["a TLS hello", Buffer.from("16030100a5010000a1", "hex")],
	["bytes that are no text", Buffer.from([0, 1, 2, 3])],
	["lines that end in LF alone", "GET / HTTP/1.1\nHost: x\n\n"],
	["no request line", "\r\n\r\n"],
	["HTTP/2's preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
	[
		"a length that is no number",
		"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n",
	],
	[
		"two lengths",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n12",
	],
	[
		"a length and chunks",
		"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	],
	[
		"a chunk without a size",
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	],
	["headers over the limit", `GET / HTTP/1.1\r\nA: ${"a".repeat(1_100_000)}`],
];

for (const [title, bytes] of refused) {
	test(`400 and the end for ${title}`, async (t) => {
		const engine = await answering(t, OK);
		const { port } = await startGateway(t, engine);
		const { status, body } = parts(await ask(port, bytes));
		t.is(status, 400);
		t.is(typeof JSON.parse(body).message, "string");
		t.deepEqual(engine.seen, []);
	});
}

test("a bad chunk in the middle of a body gets 400, and the engine's connection ends", async (t) => {
	const engine = await rawEngine(t, (socket) =>
		socket.on("end", () => socket.end()).resume(),
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
	);
	await eventually(() => engine.sockets.size === 1);
	client.send("oops\r\n");
	t.is(parts(await client.end()).status, 400);
	await eventually(() => engine.sockets.size === 0);
});

test("random bytes never harm it", async (t) => {
	const engine = await answering(t, OK);
	const { port } = await startGateway(t, engine);
	await Promise.all(
		Array.from({ length: 200 }, async (_, round) => {
			const client = new Client(port);
			if (round % 3 === 1) client.send("GET / HTTP/1.1\r\n");
			if (round % 3 === 2)
				client.send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
			client.send(randomBytes(1 + (round % 50) * 20));
			client.socket.end();
			const answer = await client.end();
			if (answer) t.regex(answer, /^HTTP\/1\.1 (400|502|200) /);
		}),
	);
	t.regex(
		await ask(port, PING.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")),
		/OK$/,
	);
});
