import test from "ava";
import type { Operation } from "../../pipeline/state/operations.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

const PLUGINS = "deployment-id placement dhcp links network consul-register";

test("a name that a copy has lost in DNS, or has kept too long, is put right by the next sweep, and nothing else is written", async (t) => {
	const consul = await startConsul();
	const host = new Allocator(consul.address, { plugins: PLUGINS.split(" ") });
	t.teardown(async () => {
		host.close();
		await consul.stop();
	});
	const { docker, store } = host;
	const run = async (name: string, body = {}) => {
		const made = await host.create("abc", name, body);
		const id = docker.create(name, made.body);
		const container = docker.containers.get(id);
		if (container) container.State.Running = true;
		await host.containers.observe(id);
	};
	await run("abc_redis_1");
	await run("abc_web_1", { HostConfig: { Links: ["abc_redis_1:cache"] } });
	await run("abc_odd", { Labels: { "arpanet.service": "no.name" } });

	const sweep = async () => {
		const listed = await docker.engine.listContainers("arpanet.host");
		const running = { State: "running", Status: "Up 3 seconds" };
		await host.reconcile.sweep(listed.map((each) => ({ ...each, ...running })));
	};
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
	t.deepEqual(right.Tags, [
		...["redis", "abc_redis_1", "redis_1", "redis-1", "cache"],
	]);
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
		await sweep();
		t.deepEqual((await redis()).Tags, right.Tags);
	}

	const before = await store.nodeServices("arpanet-h1");
	await sweep();
	t.deepEqual(await store.nodeServices("arpanet-h1"), before);
});
