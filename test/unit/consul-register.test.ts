import test, { type ExecutionContext } from "ava";
import type { Leaving } from "../../pipeline/state/leaving.ts";
import type { Operation } from "../../pipeline/state/operations.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

const PLUGINS = "deployment-id placement dhcp links network consul-register";

async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	const host = new Allocator(consul.address, { plugins: PLUGINS.split(" ") });
	t.teardown(async () => {
		host.close();
		await consul.stop();
	});
	const { docker } = host;
	const run = async (
		name: string,
		body = {},
		state = {},
		after?: "start",
		adapter = host,
	) => {
		const made = await host.create("abc", name, body);
		const id = docker.create(name, made.body);
		const container = docker.containers.get(id);
		if (container) Object.assign(container.State, { Running: true, ...state });
		await adapter.containers.observe(id, after);
		return { id, container };
	};
	return { host, run, consul };
}

/** Another process on the same host. */
function second(
	t: ExecutionContext,
	host: Allocator,
	{ address }: TestConsul,
): Allocator {
	const another = new Allocator(address, {
		plugins: PLUGINS.split(" "),
		engines: { h1: host.docker },
	});
	t.teardown(() => another.close());
	return another;
}

async function sweep({ docker, reconcile }: Allocator) {
	const listed = await docker.engine.listContainers("arpanet.host");
	await reconcile.sweep(
		listed.map((each) => {
			const isUp = docker.containers.get(each.Id)?.State.Running;
			const Status = isUp ? "Up 3 seconds" : "Exited (0) 3 seconds ago";
			return { ...each, State: isUp ? "running" : "exited", Status };
		}),
	);
}

test("a name that a copy has lost in DNS, or has kept too long, is put right by the next sweep, and nothing else is written", async (t) => {
	const { host, run } = await stage(t);
	const { store } = host;
	await run("abc_redis_1");
	await run("abc_web_1", { HostConfig: { Links: ["abc_redis_1:cache"] } });
	await run("abc_odd", { Labels: { "arpanet.service": "no.name" } });

	const redis = async () => {
		const all = await store.nodeServices("arpanet-h1");
		const found = all.find(({ Tags }) => Tags.includes("redis"));
		if (!found) throw new Error("redis is not in DNS");
		return found;
	};
	const { ModifyIndex, CreateIndex, ...right } = {
		...{ ModifyIndex: 0, CreateIndex: 0 },
		...(await redis()),
	};
	const own = ["redis", "abc_redis_1", right.Meta?.container?.slice(0, 12)];
	t.deepEqual(right.Tags, [...own, "redis_1", "cache"]);
	for (const Tags of [
		right.Tags.filter((tag) => tag !== "cache"),
		[...right.Tags, "store"],
	]) {
		const Service = { ...right, Tags };
		const wrong: Operation = {
			verb: "catalog",
			operation: { Service: { Verb: "set", Node: "arpanet-h1", Service } },
		};
		await store.commit([wrong]);
		await sweep(host);
		t.deepEqual((await redis()).Tags, right.Tags);
	}

	const before = await store.nodeServices("arpanet-h1");
	await sweep(host);
	t.deepEqual(await store.nodeServices("arpanet-h1"), before);
});

test("a container in very many networks is in DNS in all of them, until it stops", async (t) => {
	const { host, run } = await stage(t);
	const names = Array.from({ length: 20 }, (_, i) => `abc_n${i}`);
	for (const Name of names) {
		const labels = { "arpanet.deployment": "abc" };
		const made = await host.networks.create({ Name, Labels: labels }, {});
		host.docker.networks.set(Name, { ...made, Name, Id: Name });
	}
	const EndpointsConfig = Object.fromEntries(names.map((name) => [name, {}]));
	const body = {
		HostConfig: { NetworkMode: "abc_n0" },
		NetworkingConfig: { EndpointsConfig },
	};
	const state = { Health: { Status: "healthy" } };
	const { id, container } = await run("abc_web_1", body, state);
	const listed = () => host.store.nodeServices("arpanet-h1");
	t.is((await listed()).length, 2 * names.length);
	if (container) container.State.Running = false;
	await host.containers.observe(id);
	t.deepEqual(await listed(), []);
});

