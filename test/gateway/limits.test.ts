import test from "ava";
import { HttpClient, type Request } from "../../pipeline/http-client.ts";
import { startHosts } from "./hosts.ts";

/** Milliseconds for which engines are waited for, by what they are asked. */
const limits = new Map<string, number | undefined>();
const { ask } = HttpClient.prototype;
HttpClient.prototype.ask = function (request: Request) {
	const { method, path, timeout } = request;
	limits.set(`${method} ${decodeURIComponent(path)}`, timeout);
	return ask.call(this, request);
};

const MINUTE = 60_000;
for (const [asked, minutes, sent = asked] of [
	["POST /v1.41/images/prune?filters={}", 10],
	["POST /containers/prune", 10],
	["GET /system/df", 10],
	["DELETE /images/app:v1?force=1", 10],
	[
		"GET /containers/json?size=1&limit=7",
		10,
		"GET /containers/json?all=1&size=1",
	],
	[
		"POST /networks/prune",
		10,
		'POST /networks/prune?filters={"label!":["arpanet.network"]}',
	],
	["GET /info", 1],
	["GET /volumes", 1],
] as const) {
	test(`an engine may take ${minutes} min for ${asked}`, async (t) => {
		const engine = (method: string, { pathname }: URL) => {
			if (/prune$|info$|df$/.test(pathname)) return {};
			if (pathname === "/volumes") return { Volumes: [] };
			if (method === "DELETE" || !/images\/./.test(pathname)) return [];
			return { Id: "a", Created: "", Metadata: {}, RepoTags: [] };
		};
		const { route } = await startHosts(t, { one: engine, two: engine });
		const [method = "", target = ""] = asked.split(" ");
		await route(method, target);
		t.is(limits.get(sent), minutes * MINUTE);
	});
}
