import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
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

test("a request and its answer pass to the byte", async (t) => {
	const answer =
		"HTTP/1.1 301 Moved Permanently\r\nlocation:  /images/name/json\r\nX-a:1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nT: 1\r\n\r\n";
	const engine = await answering(t, answer, (text) =>
		text.endsWith("0\r\n\r\n"),
	);
	const { port } = await startGateway(t, engine);
	const request =
		"PUT /images/host//name/json?a=%20+&a= HTTP/1.1\r\nhOST:x\r\nx-b:  \xe9 \r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
	t.is(await ask(port, request), answer);
	t.deepEqual(engine.seen, [request]);
});

test("one byte at a time is as good as all at once", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		let text = "";
		socket.on("data", async (chunk) => {
			text += chunk;
			if (!text.endsWith("body")) return;
			for (const byte of "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply") {
				socket.write(byte);
				await sleep(0);
			}
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port);
	client.socket.setNoDelay(true);
	for (const byte of "POST /x HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody") {
		client.send(byte);
		await sleep(0);
	}
	t.is(
		await client.until((text) => text.endsWith("reply")),
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nreply",
	);
	client.socket.destroy();
});

test("answers without a body end at their head", async (t) => {
	const engine = await answering(t, (text) =>
		text.startsWith("HEAD")
			? "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nX-Docker-Container-Path-Stat: e30=\r\n\r\n"
			: text.startsWith("POST")
				? "HTTP/1.1 204 No Content\r\n\r\n"
				: "HTTP/1.1 304 Not Modified\r\n\r\n",
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port);
	client.send("HEAD /containers/a/archive HTTP/1.1\r\n\r\n");
	await client.until((text) => text.endsWith("e30=\r\n\r\n"));
	client.send("POST /containers/a/start HTTP/1.1\r\n\r\n");
	await client.until((text) => text.endsWith("204 No Content\r\n\r\n"));
	client.send("DELETE /x HTTP/1.1\r\n\r\n");
	await client.until((text) => text.endsWith("304 Not Modified\r\n\r\n"));
	client.socket.destroy();
	t.is(engine.seen.length, 3);
});

test("requests sent ahead are served one after the other", async (t) => {
	let running = 0;
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", async (chunk) => {
			t.is(++running, 1);
			const path = chunk.toString().split(" ")[1] as string;
			await sleep(20);
			running--;
			socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${path}`);
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(
		"GET /1 HTTP/1.1\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 HTTP/1.1\r\n\r\n",
	);
	client.socket.end();
	t.deepEqual((await client.end()).match(/\n\/\d/g), ["\n/1", "\n/2", "\n/3"]);
});

test("a head is passed on at once, long before its body", async (t) => {
	const engine = await answering(
		t,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(
		"POST /containers/a/wait HTTP/1.1\r\n\r\n",
	);
	await client.until((text) => text.endsWith("\r\n\r\n"));
	client.socket.destroy();
	t.pass();
});

for (const [how, leave] of [
	["FIN", (client: Client) => client.socket.end()],
	["RST", (client: Client) => client.socket.resetAndDestroy()],
] as const) {
	test(`a client that leaves with ${how} ends the engine's request`, async (t) => {
		const engine = await rawEngine(t, (socket) => {
			// as Go's server, which stops where it sees the client's end
			socket.on("end", () => socket.destroy());
			socket.on("data", () =>
				socket.write(
					"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
				),
			);
		});
		const { port } = await startGateway(t, engine);
		const client = new Client(port).send("GET /events HTTP/1.1\r\n\r\n");
		await client.until((text) => text.endsWith("{}\r\n"));
		t.is(engine.sockets.size, 1);
		leave(client);
		await eventually(() => engine.sockets.size === 0);
	});
}

test("a client that leaves while the engine still thinks ends the engine's request", async (t) => {
	const engine = await rawEngine(t, (socket) =>
		socket.on("end", () => socket.destroy()).resume(),
	);
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(PING);
	await eventually(() => engine.sockets.size === 1);
	client.socket.destroy();
	await eventually(() => engine.sockets.size === 0);
	t.pass();
});

