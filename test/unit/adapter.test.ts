import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import test, { type ExecutionContext } from "ava";
import { adapterApp } from "../../adapters/server.ts";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { silent } from "./doubles.ts";

let consul: TestConsul;
let allocator: Allocator;
let url: string;
const server = createServer();

test.before(async () => {
	consul = await startConsul();
	allocator = new Allocator(consul.address);
	const pipeline = new Pipeline(allocator, silent);
	server.on("request", adapterApp(pipeline, silent).callback());
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
test.after.always(async () => {
	server.close();
	server.closeAllConnections();
	allocator?.close();
	await consul?.stop();
});

async function post(path: string, body: string) {
	const answer = await fetch(url + path, { method: "POST", body });
	const text = await answer.text();
	return { status: answer.status, text, json: JSON.parse(text) };
}

function preHook(method: string, request: string, body: string | null) {
	return {
		PowerstripProtocolVersion: 1,
		Type: "pre-hook",
		ClientRequest: { Method: method, Request: request, Body: body },
	};
}

function postHook(
	method: string,
	request: string,
	code: number,
	body: string | null,
) {
	return {
		...preHook(method, request, null),
		Type: "post-hook",
		ServerResponse: { ContentType: "application/json", Body: body, Code: code },
	};
}

const CREATE = "/v1.16/containers/create?name=abc_web_1";

test("a create comes back in the protocol's form, its body a string, all else as it was", async (t) => {
	const { status, json } = await post(
		"/pre-hook",
		JSON.stringify(preHook("POST", CREATE, '{"Image":"x","Odd":{"kept":[1]}}')),
	);
	t.is(status, 200);
	t.deepEqual(Object.keys(json), [
		"PowerstripProtocolVersion",
		"ModifiedClientRequest",
	]);
	t.is(json.PowerstripProtocolVersion, 1);
	const { Method, Request, Body } = json.ModifiedClientRequest;
	t.is(Method, "POST");
	t.is(Request, CREATE);
	t.like(JSON.parse(Body), {
		Image: "x",
		Odd: { kept: [1] },
		Labels: {
			"arpanet.deployment": "abc",
			"arpanet.service": "web",
			"arpanet.host": "h1",
		},
	});
});

test("an adapter's URL names the one host it can place on", async (t) => {
	const { json } = await post(
		"/pre-hook?host=node1",
		JSON.stringify(
			preHook("POST", "/containers/create?name=placed_web_1", "{}"),
		),
	);
	const { Labels } = JSON.parse(json.ModifiedClientRequest.Body);
	t.is(Labels["arpanet.host"], "node1");
});

test("the client's own header reaches the pipeline", async (t) => {
	const answer = await fetch(`${url}/pre-hook`, {
		method: "POST",
		headers: { "X-Arpanet-Deployment": "head" },
		body: JSON.stringify(preHook("POST", "/containers/create?name=xx", "{}")),
	});
	const { ModifiedClientRequest } = (await answer.json()) as {
		ModifiedClientRequest: { Body: string };
	};
	t.is(
		JSON.parse(ModifiedClientRequest.Body).Labels["arpanet.deployment"],
		"head",
	);
});

const unchanged = test.macro({
	async exec(
		t,
		_: string,
		method: string,
		request: string,
		body: string | null,
	) {
		const { status, json } = await post(
			"/pre-hook",
			JSON.stringify(preHook(method, request, body)),
		);
		t.is(status, 200);
		t.deepEqual(json, {
			PowerstripProtocolVersion: 1,
			ModifiedClientRequest: { Method: method, Request: request, Body: body },
		});
	},
	title: (_, what: string) => `${what} comes back to the byte`,
});

test(
	unchanged,
	"an endpoint that we do not know",
	"POST",
	"/v1.99/frobnicate?x=%20y",
	'{ "a" : 1 }\n',
);
test(unchanged, "a request without a body", "GET", "/containers/json", null);
test(
	unchanged,
	"a name that Docker refuses",
	"POST",
	"/containers/create?name=../leases/abc_web_1",
	'{"Labels":{"arpanet.deployment":"abc"}}',
);
test(
	unchanged,
	"a create without a deployment",
	"POST",
	"/containers/create?name=web",
	'{ "Image" : "x",\n"Labels":{} }',
);
test(
	unchanged,
	"a create without a name",
	"POST",
	"/v1.41/containers/create",
	' {"Image":"x"} ',
);
test(
	unchanged,
	"a create that is switched off",
	"POST",
	"/containers/create?name=abc_web_1",
	'{ "Labels": {"arpanet.enabled" : "false", "arpanet.deployment":"abc"} }',
);
test(
	unchanged,
	"a network without a deployment",
	"POST",
	"/networks/create",
	'{ "Name" : "x" }',
);
test(
	unchanged,
	"a stop of a container that is not there",
	"POST",
	"/containers/none/stop?t=1",
	null,
);
test(
	unchanged,
	"a removal of a container that is not there",
	"DELETE",
	"/containers/none?force=1",
	null,
);

// Docker says better what is wrong with these
test(
	unchanged,
	"a create whose labels are no object",
	"POST",
	CREATE,
	'{"Labels":[1]}',
);
test(
	unchanged,
	"a create whose environment is no list",
	"POST",
	CREATE,
	'{"Env":"A=1"}',
);
test(
	unchanged,
	"a create whose network is no text",
	"POST",
	CREATE,
	'{"HostConfig":{"NetworkMode":7}}',
);
test(
	unchanged,
	"a network without a name",
	"POST",
	"/networks/create",
	'{"Labels":{"arpanet.deployment":"abc"}}',
);
test(
	unchanged,
	"a connect of nothing",
	"POST",
	"/networks/x/connect",
	'{"Container":{}}',
);

const answered = test.macro({
	async exec(t, _: string, hook: ReturnType<typeof postHook>) {
		const { status, json } = await post("/post-hook", JSON.stringify(hook));
		t.is(status, 200);
		t.deepEqual(json, {
			PowerstripProtocolVersion: 1,
			ModifiedServerResponse: hook.ServerResponse,
		});
	},
	title: (_, what: string) =>
		`Docker's answer to ${what} comes back to the byte`,
});

test(
	answered,
	"a create",
	postHook("POST", CREATE, 201, '{ "Id":"cafe" , "Warnings":[]}\n'),
);
test(
	answered,
	"a create that it refused",
	postHook("POST", CREATE, 404, '{"message":"No such image: x"}\n'),
);
test(
	answered,
	"a stop, which has an empty body",
	postHook("POST", "/containers/x/stop", 204, ""),
);
test(
	answered,
	"something that we do not know",
	postHook("POST", "/frobnicate", 418, null),
);
test(
	answered,
	"a create whose body is no JSON",
	postHook("POST", CREATE, 201, "what?"),
);
test(
	answered,
	"a create without a name",
	postHook("POST", "/containers/create", 500, "{}"),
);
test(
	answered,
	"a connect, of which powerstrip kept no body",
	postHook("POST", "/networks/x/connect", 200, ""),
);

test("a null content type stays null", async (t) => {
	const hook = postHook("POST", "/containers/x/start", 204, "");
	const response = { ...hook.ServerResponse, ContentType: null };
	const { json } = await post(
		"/post-hook",
		JSON.stringify({ ...hook, ServerResponse: response }),
	);
	t.deepEqual(json.ModifiedServerResponse, response);
});

async function refused(
	t: ExecutionContext,
	path: string,
	body: string,
	status: number,
	message: RegExp,
) {
	const answer = await post(path, body);
	t.is(answer.status, status);
	t.deepEqual(Object.keys(answer.json), ["message"]);
	t.regex(answer.json.message, message);
}

const refuses = test.macro({
	exec: (
		t,
		_: string,
		path: string,
		body: unknown,
		message: RegExp,
		status?: number,
	) =>
		refused(
			t,
			path,
			typeof body === "string" ? body : JSON.stringify(body),
			status ?? 400,
			message,
		),
	title: (_, what: string) => `${what} is refused in Docker's form`,
});

const hook = preHook("POST", CREATE, "{}");
test(
	refuses,
	"a hook that is not JSON",
	"/pre-hook",
	"{oops",
	/^the hook is not JSON: /,
);
test(refuses, "an empty hook", "/pre-hook", "", /^the hook is not JSON: /);
test(
	refuses,
	"a hook that is a list",
	"/pre-hook",
	[],
	/protocol version 1: it must be object$/,
);
test(
	refuses,
	"a hook that is null",
	"/post-hook",
	"null",
	/protocol version 1: it must be object$/,
);
test(
	refuses,
	"another version",
	"/pre-hook",
	{ ...hook, PowerstripProtocolVersion: 2 },
	/protocol version 1: PowerstripProtocolVersion must be/,
);
test(
	refuses,
	"a version that is text",
	"/pre-hook",
	{ ...hook, PowerstripProtocolVersion: "1" },
	/PowerstripProtocolVersion must be/,
);
test(
	refuses,
	"a hook without a version",
	"/pre-hook",
	{ ...hook, PowerstripProtocolVersion: undefined },
	/must have required property 'PowerstripProtocolVersion'/,
);
test(
	refuses,
	"a post-hook at the pre-hook's",
	"/pre-hook",
	{ ...hook, Type: "post-hook" },
	/Type must be/,
);
test(
	refuses,
	"a pre-hook at the post-hook's",
	"/post-hook",
	hook,
	/must have required property 'ServerResponse'/,
);
test(
	refuses,
	"a hook without a request",
	"/pre-hook",
	{ ...hook, ClientRequest: undefined },
	/required property 'ClientRequest'/,
);
test(
	refuses,
	"a request without a method",
	"/pre-hook",
	{ ...hook, ClientRequest: { Request: "/" } },
	/ClientRequest must have required property 'Method'/,
);
test(
	refuses,
	"a body that is not a string",
	"/pre-hook",
	preHook("POST", CREATE, { Image: "x" } as never),
	/ClientRequest\/Body must be string,null$/,
);
test(
	refuses,
	"a code that is text",
	"/post-hook",
	{ ...postHook("POST", CREATE, 1, ""), ServerResponse: { Code: "201" } },
	/ServerResponse\/Code must be integer$/,
);
test(
	refuses,
	"a create whose body is no JSON",
	"/pre-hook",
	preHook("POST", CREATE, "{oops"),
	/^the body of POST \/v1.16\/containers\/create is not JSON: /,
);
test(
	refuses,
	"a create that is nested without end",
	"/pre-hook",
	preHook(
		"POST",
		CREATE,
		`{"Labels": ${"[".repeat(100_000)}${"]".repeat(100_000)}}`,
	),
	/^a body is nested at most 1000 deep$/,
);
test(
	refuses,
	"a create without a body",
	"/pre-hook",
	preHook("POST", CREATE, null),
	/^the body of POST .* is empty; send JSON, with "Content-Type: application\/json"/,
);
test(
	refuses,
	"a create whose body is a list",
	"/pre-hook",
	preHook("POST", CREATE, "[]"),
	/^the body of POST .* is not a JSON object$/,
);
test(
	refuses,
	"a create whose body is null",
	"/pre-hook",
	preHook("POST", CREATE, "null"),
	/^the body of POST .* is not a JSON object$/,
);
test(
	refuses,
	"a deployment that is no DNS label",
	"/pre-hook",
	preHook("POST", CREATE, '{"Labels":{"arpanet.deployment":"a_b"}}'),
	/^deployment-id: "a_b" is no DNS label; .* -p a-b$/,
);
test(
	refuses,
	"any other path",
	"/hook",
	hook,
	/^POST \/hook is no endpoint of this adapter; powerstrip posts to \/pre-hook and \/post-hook$/,
	404,
);

test(
	refuses,
	"a label that would pass by under a second key",
	"/pre-hook",
	preHook(
		"POST",
		CREATE,
		'{"labels":{"arpanet.host":"node9"},"Labels":{"a":"b"}}',
	),
	/has "Labels" more than once, where Docker does not tell upper from lower case; give it once$/,
);

test("a label under another spelling is read, and taken off if it is not the user's", async (t) => {
	const body =
		'{"labels":{"arpanet.host":"node9","arpanet.enabled":"false","a":"b"}}';
	const { json } = await post(
		"/pre-hook",
		JSON.stringify(preHook("POST", "/containers/create?name=web", body)),
	);
	t.deepEqual(JSON.parse(json.ModifiedClientRequest.Body), {
		Labels: { "arpanet.enabled": "false", a: "b" },
	});
});

test("what stands beside a HostConfig that is not there is read, and goes with the one that we give", async (t) => {
	const body =
		'{"Image":"busybox","networkmode":"host","Privileged":true,"Env":["a=b"],"dns":[null]}';
	const hook = preHook("POST", "/containers/create?name=beside_web_1", body);
	const { json } = await post("/pre-hook", JSON.stringify(hook));
	const { HostConfig } = JSON.parse(json.ModifiedClientRequest.Body);
	t.deepEqual(HostConfig, {
		...{ NetworkMode: "host", Privileged: true, Dns: [""] },
	});
	await allocator.remove("beside_web_1");
});

test("what is not as Docker wants it has none of our labels either", async (t) => {
	const bodies = [
		'{"Labels":{"arpanet.host":"node9","a":"b"},"HostConfig":{"DnsSearch":7}}',
		'{"Labels":{"arpanet.host":"node9","a":"b"},"HostConfig":{"DnsSearch":[null]}}',
	];
	for (const body of bodies) {
		const { json } = await post(
			"/pre-hook",
			JSON.stringify(preHook("POST", "/containers/create?name=web", body)),
		);
		const { Labels } = JSON.parse(json.ModifiedClientRequest.Body);
		t.deepEqual(Labels, { a: "b" });
	}
});

test("any other method is refused in Docker's form", async (t) => {
	const answer = await fetch(`${url}/pre-hook`);
	t.true([404, 405].includes(answer.status));
	t.regex(
		((await answer.json()) as { message: string }).message,
		/is no endpoint of this adapter/,
	);
});

test("a hook of 50 MB is a clear 413, and the adapter goes on", async (t) => {
	const body = JSON.stringify(
		preHook("POST", CREATE, "x".repeat(50 * 1024 * 1024)),
	);
	const answer = await fetch(`${url}/pre-hook`, { method: "POST", body });
	t.is(answer.status, 413);
	t.regex(
		((await answer.json()) as { message: string }).message,
		/^a hook may have \d+ bytes at most$/,
	);
	const { status } = await post(
		"/pre-hook",
		JSON.stringify(preHook("GET", "/x", null)),
	);
	t.is(status, 200);
});
