import { request } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import fc from "fast-check";
import type { Stage } from "./stage.ts";

/** Nothing that is asked may be without an answer for so long. */
const PATIENCE_MS = 20_000;
/** How a bug reads: words that no user is told. */
const BUG =
	/internal error|cannot read prop|is not (?:a function|iterable|defined)|undefined|\[object/i;

/** Docker's API, but what would tie the hosts to a swarm or ask a registry. */
const ENDPOINTS = `
GET /_ping|HEAD /_ping|GET /version|GET /info|GET /events?until=1|GET /system/df|POST /auth
GET /containers/json|POST /containers/create?name=*|POST /containers/prune|GET /containers/*/json|GET /containers/*/top
GET /containers/*/logs|GET /containers/*/changes|GET /containers/*/export|GET /containers/*/stats|POST /containers/*/resize
POST /containers/*/start|POST /containers/*/stop|POST /containers/*/restart|POST /containers/*/kill|POST /containers/*/update
POST /containers/*/rename|POST /containers/*/pause|POST /containers/*/unpause|POST /containers/*/attach|POST /containers/*/exec
GET /containers/*/archive|HEAD /containers/*/archive|PUT /containers/*/archive|DELETE /containers/*
GET /images/json|GET /images/*/json|GET /images/*/history|POST /images/*/tag|DELETE /images/*|GET /images/search|POST /images/prune
GET /images/*/get|GET /images/get|POST /images/load|POST /commit|POST /build|POST /build/prune|POST /session
POST /exec/*/start|POST /exec/*/resize|GET /exec/*/json|GET /networks|GET /networks/*|POST /networks/create|POST /networks/prune
POST /networks/*/connect|POST /networks/*/disconnect|DELETE /networks/*|GET /volumes|POST /volumes/create|GET /volumes/*
DELETE /volumes/*|POST /volumes/prune|GET /swarm|GET /services|GET /nodes|GET /tasks|GET /secrets|GET /configs|GET /plugins
GET /nothing/*|PATCH /containers/*`
	.trim()
	.split(/[\n|]/)
	.map((line) => line.split(" ") as [method: string, path: string]);

/** Names of what these requests may make: nobody else's. */
const name = fc.oneof(
	fc.constantFrom(
		"fuzz_web_1",
		"fuzz_web_2",
		"fuzz_default",
		"fuzz",
		"busybox",
	),
	fc.string({ unit: "binary", maxLength: 12 }),
	fc.constantFrom("..", "%", "%00", "a/b", "-", "", "sha256:00"),
);

/** A value of any kind, and now and then one of those that mean something. */
const value = fc.oneof(
	fc.jsonValue({ maxDepth: 2 }),
	fc.constantFrom(
		"fuzz",
		"fuzz_default",
		"web",
		"10.32.0.5",
		"local",
		"",
		null,
	),
);

function someOf(...keys: string[]): fc.Arbitrary<Record<string, unknown>> {
	const model = Object.fromEntries(keys.map((key) => [key, value]));
	return fc.record(model, { requiredKeys: [] });
}

/** Bodies that look as Docker's do, and are wrong in any place. */
const body = fc
	.record(
		{
			Image: fc.oneof(fc.constant("busybox"), value),
			Labels: fc.oneof(
				someOf("arpanet.deployment", "arpanet.service", "arpanet.address"),
				fc.constant({ "arpanet.deployment": "fuzz", "arpanet.service": "web" }),
				value,
			),
			Env: fc.oneof(
				fc.array(
					fc.constantFrom("constraint:node==h9", "a=b", "=", "constraint:"),
				),
				value,
			),
			HostConfig: fc.oneof(
				someOf("NetworkMode", "Links", "Binds", "VolumesFrom", "PortBindings"),
				someOf("Mounts", "Memory", "NanoCpus", "PidMode", "IpcMode", "Dns"),
				value,
			),
			NetworkingConfig: fc.oneof(
				fc.record({
					EndpointsConfig: fc.dictionary(name, someOf("IPAMConfig", "Aliases")),
				}),
				value,
			),
			Name: name,
			Driver: value,
			IPAM: fc.oneof(
				fc.record({ Config: fc.array(someOf("Subnet", "Gateway")) }),
				value,
			),
			Container: name,
			EndpointConfig: someOf("IPAMConfig", "Aliases", "Links"),
			Cmd: value,
		},
		{ requiredKeys: [] },
	)
	.map((object) => Buffer.from(JSON.stringify(object)));

const payload = fc.oneof(
	{ weight: 3, arbitrary: body },
	fc.jsonValue().map((any) => Buffer.from(JSON.stringify(any))),
	fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes)),
);

const query = fc
	.dictionary(
		fc.constantFrom("all", "filters", "force", "name", "t", "limit", "signal"),
		fc.oneof(
			value.map((any) => JSON.stringify(any)),
			fc.string(),
		),
		{ maxKeys: 2 },
	)
	.map((pairs) => new URLSearchParams(pairs).toString());

const asked = fc.record({
	endpoint: fc.constantFrom(...ENDPOINTS),
	name,
	query,
	version: fc.constantFrom("", "/v1.41", "/v1.16"),
	payload,
	type: fc.constantFrom("application/json", "application/x-tar", "text/plain"),
});