for (const [network, body, scope, id] of [
	["its deployment's", {}, "abc", "web.abc"],
	[
		"a shared",
		{ HostConfig: { NetworkMode: "front" } },
		"shared-front",
		"web.abc.shared-front",
	],
] as const) {
	test(`a container that was renamed and runs stands beside the copy that was made in its place, in ${network} network`, async (t) => {
		const { host, run } = await stage(t);
		// with one host such a network would be Docker's own
		Object.defineProperty(host.services.cluster, "alone", { value: false });
		const made = await host.networks.create({ Name: "front" }, {});
		const front = { ...made, Name: "front", Id: "front" };
		host.docker.networks.set("front", front);
		await host.networks.created("front", "front");
		const old = await run("abc_web_1", body);
		if (old.container) old.container.Name = "/old_abc_web_1";
		await host.containers.renamed(old.id);
		await run("abc_web_1", body);
		const ids = async () => {
			const all = await host.store.nodeServices("arpanet-h1");
			const copies = all.filter(({ Service }) => Service === `web.${scope}`);
			return copies.map(({ ID }) => ID).sort();
		};
		const [first, second] = await ids();
		t.is(first, `1.${id}`);
		t.regex(second ?? "", new RegExp(`^ip\\d+\\.${id}$`));
		if (old.container) old.container.State.Running = false;
		await host.containers.observe(old.id);
		t.deepEqual(await ids(), [second]);
		await sweep(host);
		t.deepEqual(await ids(), [first]);
	});
}

test("one that has just been started is registered without a look, unless there is something to see", async (t) => {
	const { host, run, consul } = await stage(t);
	const another = second(t, host, consul);
	const start = (name: string, body = {}, state = {}) =>
		run(name, body, state, "start", another);
	const tagsOf = async (id: string) => {
		const all = await host.store.nodeServices("arpanet-h1");
		return all
			.filter(({ Meta }) => Meta?.container === id)
			.map(({ ID, Tags }) => [ID, ...Tags].join(" "))
			.sort();
	};

	const { id } = await start("abc_redis_1");
	const short = id.slice(0, 12);
	const whole = [
		"1.redis.abc",
		`${short}.abc redis abc_redis_1 ${short} redis_1`,
	];
	t.deepEqual(await tagsOf(id), whole);
	const before = another.store.requests;
	const { id: other } = await start("abc_redis_2");
	t.is((await tagsOf(other)).length, 2);
	t.is(another.store.requests - before, 1);

	const said = another.store.requests;
	await another.containers.observe(id, "start"); // twice
	t.is(another.store.requests - said, 1 + 3); // refused, and three looks
	t.deepEqual(await tagsOf(id), whole);

	await host.create("abc", "abc_web_1", {
		HostConfig: { Links: ["abc_redis_1:cache"] },
	});
	const { id: third } = await start("abc_redis_3");
	t.regex((await tagsOf(third)).join(), / redis_3 cache$/);

	const StartedAt = "2026-11-28T12:00:00.5Z";
	const { id: stops } = await run("abc_slow_1", {}, { StartedAt });
	await host.containers.stopping(stops, 5);
	await another.containers.observe(stops, "start");
	t.deepEqual(await tagsOf(stops), []);

	const { id: old, container } = await start("abc_web_2");
	if (container) container.Name = "/old_abc_web_2";
	await host.containers.renamed(old);
	const { id: anew } = await start("abc_web_2");
	t.regex((await tagsOf(anew)).join(), /^\w+\.abc web .*,ip\d+\.web\.abc$/);
});

test("one whose stop is announced while it is looked at is not registered again", async (t) => {
	const { host, run, consul } = await stage(t);
	const another = second(t, host, consul);
	const marks = async () => (await host.store.list("arpanet/leaving/")).length;
	for (const earlier of [false, true]) {
		const number = earlier ? 2 : 1;
		const StartedAt = "2026-11-28T12:00:00.5Z";
		const { id, container } = await run(
			`abc_web_${number}`,
			{},
			{ StartedAt, Health: { Status: "starting" } },
		);
		if (earlier) {
			await host.containers.stopping(id, 5);
			if (container) container.State.StartedAt = "2026-11-28T12:00:09.5Z";
		}
		const { store } = another.services;
		const commit = store.commit.bind(store);
		store.commit = async (operations) => {
			store.commit = commit;
			await host.containers.stopping(id, 5);
			return commit(operations);
		};
		await another.containers.observe(id); // its health has changed
		const all = await host.store.nodeServices("arpanet-h1");
		t.deepEqual(
			all.filter(({ Meta }) => Meta?.container === id),
			[],
		);
		t.is(await marks(), number);
	}
});

test("a stop without an end takes the copy out of DNS for as long as it takes", async (t) => {
	const { host, run } = await stage(t);
	const { id: asked } = await run("abc_web_1");
	await host.containers.stopping(asked, -1);
	const { id: own, container } = await run("abc_web_2");
	if (container) container.Config.StopTimeout = -1;
	await host.containers.stopping(own, undefined);
	const marks = await host.store.list<Leaving>("arpanet/leaving/");
	t.is(marks.length, 2);
	for (const { value } of marks) t.true(value.grace > 24 * 3_600_000);
});
