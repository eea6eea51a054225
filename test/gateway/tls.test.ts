import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, type TLSSocket } from "node:tls";
import test from "ava";
import { pino } from "pino";
import { openEnginePort } from "../../agent/engine-port.ts";
import { makeCertificates } from "../../cli/certs.ts";
import { readTls, type Tls } from "../../pipeline/tls.ts";
import { answering, ask, rawEngine, startGateway } from "./helpers.ts";

const PING = "GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n";
const OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";
const log = pino({ level: "silent" });

let folder: string;
let host: Tls;
let client: Tls;
let stranger: Tls;
test.before(async () => {
	folder = await mkdtemp(join(tmpdir(), "arpanet-tls-"));
	await makeCertificates(join(folder, "own"), [], 2);
	await makeCertificates(join(folder, "other"), [], 2);
	host = set("own/host");
	client = set("own/client");
	stranger = { ...set("other/host"), ca: client.ca };
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

function set(name: string): Tls {
	const at = (file: string) => join(folder, name, file);
	return readTls({
		ca: at("ca.pem"),
		cert: at("cert.pem"),
		key: at("key.pem"),
	});
}

/** What a server at a port answers to a ping under TLS, and the session to come back with. */
function pinged(
	port: number,
	options: object,
): Promise<{ text: string; session: Buffer | undefined }> {
	return new Promise((resolve) => {
		let text = "";
		let session: Buffer | undefined;
		const socket: TLSSocket = connect({ port, host: "127.0.0.1", ...options });
		socket.on("session", (fresh) => {
			session = fresh;
		});
		socket.on("secureConnect", () => socket.write(PING));
		socket.on("data", (chunk) => {
			text += chunk;
			if (text.endsWith("OK")) socket.end();
		});
		socket.on("error", () => {});
		socket.on("close", () => resolve({ text, session }));
	});
}

test("a gateway lets in who shows a certificate of its authority, and tells everybody else why not", async (t) => {
	const engine = await answering(t, OK);
	const { port } = await startGateway(t, engine, { tls: host });

	t.regex((await pinged(port, client)).text, /OK$/);
	t.regex((await pinged(port, host)).text, /OK$/);
	t.regex(
		(await pinged(port, stranger)).text,
		/^HTTP\/1.1 403 [\s\S]*your certificate \(CN=arpanet host\) is not good here: \w+; show one/,
	);
	const none = await pinged(port, { ca: client.ca });
	t.regex(
		none.text,
		/^HTTP\/1.1 403 [\s\S]*you showed no certificate; set DOCKER_CERT_PATH/,
	);
	t.truthy(none.session);
	const again = await pinged(port, { ca: client.ca, session: none.session });
	t.regex(again.text, /^HTTP\/1.1 403 [\s\S]*you showed no certificate/);
	t.regex(await ask(port, PING), /^HTTP\/1.1 400 [\s\S]*this port speaks TLS/);
});

test("an engine port lets hosts in, and no client", async (t) => {
	const engine = await answering(t, OK);
	const url = "host" in engine ? `tcp://${engine.host}:${engine.port}` : "";
	const opened = await openEnginePort("tcp://127.0.0.1:0", url, log, host);
	t.teardown(() => opened.close());
	const { port } = opened;
	t.regex((await pinged(port, host)).text, /OK$/);
	t.regex(
		(await pinged(port, client)).text,
		/^HTTP\/1.1 403 [\s\S]*your certificate \(CN=arpanet client\) is a client's, and only hosts come in here/,
	);
});

test.serial(
	"what a client follows under TLS takes no more memory the longer it lasts",
	async (t) => {
		const lines = 3_000;
		const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
		const engine = await rawEngine(t, (socket) => {
			socket.once("data", async () => {
				socket.write(head);
				for (let i = 0; i < lines; i++) {
					socket.write("5\r\nline\n\r\n");
					if (i % 3 === 0) await sleep(1); // so that each is read by itself
				}
				socket.end("0\r\n\r\n");
			});
		});
		const { port } = await startGateway(t, engine, { tls: host });
		const socket = connect({ port, ...client });
		socket.write(PING);
		const before = process.memoryUsage().arrayBuffers;
		let most = before;
		let text = "";
		for await (const chunk of socket as AsyncIterable<Buffer>) {
			text += chunk;
			most = Math.max(most, process.memoryUsage().arrayBuffers);
			if (text.endsWith("0\r\n\r\n")) break;
		}
		t.is(text.split("line\n").length, lines + 1);
		t.true(most - before < 16 * 2 ** 20, `${(most - before) / 2 ** 20} MiB`);
	},
);
