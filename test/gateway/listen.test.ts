import {
	existsSync,
	mkdtempSync,
	rmSync,
	statSync,
	writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { pino } from "pino";
import { createGateway } from "../../gateway/gateway.ts";
import {
	answering,
	ask,
	Client,
	eventually,
	rawEngine,
	startGateway,
} from "./helpers.ts";

const PING = "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

test("closing lets what runs finish, and takes nothing more", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.on("data", () => setTimeout(() => socket.write(OK), 200));
	});
	const { gateway, port } = await startGateway(t, engine);
	const idle = new Client(port);
	const running = new Client(port).send(PING);
	await eventually(() => engine.sockets.size === 1);
	const closed = gateway.close();
	t.regex(await running.end(), /OK$/);
	t.is(await idle.end(), "");
	await closed;
	t.is(await ask(port, PING), "");
});

test("it listens on a unix socket, replaces a dead one's file, and refuses one in use", async (t) => {
	const folder = mkdtempSync(join(tmpdir(), "gateway-"));
	t.teardown(() => rmSync(folder, { recursive: true }));
	const path = join(folder, "arpanet.sock");
	const engine = await answering(t, OK);
	const options = {
		engine,
		endpoints: [],
		adapters: {},
		hookTimeout: 1,
		maxBody: 1,
		log: pino({ level: "silent" }),
	};

	const first = createGateway(options);
	t.deepEqual(await first.listen([`unix://${path}`]), [`unix://${path}`]);
	t.is(statSync(path).mode & 0o777, 0o660);
	const client = new Client(path).send(PING);
	await client.until((text) => text.endsWith("OK"));
	client.socket.destroy();

	const second = createGateway(options);
	await t.throwsAsync(second.listen(["tcp://127.0.0.1:0", `unix://${path}`]), {
		message: new RegExp(
			`cannot listen on unix:.*\\(pid ${process.pid}\\) listens there`,
		),
	});
	t.true(existsSync(path));
	const file = join(folder, "notes.txt");
	writeFileSync(file, "mine");
	await t.throwsAsync(second.listen([`unix://${file}`]));
	t.true(existsSync(file));
	await t.throwsAsync(second.listen(["localhost:2375"]), {
		message: /write tcp:/,
	});
	await first.close();
});
