import test from "ava";
import { type FakeEngine, startHosts, storeOf } from "./hosts.ts";

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

for (const hosts of [1, 2]) {
	test(`docker-compose 1 is told no version that it cannot do with: ${hosts} hosts`, async (t) => {
		const engines: Record<string, FakeEngine> = { one: speaking("1.51") };
		if (hosts > 1) engines.two = speaking("1.47");
		const { route } = await startHosts(t, engines);
		const ask = (client: string) => route("GET", "/version", null, client);
		const limited = { ApiVersion: "1.44", Os: "linux" };
		t.deepEqual(await ask("docker-compose/1.29.2 docker-py/5.0.0"), limited);
		const others = hosts === 1 ? "one" : { ApiVersion: "1.47", Os: "linux" };
		t.deepEqual(await ask("Docker-Client/28.5.2 (linux)"), others);
		t.deepEqual(await ask(""), others);
	});
}

for (const ContainerConfig of [null, undefined]) {
	test(`docker-compose 1 finds an image's configuration where the engine says ${ContainerConfig}`, async (t) => {
		const Config = { Volumes: { "/data": {} } };
		const image = {
			...{ Id: "sha256:1", Config, ContainerConfig },
			...{ Created: "", Metadata: { LastTagTime: "" } },
		};
		const one: FakeEngine = (_, { pathname }) =>
			pathname.endsWith("/images/lib/db:1/json") ? image : undefined;
		const { route } = await startHosts(t, { one });
		const path = "/v1.44/images/lib/db:1/json";
		const compose = "docker-compose/1.29.2 docker-py/5.0.0";
		const told = await route("GET", path, null, compose);
		t.deepEqual(told, { ...image, ContainerConfig: Config });
		t.is(await route("GET", path), "one", "to the byte for anyone else");
		const none = path.replace("db", "no");
		t.is(await route("GET", none, null, compose), "one", "which says so");
	});
}

test("with one host neither needs Consul", async (t) => {
	const store = storeOf();
	store.get = store.list = async () => {
		throw new Error("Consul does not answer");
	};
	const { route } = await startHosts(t, { one: speaking("1.51") }, store);
	const ask = (path: string) => route("GET", path, null, "docker-compose/1.29");
	t.deepEqual(await ask("/version"), { ApiVersion: "1.44", Os: "linux" });
	t.is(await ask("/images/db/json"), "one");
});

test("docker-compose 1 is told the version of an older engine by itself", async (t) => {
	const { route } = await startHosts(t, { one: speaking("1.41") });
	t.is(await route("GET", "/version", null, "docker-compose/1.29.2"), "one");
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
