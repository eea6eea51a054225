import test from "ava";
import { type FakeEngine, startHosts } from "./hosts.ts";

function speaking(ApiVersion: string): FakeEngine {
	return (_, { pathname }) =>
		pathname.endsWith("/version") ? { ApiVersion, Os: "linux" } : undefined;
}

test("a client agrees on what all hosts' engines speak", async (t) => {
	const { route } = await startHosts(t, {
		one: speaking("1.48"),
		two: speaking("1.41"),
		three: speaking("1.43"),
	});
	for (const path of ["/version", "/v1.48/version"]) {
		const told = await route("GET", path);
		t.deepEqual(told, { ApiVersion: "1.41", Os: "linux" });
	}
});

test("where this host's engine speaks no more than the others it answers itself", async (t) => {
	const engines = { one: speaking("1.41"), two: speaking("1.48") };
	const { known, route } = await startHosts(t, engines);
	t.is(await route("HEAD", "/_ping"), "one");
	Object.assign(known.two ?? {}, { state: undefined });
	t.is(await route("GET", "/version"), "one");
});

test("a host that does not say what it speaks delays nobody for long", async (t) => {
	const two: FakeEngine = () => new Promise(() => {});
	const { route } = await startHosts(t, { one: speaking("1.48"), two });
	const began = performance.now();
	t.is(await route("GET", "/_ping"), "one");
	t.true(performance.now() - began < 5_000);
});
