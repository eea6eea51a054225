import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { imagePath } from "../../pipeline/docker.ts";
import { Engine, parseEngineUrl } from "../../pipeline/engine.ts";

/** An engine that has one answer to everything. */
function engineThatSays(
	t: ExecutionContext,
	status: number,
	text: string,
): Promise<Engine> {
	return engineThat(t, (_, answer) => {
		answer.writeHead(status).end(text);
	});
}

async function engineThat(
	t: ExecutionContext,
	answers: RequestListener,
): Promise<Engine> {
	const server = createServer(answers).listen(0, "127.0.0.1");
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

for (const [what, own, image, kept] of [
	[
		"has what its image says from that alone",
		{},
		{ "arpanet.host": "h1", "arpanet.address": "203.0.113.66" },
		false,
	],
	[
		"is not the one that its image was committed from",
		{ "com.docker.compose.project": "abc" },
		{ "arpanet.host": "h1", "arpanet.made": "1", "arpanet.facts": "host,made" },
		false,
	],
	[
		"went through the chain, as did the one that its image was committed from",
		{ "arpanet.host": "h1", "arpanet.made": "2", "arpanet.facts": "host,made" },
		{ "arpanet.host": "h2", "arpanet.made": "1", "arpanet.facts": "host,made" },
		true,
	],
	[
		"is of an image that says nothing of arpanet's own",
		{ "arpanet.host": "h1", "arpanet.made": "2" },
		{ "arpanet.size": "5" },
		true,
	],
] as const) {
	test(`a container that ${what} is ${kept ? "" : "not "}ours`, async (t) => {
		const Labels: Record<string, string> = { ...image, ...own };
		const answers: Record<string, unknown> = {
			"/containers/web/json": { Config: { Labels }, Image: "sha256:1" },
			"/containers/json": [{ Names: ["/web"], Labels, ImageID: "sha256:1" }],
			"/images/sha256:1/json": { Config: { Labels: image } },
		};
		const asked: string[] = [];
		const engine = await engineThat(t, ({ url = "" }, answer) => {
			const path = decodeURIComponent(url.split("?")[0] ?? "");
			asked.push(path);
			answer.end(JSON.stringify(answers[path]));
		});
		const inspected = await engine.inspectContainer("web");
		const all = await engine.listContainers();
		const ours = await engine.listContainers("arpanet.host");
		const others = Object.entries(Labels).filter(
			([label]) => !/^arpanet\.(host|made|facts|address)$/.test(label),
		);
		const expected = kept ? Labels : Object.fromEntries(others);
		t.deepEqual(inspected?.Config.Labels, expected);
		t.deepEqual(all[0]?.Labels, expected);
		t.is(ours.length, kept ? 1 : 0);
		t.is(asked.filter((path) => path.startsWith("/images")).length, 1);
	});
}

test("a container is ours whose image its engine cannot tell of, and is not said to be so once it can", async (t) => {
	const Labels = { "arpanet.host": "h1", "arpanet.made": "1" };
	let status = 500; // as of one whose layers are gone
	const engine = await engineThat(t, ({ url = "" }, answer) => {
		const isImage = url.startsWith("/images");
		const text = isImage
			? { message: "layer does not exist", Config: { Labels } }
			: [{ Names: ["/web"], Labels, ImageID: "sha256:1" }];
		answer.writeHead(isImage ? status : 200).end(JSON.stringify(text));
	});
	const list = async () => (await engine.listContainers("arpanet.host")).length;
	t.is(await list(), 1);
	status = 404; // removed by force
	t.is(await list(), 1);
	status = 200; // brought again
	t.is(await list(), 0);
});

test("of many images an engine is asked a few at once", async (t) => {
	const rows = Array.from({ length: 100 }, (_, i) => ({
		Names: [`/web${i}`],
		Labels: { "arpanet.host": "h1", "arpanet.made": "1" },
		ImageID: `sha256:${i}`,
	}));
	let [open, most] = [0, 0];
	const engine = await engineThat(t, async ({ url = "" }, answer) => {
		if (url.startsWith("/containers")) answer.end(JSON.stringify(rows));
		most = Math.max(most, ++open);
		await setTimeout(5);
		open--;
		if (!answer.writableEnded) answer.end("{}");
	});
	const listed = await engine.listContainers("arpanet.host");
	t.deepEqual(listed, rows as never);
	t.true(most > 1 && most <= 20, `${most}`);
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

test("who asks for a name gets no other of which only the id begins so", async (t) => {
	const id = "db00".padEnd(64, "0");
	const engine = await engineThatSays(
		t,
		200,
		JSON.stringify({ Id: id, Name: "backend" }),
	);
	t.is((await engine.inspectNetwork("db"))?.Name, "backend");
	t.is(await engine.networkNamed("db"), undefined);
	t.is((await engine.networkNamed("backend"))?.Id, id);
	t.is(await engine.containerNamed("backend"), undefined); // containers' names have a slash
});

test("an engine that sends us elsewhere has not answered", async (t) => {
	const engine = await engineThatSays(t, 301, "");
	await t.throwsAsync(engine.get("/containers/%2Fweb/json"), {
		message: /the engine answered 301/,
	});
});

test("the path of an image is one, whatever a client takes for an image", (t) => {
	t.is(imagePath("registry:5000/a/b:1"), "/images/registry:5000/a/b:1/json");
	t.is(imagePath("my image?ü#"), "/images/my%20image%3F%C3%BC%23/json");
});