test("a client that only ends its side still gets the whole answer", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", async () => {
			socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
			await sleep(50);
			socket.end("67890");
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(PING);
	client.socket.end();
	t.is(parts(await client.end()).body, "1234567890");
});

test("a client that ends in the middle of its next request is told so", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", async () => {
			await sleep(50); // the client has ended when it is answered
			socket.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345");
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(`${PING}POST /containers/create HTTP`);
	client.socket.end();
	t.regex(await client.end(), /12345HTTP\/1.1 400 .*the request breaks off/s);
});

test("an engine that breaks off ends the client's connection, short", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", () => {
			socket.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345");
			setTimeout(() => socket.resetAndDestroy(), 20);
		});
	});
	const { port } = await startGateway(t, engine);
	t.is(parts(await ask(port, PING)).body, "12345");
});

/** An engine that gives its first connection up when the second request comes. */
async function giveUp(t: ExecutionContext, request: string, until: RegExp) {
	let connections = 0;
	const engine = await rawEngine(t, (socket) => {
		const first = ++connections === 1;
		let requests = 0;
		socket.on("data", () => {
			if (first && ++requests === 2) socket.resetAndDestroy();
			else socket.write(OK);
		});
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(PING);
	await client.until((text) => text.endsWith("OK"));
	client.send(request);
	await client.until((text) => until.test(text));
	client.socket.destroy();
	return connections;
}

test("a connection that the engine gave up while idle is replaced, unseen", async (t) => {
	t.is(await giveUp(t, PING, /\r\n\r\nOK[\s\S]*\r\n\r\nOK/), 2);
});

test("what may have been done already is not asked twice", async (t) => {
	const create = "POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
	t.is(await giveUp(t, create, /OK[\s\S]*502 Bad Gateway/), 1);
});

for (const [title, answer] of [
	["nothing", ""],
	["no HTTP", "hello there\r\n\r\n"],
] as const) {
	test(`502 when the engine answers ${title}`, async (t) => {
		const engine = await rawEngine(t, (socket) =>
			socket.on("data", () => socket.end(answer)),
		);
		const { port } = await startGateway(t, engine);
		const client = new Client(port).send(PING);
		const { status, body } = parts(
			await client.until((text) => text.endsWith("}\n")),
		);
		t.is(status, 502);
		t.regex(
			JSON.parse(body).message,
			/^engine tcp:\/\/127\.0\.0\.1:\d+ does not answer: .*dockerd/,
		);
		client.socket.destroy();
	});
}

test("502 while the engine is down, and service again once it is up", async (t) => {
	const folder = mkdtempSync(join(tmpdir(), "gateway-"));
	t.teardown(() => rmSync(folder, { recursive: true }));
	const socketPath = join(folder, "docker.sock");
	const { port } = await startGateway(t, { socketPath });
	const client = new Client(port).send(PING);
	const { status, body } = parts(
		await client.until((text) => text.endsWith("}\n")),
	);
	t.is(status, 502);
	t.regex(
		JSON.parse(body).message,
		/engine unix:.*docker\.sock does not answer: connect ENOENT .*; start dockerd there/,
	);

	const server = createServer((socket) =>
		socket.on("data", () => socket.write(OK)),
	);
	await new Promise<void>((done) => server.listen(socketPath, done));
	t.teardown(() => server.close());
	client.send(PING);
	await client.until((text) => text.endsWith("\r\n\r\nOK"));
	client.socket.destroy();
});

test("the body of an answered request that goes on coming is swallowed, and the answer read", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.once("data", () =>
			socket.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno"),
		);
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(
		"POST /build HTTP/1.1\r\nContent-Length: 50000000\r\n\r\n",
	);
	for (let sent = 0; sent < 20; sent++) client.send(Buffer.alloc(1_000_000));
	t.is(parts(await client.end()).body, "no");
});
