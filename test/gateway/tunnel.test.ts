import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { Client, eventually, rawEngine, startGateway } from "./helpers.ts";

const UPGRADED =
	"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n";
const RAW =
	"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n";
const H2C =
	"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";

const hijacks: [title: string, request: string, answer: string][] = [
	[
		"attach with Upgrade",
		"POST /containers/a/attach HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n",
		UPGRADED,
	],
	[
		"exec with Upgrade and a body",
		'POST /exec/a/start HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 13\r\n\r\n{"Tty":false}',
		UPGRADED,
	],
	["attach without Upgrade", "POST /containers/a/attach HTTP/1.1\r\n\r\n", RAW],
	[
		"a BuildKit session",
		"POST /session HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		H2C,
	],
	[
		"a session whose chunks never end",
		"POST /session HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n",
		H2C,
	],
];

for (const [title, request, answer] of hijacks) {
	test(`${title}: both ways, each ended by itself`, async (t) => {
		let asked = "";
		let ended = false;
		const engine = await rawEngine(t, (socket) => {
			socket.on("data", (chunk) => {
				asked += chunk;
				if (asked === request) socket.write(answer);
				if (asked === `${request}ping`) socket.write("pong");
			});
			socket.on("end", () => {
				ended = true;
				setTimeout(() => socket.end("last words"), 50);
			});
		});
		const { port } = await startGateway(t, engine);
		const client = new Client(port).send(request);
		t.is(await client.until((text) => text.endsWith("\r\n\r\n")), answer);
		client.send("ping");
		await client.until((text) => text.endsWith("pong"));
		t.false(ended);
		client.socket.end();
		t.is(await client.end(), `${answer}ponglast words`);
		t.true(ended);
		await eventually(() => engine.sockets.size === 0);
	});

	test.serial(
		`${title}: the head arrives alone, what came with it after a gap`,
		async (t) => {
			const engine = await rawEngine(t, (socket) => {
				socket.once("data", () => socket.end(`${answer}first bytes`));
			});
			const { port } = await startGateway(t, engine);
			const read = async () => {
				const client = new Client(port);
				const pieces: string[] = [];
				client.socket.on("data", (chunk) => pieces.push(chunk.toString()));
				client.send(request);
				await client.end();
				return pieces;
			};
			// where the machine is busy, a client reads both in one go
			let pieces = await read();
			for (let i = 1; i < 5 && pieces.length < 2; i++) pieces = await read();
			t.deepEqual(pieces, [answer, "first bytes"]);
		},
	);
}

test("stream bytes sent before the 101 are kept for after it", async (t) => {
	let got = "";
	const engine = await rawEngine(t, (socket) => {
		socket.once("data", async () => {
			await sleep(50);
			socket.on("data", (chunk) => {
				got += chunk;
			});
			socket.write(UPGRADED);
		});
		socket.on("end", () => socket.end());
	});
	const { port } = await startGateway(t, engine);
	const early = "x".repeat(3_000_000);
	const client = new Client(port).send(`${hijacks[0]?.[1]}${early}`);
	client.socket.end("end");
	t.is(await client.end(), UPGRADED);
	t.is(got, `${early}end`);
});

test("an upgrade that the engine refuses leaves an ordinary connection", async (t) => {
	const answer =
		'HTTP/1.1 404 Not Found\r\nContent-Length: 16\r\n\r\n{"message":"no"}';
	const engine = await rawEngine(t, (socket) =>
		socket.on("data", () => socket.write(answer)),
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port);
	for (const round of [1, 2, 3]) {
		client.send(hijacks[0]?.[1] ?? "");
		await client.until((text) => text === answer.repeat(round));
	}
	t.is(engine.sockets.size, 1);
	client.socket.destroy();
});

test("a stream's end with a reset loses nothing that came before", async (t) => {
	const output = "y".repeat(2_000_000);
	const engine = await rawEngine(t, (socket) => {
		socket.once("data", () => {
			socket.write(UPGRADED);
			socket.end(output);
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port);
	client.socket.pause();
	client.send(hijacks[0]?.[1] ?? "");
	setTimeout(() => client.socket.resume(), 300);
	t.is(await client.end(), UPGRADED + output);
});

test("a client that resets a stream ends the engine's side", async (t) => {
	const engine = await rawEngine(t, (socket) =>
		socket
			.once("data", () => socket.write(UPGRADED))
			.on("end", () => socket.end()),
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(hijacks[0]?.[1] ?? "");
	await client.until((text) => text.length > 0);
	client.socket.resetAndDestroy();
	await eventually(() => engine.sockets.size === 0);
	t.pass();
});
