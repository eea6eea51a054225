import test, { type ExecutionContext } from "ava";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

// What hosts have only so much of: creates that come at once, through two gateways.

async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	const engines = { h1: new EngineDouble(), h2: new EngineDouble() };
	const gateways = ["h1", "h2"].map(
		(host) => new Allocator(consul.address, { size: 2000, host, engines }),
	);
	await gateways[0]?.announce(["h1", "h2"]);
	await Promise.all(gateways.map((g) => g.follow()));
	t.teardown(async () => {
		for (const g of gateways) g.close();
		await consul.stop();
	});
	return gateways as [Allocator, Allocator];
}
async function place(g: Allocator, name: string, body: ContainerCreate) {
	const [d = "", s = ""] = name.split("_");
	try {
		const made = await g.create(d, name, {
			...body,
			Labels: { "arpanet.service": s },
		});
		return made.body.Labels?.["arpanet.host"] ?? "";
	} catch (e) {
		return `refused: ${(e as Error).message}`;
	}
}

const MIB = 2 ** 20;

test("two creates that would have the memory of one host: the second is refused", async (t) => {
	const [one, two] = await stage(t);
	const body = {
		Env: ["constraint:node==h1"],
		HostConfig: { Memory: 600 * MIB },
	};
	const hosts = await Promise.all([
		place(one, "abc_a_1", body),
		place(two, "abc_b_1", body),
	]);
	t.is(hosts.filter((host) => host === "h1").length, 1);
});

test("one port at all addresses of a host and at one of them: the second is refused", async (t) => {
	const [one, two] = await stage(t);
	const body = (HostIp: string) => ({
		Env: ["constraint:node==h1"],
		HostConfig: { PortBindings: { "80/tcp": [{ HostIp, HostPort: "80" }] } },
	});
	const hosts = await Promise.all([
		place(one, "abc_a_1", body("")),
		place(two, "abc_b_1", body("127.0.0.1")),
	]);
	t.is(hosts.filter((host) => host === "h1").length, 1);
});

test("of many sizes no host has more than its memory", async (t) => {
	const [one, two] = await stage(t);
	const sizes = Array.from({ length: 24 }, (_, i) => 50 + ((i * 7919) % 350));
	const hosts = await Promise.all(
		sizes.map((size, i) => {
			const body = { HostConfig: { Memory: size * MIB } };
			return place(i % 2 ? one : two, `abc_s${i}_1`, body);
		}),
	);
	for (const name of ["h1", "h2"]) {
		const there = sizes.filter((_, i) => hosts[i] === name);
		const sum = there.reduce((all, size) => all + size, 0);
		t.true(sum > 700 && sum <= 1024, `${name}: ${sum} MiB`);
	}
});

test("sixty that fit through one gateway have each a place", async (t) => {
	const [one] = await stage(t);
	const body = { HostConfig: { Memory: 10 * MIB } };
	const names = Array.from({ length: 60 }, (_, i) => `abc_s${i}_1`);
	const hosts = await Promise.all(names.map((name) => place(one, name, body)));
	t.deepEqual(
		hosts.filter((host) => !/^h/.test(host)),
		[],
	);
});

test("a hundred that fit on the one host that is possible have each a place there", async (t) => {
	const gateways = await stage(t);
	const body = {
		Env: ["constraint:node==h1"],
		HostConfig: { Memory: 6 * MIB },
	};
	const hosts = await Promise.all(
		Array.from({ length: 100 }, (_, i) =>
			place(gateways[i % 2] as Allocator, `abc_s${i}_1`, body),
		),
	);
	t.deepEqual(
		hosts.filter((host) => host !== "h1"),
		[],
	);
});
