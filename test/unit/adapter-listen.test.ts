import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { Agent, get, type IncomingMessage } from "node:http";
import { Agent as TlsAgent, get as tlsGet } from "node:https";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import Koa from "koa";
import { listen } from "../../adapters/server.ts";
import { makeCertificates } from "../../cli/certs.ts";
import { readTls, type Tls } from "../../pipeline/tls.ts";
import { silent } from "./doubles.ts";

/** Milliseconds that a hook takes here. */
const HOOK_MS = 500;

let folder: string;
let tls: Tls;
test.before(async () => {
	folder = await mkdtemp(join(tmpdir(), "arpanet-adapter-"));
	await makeCertificates(folder, [], 30);
	const at = (file: string) => join(folder, "host", file);
	tls = readTls({ ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") });
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

/** An adapter that answers `/slow` after HOOK_MS, and one who asks it over connections that he keeps. */
async function adapter(t: ExecutionContext, secure: boolean) {
	const port = await freePort();
	const app = new Koa();
	app.use(async (ctx) => {
		if (ctx.path === "/slow") {
			app.emit("slow");
			await setTimeout(HOOK_MS);
		}
		ctx.body = "answer";
	});
	const stop = await listen(app, {
		address: `tcp://${secure ? "0.0.0.0" : "127.0.0.1"}:${port}`,
		tls,
		log: silent,
	});
	const agent = secure
		? new TlsAgent({ keepAlive: true, ...tls })
		: new Agent({ keepAlive: true });
	t.teardown(() => agent.destroy());
	const ask = async (path: string) => {
		const request = (secure ? tlsGet : get)({
			...{ host: "127.0.0.1", port, path, agent },
		});
		const [answer] = (await once(request, "response")) as [IncomingMessage];
		answer.resume();
		await once(answer, "end");
		return answer.headers.connection;
	};
	/** Asks what takes HOOK_MS. @returns what comes of it, once it has arrived */
	const askSlowly = async () => {
		const arrived = once(app, "slow");
		const slow = ask("/slow");
		await arrived;
		return { slow };
	};
	return { port, stop, ask, askSlowly };
}

async function freePort(): Promise<number> {
	const server = createServer().listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	server.close();
	await once(server, "close");
	return port;
}

/** Milliseconds until it has stopped, or until nobody waits for it any more. */
async function timed(stop: () => Promise<void>): Promise<number> {
	const began = performance.now();
	await Promise.race([stop(), setTimeout(5_000)]);
	return performance.now() - began;
}

for (const secure of [false, true]) {
	const over = secure ? "over TLS" : "in plain";

	test(`an adapter ${over} stops at once though connections to it are kept`, async (t) => {
		const { port, stop, ask } = await adapter(t, secure);
		t.is(await ask("/"), "keep-alive");
		const silentOne = connect(port, "127.0.0.1"); // says nothing, not even hello
		await once(silentOne, "connect");
		await setTimeout(50);
		t.true((await timed(stop)) < 1_000);
	});

	test(`an adapter ${over} stops when the hook in flight is answered, which is the last on its connection`, async (t) => {
		const { stop, ask, askSlowly } = await adapter(t, secure);
		await ask("/");
		const { slow } = await askSlowly();
		const took = await timed(stop);
		t.is(await slow, "close");
		t.true(took > HOOK_MS / 2 && took < HOOK_MS + 1_000, `${took} ms`);
	});
}

test("an adapter over TLS that stops still answers who has a connection, once", async (t) => {
	const { stop, ask, askSlowly } = await adapter(t, true);
	await Promise.all([ask("/"), ask("/")]);
	const { slow } = await askSlowly();
	const stopped = timed(stop);
	await setTimeout(100);
	t.is(await ask("/"), "close");
	await slow;
	t.true((await stopped) < HOOK_MS + 1_000);
});
