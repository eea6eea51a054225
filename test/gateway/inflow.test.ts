import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { Inflow } from "../../gateway/inflow.ts";
import { Client, eventually, rawEngine, startGateway } from "./helpers.ts";

const TOTAL = 8 * 2 ** 20;
const HEADS = {
	"a body": `HTTP/1.1 200 OK\r\nContent-Length: ${TOTAL}\r\n\r\n`,
	"a stream":
		"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n",
};
/** Bytes of one write of the engine: what tests reads of one line, of many, and of whole buffers. */
const PIECES = {
	"small pieces": () => 1 + Math.floor(Math.random() * 2_000),
	"pieces of all sizes": () => 1 + Math.floor(Math.random() ** 4 * 300_000),
	"large pieces": () => 262_144,
};

// memory is read into again and again: what still waits for a slow client must not be overwritten
for (const [what, head] of Object.entries(HEADS)) {
	for (const [how, size] of Object.entries(PIECES)) {
		test(`every byte of ${what} in ${how} reaches clients fast and slow`, async (t) => {
			const sums: string[] = [];
			const engine = await rawEngine(t, (socket) => {
				socket.once("data", async (request) => {
					const [, index] = /GET \/(\d+)/.exec(`${request}`) ?? [];
					sums[Number(index)] = await send(socket, head, size);
				});
			});
			const { port } = await startGateway(t, engine);
			const got = await Promise.all(
				[0, 1].map((index) => receive(port, index, index * 20)),
			);
			t.deepEqual(got, sums);
		});
	}
}

// the engine's connection goes to the next client while the end of an answer still waits for the last one
test("a slow client gets its own answer to the end, though another has its engine's connection already", async (t) => {
	const sizes = { a: 500_000, b: 8 * 2 ** 20 };
	let answered = false;
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", async (request) => {
			const name = /GET \/(a|b)/.exec(`${request}`)?.[1] as "a" | "b";
			socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${sizes[name]}\r\n\r\n`);
			for (let left = sizes[name]; left > 0; left -= 30_000) {
				socket.write(Buffer.alloc(Math.min(left, 30_000), name));
				await sleep(1);
			}
			answered = true;
		});
	});
	const { gateway } = await startGateway(t, engine);
	// a unix socket takes a part of the answer, where TCP would take all of it
	const path = join(tmpdir(), `arpanet-inflow-${process.pid}.sock`);
	await gateway.listen([`unix://${path}`]);
	const slow = new Client(path);
	slow.socket.pause();
	slow.send("GET /a HTTP/1.1\r\n\r\n");
	await eventually(() => answered);
	await sleep(100); // the end of it is in the gateway, or in its sockets
	const next = new Client(path).send("GET /b HTTP/1.1\r\n\r\n");
	while (next.received.length < sizes.b) {
		next.socket.pause();
		await sleep(20);
		next.socket.resume();
		await sleep(20);
	}
	slow.socket.resume();
	const text = await slow.until((got) => got.length > sizes.a);
	t.is(engine.sockets.size, 1, "it is another connection");
	const body = text.slice(text.indexOf("\r\n\r\n") + 4);
	t.is(body.length, sizes.a);
	t.is(body.replaceAll("a", ""), "");
	slow.socket.destroy();
	next.socket.destroy();
});

test("memory is used again when a client has what it brought, also where that is told late", (t) => {
	const inflow = new Inflow(() => {
		inflow.written(); // all before this
		return "waiting";
	});
	const { buffer, callback } = inflow.onread;
	const used = new Set<Uint8Array>();
	for (let i = 0; i < 100; i++) {
		const read = (buffer as () => Uint8Array)();
		used.add(read);
		callback(10, read);
	}
	t.true(used.size <= 3, `${used.size} buffers`);
});

/** @returns the sum of all that was sent after the head */
async function send(socket: Socket, head: string, size: () => number) {
	const sum = createHash("md5");
	socket.write(head);
	for (let left = TOTAL; left > 0; ) {
		const piece = randomBytes(Math.min(left, size()));
		left -= piece.length;
		sum.update(piece);
		if (!socket.write(piece)) await once(socket, "drain");
	}
	socket.end();
	return sum.digest("hex");
}

/** @param slow milliseconds that the client dawdles after each megabyte */
async function receive(port: number, index: number, slow: number) {
	const socket = connect(port, "127.0.0.1");
	socket.write(`GET /${index} HTTP/1.1\r\n\r\n`);
	const sum = createHash("md5");
	let head = true;
	let bytes = 0;
	let next = 2 ** 20;
	for await (const chunk of socket as AsyncIterable<Buffer>) {
		const body = head ? chunk.subarray(chunk.indexOf("\r\n\r\n") + 4) : chunk;
		head = false;
		sum.update(body);
		bytes += body.length;
		if (bytes >= TOTAL) break;
		if (bytes < next) continue;
		next += 2 ** 20;
		await sleep(slow);
	}
	return sum.digest("hex");
}
