import test from "ava";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { PROTOCOL_VERSION, UNANSWERED } from "../../pipeline/protocol.ts";
import { silent } from "./doubles.ts";

/** What a request says of a stop: the container, and the seconds that its process has. */
const announces = test.macro({
	async exec(t, request: string, expected: unknown[] | undefined) {
		const told: unknown[][] = [];
		const stopping = async (...args: unknown[]) => {
			told.push(args);
		};
		const lifecycles = { containers: { stopping }, networks: {}, volumes: {} };
		const pipeline = new Pipeline(lifecycles as never, silent);
		const [Method = "", Request = ""] = request.split(" ");
		await pipeline.preHook(
			{
				PowerstripProtocolVersion: PROTOCOL_VERSION,
				Type: "pre-hook",
				ClientRequest: { Method, Request, Body: null },
			},
			{},
		);
		t.deepEqual(told, expected ? [expected] : []);
	},
	title: (_, request) => `a stop is announced: ${request}`,
});

/** Whether a start brings settings with it. */
const starts = test.macro({
	async exec(t, Body: string | null, settings: boolean) {
		const told: unknown[][] = [];
		const starting = async (...args: unknown[]) => {
			told.push(args);
		};
		const lifecycles = { containers: { starting }, networks: {}, volumes: {} };
		const pipeline = new Pipeline(lifecycles as never, silent);
		const Request = "/v1.18/containers/a/start";
		await pipeline.preHook(
			{
				PowerstripProtocolVersion: PROTOCOL_VERSION,
				Type: "pre-hook",
				ClientRequest: { Method: "POST", Request, Body },
			},
			{},
		);
		t.deepEqual(told, [["a", settings]]);
	},
	title: (_, body) => `a start with the body ${JSON.stringify(body)}`,
});

test(starts, null, false);
test(starts, "", false);
test(starts, "{}", false);
test(starts, "null\n", false);
test(starts, '{"Links":[]}', true);

/** What the plugins are told of a container after Docker's answer. */
const observes = test.macro({
	async exec(t, request: string, Code: number, expected: unknown[]) {
		const told: unknown[][] = [];
		const observe = async (...args: unknown[]) => {
			told.push(args);
		};
		const containers = { observe, removalRefused: async () => {} };
		const lifecycles = { containers, networks: {}, volumes: {} };
		const pipeline = new Pipeline(lifecycles as never, silent);
		const [Method = "", Request = ""] = request.split(" ");
		await pipeline.postHook(
			{
				PowerstripProtocolVersion: PROTOCOL_VERSION,
				Type: "post-hook",
				ClientRequest: { Method, Request, Body: null },
				ServerResponse: { ContentType: "text/plain", Body: "", Code },
			},
			{},
		);
		t.deepEqual(told, [expected]);
	},
	title: (_, request, code) => `what comes of ${request}: ${code}`,
});

test(observes, "POST /containers/a/kill", 204, ["a", undefined]);
test(observes, "POST /containers/a/kill", 500, ["a", "stop"]);
test(observes, "DELETE /containers/a?force=1", 500, ["a", "stop"]);
test(observes, "POST /containers/a/kill", UNANSWERED, ["a", undefined]);

test(announces, "POST /containers/a/stop", ["a", undefined]);
test(announces, "POST /v1.41/containers/a/stop?t=3", ["a", 3]);
test(announces, "POST /containers/a/stop?t=0", ["a", 0]);
test(announces, "POST /containers/a/stop?t=", ["a", undefined]);
test(announces, "POST /containers/a/stop?t=soon", ["a", undefined]);
test(announces, "POST /containers/a/restart?t=-1", ["a", -1]);
test(announces, "POST /containers/a/kill", ["a", 0]);
test(announces, "POST /containers/a/kill?signal=sigkill", ["a", 0]);
test(announces, "POST /containers/a/kill?signal=HUP", undefined);
