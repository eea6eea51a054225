import test from "ava";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { PROTOCOL_VERSION } from "../../pipeline/protocol.ts";
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

test(announces, "POST /containers/a/stop", ["a", undefined]);
test(announces, "POST /v1.41/containers/a/stop?t=3", ["a", 3]);
test(announces, "POST /containers/a/stop?t=0", ["a", 0]);
test(announces, "POST /containers/a/stop?t=", ["a", undefined]);
test(announces, "POST /containers/a/stop?t=soon", ["a", undefined]);
test(announces, "POST /containers/a/restart?t=-1", ["a", -1]);
test(announces, "POST /containers/a/kill", ["a", 0]);
test(announces, "POST /containers/a/kill?signal=sigkill", ["a", 0]);
test(announces, "POST /containers/a/kill?signal=HUP", undefined);
