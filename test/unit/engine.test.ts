import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test from "ava";
import { Engine, parseEngineUrl } from "../../pipeline/engine.ts";

for (const [status, text, expected] of [
	[200, "<html>", 502],
	[500, "oops", 500],
] as const) {
	test(`an engine that answers ${status} without JSON is named, with what it said`, async (t) => {
		const server = createServer((_, answer) => {
			answer.writeHead(status).end(text);
		}).listen(0, "127.0.0.1");
		await once(server, "listening");
		const { port } = server.address() as AddressInfo;
		const engine = new Engine(`tcp://127.0.0.1:${port}`);
		t.teardown(async () => {
			await engine.close();
			server.close();
		});
		const error = await t.throwsAsync(engine.info());
		t.is((error as unknown as { status: number }).status, expected);
		t.true(
			error?.message.includes(`answered ${status} without JSON: "${text}"`),
		);
	});
}

test("an engine's address may be one of IPv6", (t) => {
	t.deepEqual(parseEngineUrl("tcp://[fd00::7]:2377"), {
		host: "fd00::7",
		port: 2377,
	});
	t.throws(() => parseEngineUrl("tcp://fd00::7:2377"), {
		message: /is no engine address/,
	});
});