/** What a post-hook or pre-hook says, right in its form and wrong in the rest, or wrong in all. */
const hook = fc.oneof(
	{
		weight: 4,
		arbitrary: fc
			.record({
				endpoint: fc.constantFrom(...ENDPOINTS),
				name,
				query,
				body: fc.oneof(payload.map(String), fc.constant(null)),
				code: fc.oneof(fc.constantFrom(200, 201, 204, 404, 409), fc.integer()),
				type: fc.constantFrom("pre-hook", "post-hook"),
			})
			.map(({ endpoint: [method, path], name, query, body, code, type }) => ({
				PowerstripProtocolVersion: 1,
				Type: type,
				ClientRequest: {
					Method: method,
					Request: targetOf(path, name, query),
					Body: body,
				},
				ServerResponse: {
					ContentType: "application/json",
					Body: body,
					Code: code,
				},
			}))
			.map((any) => Buffer.from(JSON.stringify(any))),
	},
	payload,
);

/**
 * Asks gateways and an adapter whatever comes to mind.
 * @param seed what comes to mind
 * @param milliseconds to go on for, each with requests and with bare bytes
 * @throws Error with fast-check's counterexample
 */
export async function fuzz(
	stage: Stage,
	seed: number,
	milliseconds: number,
): Promise<void> {
	const gateways = stage.hosts.map(({ address }) => ({
		host: address,
		port: 2375,
	}));
	const adapter = { host: stage.adapter.host.address, port: 2378 };
	const gateway = fc.constantFrom(...gateways);
	const any = fc.constantFrom(...gateways, adapter);
	const options = {
		seed,
		numRuns: 10_000,
		endOnFailure: true,
	};
	const end = performance.now() + milliseconds;
	const isEnough = () => performance.now() > end;
	await Promise.all([
		fc.assert(
			fc.asyncProperty(gateway, asked, async (where, request) => {
				if (isEnough()) return;
				const { endpoint, name, query, version, ...rest } = request;
				const [method, path] = endpoint;
				const target = version + targetOf(path, name, query);
				judge(await send({ ...where, method, path: target, ...rest }));
			}),
			options,
		),
		fc.assert(
			fc.asyncProperty(
				fc.constantFrom("/pre-hook", "/post-hook", "/pre-hook?host=h1", "/"),
				hook,
				async (path, payload) => {
					if (isEnough()) return;
					const type = "application/json";
					const to = { ...adapter, method: "POST", path, payload, type };
					judge(await send(to));
				},
			),
			options,
		),
		fc.assert(
			fc.asyncProperty(any, bytes, async (where, chunks) => {
				if (!isEnough()) await throwAt(where, chunks);
			}),
			options,
		),
	]);
}

/** Bare bytes, some of which begin as a request does. */
const bytes = fc.array(
	fc.oneof(
		fc.uint8Array({ maxLength: 300 }).map((each) => Buffer.from(each)),
		fc
			.constantFrom(
				"POST /containers/create?name=fuzz_web_1 HTTP/1.1\r\n",
				"GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n",
				"Content-Type: application/json\r\nContent-Length: 5\r\n\r\n{}",
				"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
				"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
				"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
				"\r\n\r\n",
			)
			.map((each) => Buffer.from(each)),
	),
	{ minLength: 1, maxLength: 4 },
);

interface Answer {
	status: number;
	text: string;
}

/** @throws Error for an answer that only a bug gives */
function judge({ status, text }: Answer): void {
	if (status < 500) return;
	const message = messageIn(text);
	if (typeof message === "string" && message && !BUG.test(message)) return;
	throw new Error(`${status}: ${text || "without a message"}`);
}

/** Engines answered in plain text before version 1.24 of their API, and still do to those who speak it. */
function messageIn(text: string): unknown {
	try {
		return JSON.parse(text).message;
	} catch {
		return text;
	}
}

function targetOf(path: string, name: string, query: string): string {
	const target = path.replace("*", encodeURIComponent(name));
	return `${target}${target.includes("?") ? "&" : "?"}${query}`;
}

/** One request; of an answer that is good only its head is waited for. @throws when none comes */
function send({
	payload,
	type,
	method,
	...to
}: {
	host: string;
	port: number;
	method: string;
	path: string;
	payload: Buffer;
	type: string;
}): Promise<Answer> {
	return new Promise((resolve, reject) => {
		const hasBody = method === "POST" || method === "PUT";
		const headers = hasBody
			? { "content-type": type, "content-length": payload.length }
			: {};
		const asked = request({ ...to, method, headers, agent: false });
		const late = setTimeout(() => {
			asked.destroy(new Error(`no answer in ${PATIENCE_MS / 1000} s`));
		}, PATIENCE_MS);
		asked.on("error", (error) => {
			clearTimeout(late);
			reject(error);
		});
		const answered = (status: number, text: string) => {
			clearTimeout(late);
			asked.destroy();
			resolve({ status, text });
		};
		asked.on("upgrade", () => answered(101, ""));
		asked.on("response", (response) => {
			const status = response.statusCode ?? 0;
			if (status < 500) {
				answered(status, "");
				return;
			}
			let text = "";
			response.on("data", (chunk) => {
				text += chunk;
			});
			response.on("end", () => answered(status, text));
		});
		asked.end(hasBody ? payload : undefined);
	});
}

/** Sends bytes and nothing more. @throws if the other side has not hung up then */
async function throwAt(
	where: { host: string; port: number },
	chunks: Buffer[],
): Promise<void> {
	const socket = connect(where);
	socket.on("error", () => {}); // a reset is a way to hang up
	socket.resume();
	const closed = new Promise((resolve) => socket.once("close", resolve));
	for (const chunk of chunks) socket.write(chunk);
	socket.end();
	const late = sleep(PATIENCE_MS, "late", { ref: false });
	const what = await Promise.race([closed, late]);
	socket.destroy();
	if (what === "late") throw new Error("it does not hang up");
}
