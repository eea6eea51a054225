import test from "ava";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { commandOf, type Verb } from "../../pipeline/verbs.ts";
import { silent } from "./doubles.ts";

const means = test.macro<[string, Verb | undefined, string?]>({
	exec(t, request, verb, ref = "") {
		const [method = "", path = ""] = request.split(" ");
		const command = commandOf(method, path);
		t.is(command?.verb, verb);
		t.is(command?.ref ?? "", ref);
	},
	title: (_, request = "", verb, ref) =>
		`${request} means ${verb ?? "nothing"}${ref ? ` of ${ref}` : ""}`,
});

test(means, "POST /containers/create", "create");
test(means, "POST /v1.16/containers/create?name=abc_web_1", "create");
test(means, "POST /v1.41/containers/create", "create");
test(means, "POST /v2/containers/create", "create");
test(means, "GET /containers/create", undefined);
test(means, "POST /containers/create/", undefined);
test(means, "POST /containers/abc_web_1/start", "start", "abc_web_1");
test(means, "POST /v1.41/containers/abc/start?detachKeys=x", "start", "abc");
test(means, "POST /containers/abc/stop?t=3", "stop", "abc");
test(means, "POST /containers/abc/kill?signal=HUP", "kill", "abc");
test(means, "POST /containers/abc/restart", "restart", "abc");
test(means, "POST /containers/abc/pause", "pause", "abc");
test(means, "POST /containers/abc/unpause", "unpause", "abc");
test(means, "POST /containers/abc/rename?name=x", "rename", "abc");
test(means, "DELETE /v1.41/containers/abc?force=1&v=1", "remove", "abc");
test(means, "POST /networks/create", "networkCreate");
test(means, "POST /networks/abc_default/connect", "connect", "abc_default");
test(
	means,
	"POST /networks/abc_default/disconnect",
	"disconnect",
	"abc_default",
);
test(means, "DELETE /networks/abc_default", "networkRemove", "abc_default");
test(means, "DELETE /images/abc", undefined);
test(means, "GET /containers/abc/json", undefined);
test(means, "POST /containers/abc/wait", undefined);
test(means, "POST /containers/abc/exec", undefined);
test(means, "GET /_ping", undefined);
test(means, "POST /containers/my.name-1_x/start", "start", "my.name-1_x");
test(means, "POST /containers/a%2Fb/start", "start", "a/b");
test(means, "POST /containers/caf%C3%A9/start", "start", "café");
test(means, "POST /containers/100%/start", "start", "100%");
test(means, "POST /v1.41/containers/%63reate", "create");
test(means, "POST /%76%31/containers/x/%73top", "stop", "x");
test(means, "POST /containers/v1.41/start", "start", "v1.41");
test(means, "POST /v1.41/containers/create/start", "start", "create");
test(means, "DELETE /containers/a/b", undefined);

test("a query is read whatever characters it has", (t) => {
	const command = commandOf("POST", "/containers/create?name=a%20b&x=?&y=1");
	t.is(command?.query.get("name"), "a b");
	t.is(command?.query.get("x"), "?");
	t.is(command?.query.get("y"), "1");
	const none = commandOf("POST", "/containers/create??name=a");
	t.is(none?.query.get("name"), null); // the engine has it for `?name`
});

const signals = test.macro({
	async exec(t, signal: string, deadly: boolean) {
		const stopped: string[] = [];
		const containers = { stopping: async (ref: string) => stopped.push(ref) };
		const pipeline = new Pipeline({ containers } as never, silent);
		const Request = `/v1.41/containers/abc/kill${signal}`;
		await pipeline.preHook(
			{
				PowerstripProtocolVersion: 1,
				Type: "pre-hook",
				ClientRequest: { Method: "POST", Request, Body: null },
			},
			{},
		);
		t.deepEqual(stopped, deadly ? ["abc"] : []);
	},
	title: (_, signal: string, deadly: boolean) =>
		`a container ${deadly ? "leaves" : "does not leave"} DNS before kill${signal}`,
});
test(signals, "", true);
test(signals, "?signal=KILL", true);
test(signals, "?signal=SIGKILL", true);
test(signals, "?signal=kill", true);
test(signals, "?signal=SigKill", true);
test(signals, "?signal=9", true);
test(signals, "?signal=hup", false);
