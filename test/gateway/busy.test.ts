import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { startHosts } from "./hosts.ts";

const CONTAINER = "c".repeat(64);
const EXEC = "e".repeat(64);

/** An engine with so much to do that its every answer takes longer than a host is waited for that seems silent. */
async function busyEngine(t: ExecutionContext): Promise<string> {
	const server = createServer(async ({ url = "" }, answer) => {
		await setTimeout(1_300);
		const found = url.includes(EXEC)
			? { ID: EXEC }
			: /\/containers\/(web|c{64})\/json/.test(url)
				? { Id: CONTAINER, Name: "/web" }
				: undefined;
		answer.writeHead(url === "/_ping" || found ? 200 : 404);
		answer.end(JSON.stringify(found ?? { message: "no such" }));
	});
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	t.teardown(() => {
		server.closeAllConnections();
		server.close();
	});
	const { port } = server.address() as AddressInfo;
	return `tcp://127.0.0.1:${port}`;
}

for (const [method, target, body] of [
	["POST", "/containers/web/stop", null],
	["POST", `/exec/${EXEC}/start`, null],
	["POST", "/networks/bridge/connect", '{"Container":"web"}'],
	["POST", "/commit?container=web", null],
] as const) {
	test(`${method} ${target.slice(0, 24)} finds what is on a host that has much to do`, async (t) => {
		const { known, route } = await startHosts(t, {
			one: () => undefined,
			two: () => undefined,
		});
		Object.assign(known.two ?? {}, { engine: await busyEngine(t) });
		t.is(await route(method, target, body), "two");
	});
}
