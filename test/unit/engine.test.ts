import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { Engine, parseEngineUrl } from "../../pipeline/engine.ts";

/** An engine that has one answer to everything. */
async function engineThatSays(
	t: ExecutionContext,
	status: number,
	text: string,
): Promise<Engine> {
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
	return engine;
}

for (const [status, text, expected] of [
	[200, "<html>", 502],
	[500, "oops", 500],
] as const) {
	test(`an engine that answers ${status} without JSON is named, with what it said`, async (t) => {
		const engine = await engineThatSays(t, status, text);
		const error = await t.throwsAsync(engine.info());
		t.is((error as unknown as { status: number }).status, expected);
		t.true(
			error?.message.includes(`answered ${status} without JSON: "${text}"`),
		);
	});
}

test("what an engine lists without a name is no container any more", async (t) => {
	const rows = [{ Names: [] }, { Names: null }, { Names: ["/abc_web_1"] }];
	const engine = await engineThatSays(t, 200, JSON.stringify(rows));
	const listed = await engine.listContainers();
	t.deepEqual(
		listed.map(({ Names }) => Names),
		[["/abc_web_1"]],
	);
});

test("an engine's address may be one of IPv6", (t) => {
	t.deepEqual(parseEngineUrl("tcp://[fd00::7]:2377"), {
		host: "fd00::7",
		port: 2377,
	});
	t.throws(() => parseEngineUrl("tcp://fd00::7:2377"), {
		message: /is no engine address/,
	});
});
