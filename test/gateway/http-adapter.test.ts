import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { HttpAdapter } from "../../gateway/http-adapter.ts";
import type { PreHook } from "../../pipeline/protocol.ts";
import { eventually, post } from "./helpers.ts";
import { CREATE, setUp } from "./hook-helpers.ts";

/** A stock adapter: a web server. */
async function webAdapter(
	t: ExecutionContext,
	answer: (body: string) => { status?: number; text: string },
) {
	const seen: {
		path?: string;
		headers: NodeJS.Dict<string | string[]>;
		body: PreHook;
	}[] = [];
	const server = createServer(async (request, response) => {
		let body = "";
		for await (const chunk of request) body += chunk;
		seen.push({
			path: request.url ?? "",
			headers: request.headers,
			body: JSON.parse(body),
		});
		const { status = 200, text } = answer(body);
		response.writeHead(status).end(text);
	});
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	t.teardown(() => server.close().closeAllConnections());
	const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/hook?host=node1`;
	const adapter = new HttpAdapter("dhcp", url);
	t.teardown(() => adapter.close());
	return { dhcp: adapter, seen, url, server };
}

test("an adapter over HTTP is called at its URL and applied", async (t) => {
	const { dhcp, seen } = await webAdapter(t, (body) => {
		const hook = JSON.parse(body);
		return {
			text: JSON.stringify(
				hook.Type === "pre-hook"
					? {
							PowerstripProtocolVersion: 1,
							ModifiedClientRequest: { ...hook.ClientRequest, Body: '{"b":1}' },
						}
					: {
							PowerstripProtocolVersion: 1,
							ModifiedServerResponse: { Body: "{}" },
						},
			),
		};
	});
	const { engine, request } = await setUp(t, { dhcp });
	const { status, body } = await request(post(CREATE, '{"a":1}'));
	t.deepEqual([status, body], [201, "{}"]);
	t.regex(engine.seen[0] ?? "", /\{"b":1\}$/);
	t.is(seen[0]?.path, "/hook?host=node1");
	t.is(seen[0]?.headers["content-type"], "application/json");
	t.is(
		seen[0]?.headers["x-arpanet-request"],
		seen[1]?.headers["x-arpanet-request"],
	);
	t.is(seen[0]?.body.ClientRequest.Body, '{"a":1}');
});

for (const [text, message] of [
	['{"message":"dhcp: no free address"}', "dhcp: no free address"],
	["plain words\n", "plain words"],
] as const) {
	test(`an adapter's HTTP error reaches the client: ${text.trim()}`, async (t) => {
		const { dhcp } = await webAdapter(t, () => ({ status: 409, text }));
		const { message: ask } = await setUp(t, { dhcp });
		t.deepEqual(await ask(post(CREATE, "{}")), { status: 409, message });
	});
}

for (const status of [304, 302, 999]) {
	test(`502 for an adapter whose status says neither yes nor no: ${status}`, async (t) => {
		const { dhcp, url } = await webAdapter(t, () => ({ status, text: "" }));
		const { message } = await setUp(t, { dhcp });
		t.deepEqual(await message(post(CREATE, "{}")), {
			status: 502,
			message: `adapter dhcp (${url}) answered with status ${status}; correct the adapter, or take it out of powerstrip.yml`,
		});
	});
}

test("an adapter that never comes to an end is hung up on when its time is over", async (t) => {
	const { dhcp, server } = await webAdapter(t, () => ({ text: "" }));
	server.removeAllListeners("request");
	const hungUp = new Promise((resolve) => {
		server.on("request", (_, response) => {
			const more = setInterval(() => response.write(" "), 10);
			response.once("close", () => resolve(clearInterval(more)));
		});
	});
	const { message } = await setUp(t, { dhcp }, { post: [], hookTimeout: 200 });
	t.deepEqual(await message(post(CREATE, "{}")), {
		status: 504,
		message:
			"adapter dhcp did not answer in 0.2 s; look at its log, or restart it",
	});
	await hungUp;
	t.pass();
});

test("502 for an adapter over HTTP that is down or answers no JSON", async (t) => {
	const { dhcp, url, server } = await webAdapter(t, () => ({ text: "<html>" }));
	const { message } = await setUp(t, { dhcp });
	const nonsense = await message(post(CREATE, "{}"));
	t.deepEqual(nonsense, {
		status: 502,
		message: `adapter dhcp (${url}) answered no JSON: "<html>"`,
	});
	server.close().closeAllConnections();
	await eventually(async () =>
		(await message(post(CREATE, "{}"))).message.includes("ECONNREFUSED"),
	);
	const down = await message(post(CREATE, "{}"));
	t.is(down.status, 502);
	t.true(
		down.message.startsWith(
			`adapter dhcp (${url}) does not answer: connect ECONNREFUSED`,
		),
		down.message,
	);
	t.regex(down.message, /start it or remove it from powerstrip\.yml$/);
});
