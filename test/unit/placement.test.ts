import test, { type ExecutionContext } from "ava";
import type {
	ContainerCreate,
	ContainerInspect,
} from "../../pipeline/docker.ts";
import type { Plugin } from "../../pipeline/plugin.ts";
import {
	type HostRecord,
	type HostState,
	hostKeys,
} from "../../pipeline/state/hosts.ts";
import { Store } from "../../pipeline/state/store.ts";
import { until } from "../e2e/stage.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator, type AllocatorOptions } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

/** The example that the tutorial names. */
const QUIET = new URL(
	"../../../examples/plugins/arpanet-plugin-quiet-hosts/index.js",
	import.meta.url,
).href;

/** A Consul of its own, hosts that are announced in it, and a gateway on each of the first three. */
interface Stage {
	consul: TestConsul;
	gateways: Allocator[];
	store: Store;
	engines: Record<string, EngineDouble>;
}

async function stage(
	t: ExecutionContext,
	hosts: Partial<HostRecord & HostState>[],
	options: AllocatorOptions = {},
): Promise<Stage> {
	const consul = await startConsul();
	const store = new Store({ address: consul.address });
	for (const [i, { load = 0, ...more }] of hosts.entries()) {
		const name = `h${i + 1}`;
		const record: HostRecord = {
			...{ name, address: `10.213.0.${i + 1}` },
			engine: "tcp://127.0.0.1:1",
			...{ cpus: 2, memory: 2 ** 30 },
			...more,
		};
		const alive: HostState = { load, address: record.address };
		await store.commit([
			{ verb: "set", key: hostKeys(name).record, value: record },
			{ verb: "set", key: hostKeys(name).alive, value: alive },
		]);
	}
	const engines = Object.fromEntries(
		hosts.map((_, i) => [`h${i + 1}`, new EngineDouble()]),
	);
	const gateways = hosts.slice(0, 3).map(
		(_, i) =>
			new Allocator(consul.address, {
				size: 2000,
				host: `h${i + 1}`,
				engines,
				...options,
			}),
	);
	await Promise.all(gateways.map((gateway) => gateway.follow()));
	t.teardown(async () => {
		for (const gateway of gateways) gateway.close();
		store.close();
		await consul.stop();
	});
	return { consul, gateways, store, engines };
}

/** Where a create puts a copy; `refused: …` if it does not. */
async function place(
	gateway: Allocator | undefined,
	name: string,
	body: ContainerCreate = {},
): Promise<string> {
	const [deployment = "", service = ""] = name.split("_");
	const Labels = { "arpanet.service": service, ...body.Labels };
	try {
		const made = await gateway?.create(deployment, name, { ...body, Labels });
		return made?.body.Labels?.["arpanet.host"] ?? "";
	} catch (error) {
		return `refused: ${(error as Error).message}`;
	}
}

function counts(places: string[]): Record<string, number> {
	const found: Record<string, number> = {};
	for (const place of places) found[place] = (found[place] ?? 0) + 1;
	return found;
}

function spreadOf(places: string[], hosts: number): number {
	const each = Object.values(counts(places));
	const least = each.length < hosts ? 0 : Math.min(...each);
	return Math.max(...each) - least;
}

test("100 creates at once through three gateways: hosts are within one container of even", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}]);
	const places = await Promise.all(
		Array.from({ length: 100 }, (_, i) =>
			place(gateways[i % 3], `abc_pricing_${i + 1}`),
		),
	);
	t.deepEqual(Object.keys(counts(places)).sort(), ["h1", "h2", "h3"]);
	t.true(spreadOf(places, 3) <= 1, JSON.stringify(counts(places)));
});

test("creates of several services at once: each of them is even", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}]);
	const names = Array.from(
		{ length: 100 },
		(_, i) => `abc_s${i % 4}_${Math.floor(i / 4) + 1}`,
	);
	const places = await Promise.all(
		names.map((name, i) => place(gateways[(i * 7) % 3], name)),
	);
	for (const service of ["s0", "s1", "s2", "s3"]) {
		const own = places.filter((_, i) => names[i]?.includes(service));
		t.true(spreadOf(own, 3) <= 1, `${service}: ${JSON.stringify(counts(own))}`);
	}
});

test("creates of what is no copy of a service at once: all of them together are even", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}]);
	const Labels = { "com.docker.compose.oneoff": "True" };
	const places = await Promise.all(
		Array.from({ length: 60 }, (_, i) =>
			place(gateways[i % 3], `abc_run${i}_1`, { Labels }),
		),
	);
	t.true(spreadOf(places, 3) <= 1, JSON.stringify(counts(places)));
});

test("alone at its gateway a create is one write and no read", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}]);
	const [gateway] = gateways;
	await place(gateway, "abc_web_1");
	const before = gateway?.store.requests ?? 0;
	for (let i = 2; i <= 21; i++) await place(gateway, `abc_web_${i}`);
	t.is((gateway?.store.requests ?? 0) - before, 20);
});

test("a container that is given back makes room, also for other gateways", async (t) => {
	const { gateways } = await stage(t, [{}, {}]);
	const [one, two] = gateways;
	const first = await place(one, "abc_web_1");
	const second = await place(two, "abc_web_2");
	t.not(first, second);
	await one?.remove("abc_web_1");
	await until(
		async () => two?.services.slots.use(first).count,
		(count) => count === 0,
	);
	t.is(await place(two, "abc_web_3"), first);
	t.is(await place(one, "abc_db_1"), "h1");
});

test("a drain is seen by the next create of any gateway, though nobody has told it", async (t) => {
	const { gateways, store } = await stage(t, [{}, {}]);
	t.is(await place(gateways[0], "abc_web_1"), "h1");
	const key = hostKeys("h2").record;
	const record = await store.get<HostRecord>(key);
	const value = { ...record?.value, drained: true };
	await store.commit([{ verb: "set", key, value }]);
	t.is(await place(gateways[0], "abc_web_2"), "h1");
	t.is(await place(gateways[1], "abc_web_3"), "h1");
});

test("a create that is tried again goes where its first try may have gone", async (t) => {
	const { gateways } = await stage(t, [{}, {}]);
	const [one, two] = gateways;
	const first = await place(two, "abc_web_1");
	await place(one, "abc_web_2", {});
	t.is(await place(one, "abc_web_1"), first);
});

test("a create that is tried again goes nowhere else, though the host of its first try takes nothing any more", async (t) => {
	const { gateways } = await stage(t, [{}, {}]);
	const [one, two] = gateways;
	const first = await place(two, "abc_web_1");
	const Env = [`constraint:node!=${first}`];
	const refused = await place(one, "abc_web_1", { Env });
	t.regex(
		refused,
		/^refused: placement: an earlier create of abc_web_1 may still be under way on host h\d, where it cannot go now \(.*\); try again in a minute, or, if that host is gone for good, arpanet host rm h\d$/,
	);
	t.is(await place(one, "abc_web_1"), first);
	t.not(await place(one, "abc_web_2", { Env }), first);
});

test("hard rules hold whoever places at the same moment: fixed ports, exclusive copies", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}]);
	const HostConfig = { PortBindings: { "80/tcp": [{ HostPort: "80" }] } };
	const ports = await Promise.all(
		Array.from({ length: 12 }, (_, i) =>
			place(gateways[i % 3], `abc_p${i}_1`, { HostConfig }),
		),
	);
	const placed = ports.filter((each) => /^h/.test(each));
	t.deepEqual(placed.sort(), ["h1", "h2", "h3"]);
	for (const each of ports.filter((one) => !/^h/.test(one))) {
		t.is(each.split(/h\d: port 80\/tcp is taken/).length, 4, each);
	}
	const Labels = { "arpanet.exclusive": "true" };
	const copies = await Promise.all(
		Array.from({ length: 12 }, (_, i) =>
			place(gateways[i % 3], `abc_only_${i + 1}`, { Labels }),
		),
	);
	t.deepEqual(copies.filter((each) => /^h/.test(each)).sort(), [
		"h1",
		"h2",
		"h3",
	]);
});

test("copies that are made anew at once take over their ports, though others take what else they ask for", async (t) => {
	const { gateways } = await stage(t, [{}, {}, {}], { size: 12 });
	const HostConfig = { PortBindings: { "80/tcp": [{ HostPort: "80" }] } };
	const Labels = { "arpanet.service": "web" };
	for (const i of [1, 2, 3]) {
		await place(gateways[i - 1], `abc_web_${i}`, { HostConfig });
	}
	const [anew] = await Promise.all([
		Promise.all(
			[1, 2, 3].map(async (i) => {
				const name = `0123456789ab_abc_web_${i}`;
				const body = { HostConfig, Labels };
				const made = await gateways[i % 3]?.create("abc", name, body);
				return made?.body.Labels?.["arpanet.host"];
			}),
		),
		...Array.from({ length: 6 }, (_, i) =>
			place(gateways[i % 3], `abc_db_${i}`),
		),
	]);
	t.deepEqual(anew.sort(), ["h1", "h2", "h3"]);
});

test("a port on one address leaves the other addresses of the host", async (t) => {
	const { gateways } = await stage(t, [{}, { drained: true }]);
	const on = (HostIp: string, name: string) =>
		place(gateways[0], name, {
			HostConfig: { PortBindings: { "80/tcp": [{ HostPort: "80", HostIp }] } },
		});
	t.is(await on("10.0.0.1", "abc_a_1"), "h1");
	t.is(await on("10.0.0.2", "abc_b_1"), "h1");
	t.regex(
		await on("10.0.0.2", "abc_c_1"),
		/h1: port 10.0.0.2:80\/tcp is taken by abc_b_1/,
	);
	t.regex(
		await on("", "abc_d_1"),
		/h1: port 80\/tcp is taken by abc_\w_1; h2: it is drained/,
	);
});

test("memory and processors run out, and a container that is removed gives them back", async (t) => {
	const { gateways } = await stage(t, [{}, {}]);
	const take = (name: string, memory: number, cpus: number) =>
		place(gateways[0], name, {
			HostConfig: { MemoryReservation: memory * 2 ** 20, NanoCpus: cpus * 1e9 },
		});
	t.is(await take("abc_a_1", 600, 0), "h1");
	t.is(await take("abc_b_1", 600, 0), "h2");
	t.regex(
		await take("abc_c_1", 600, 0),
		/h1, h2: 600 MiB of memory are asked for, and of its 1 GiB 600 MiB are reserved/,
	);
	t.regex(
		await take("abc_d_1", 0, 3),
		/h1, h2: 3 CPUs are asked for, and of its 2 0 are reserved/,
	);
	await gateways[0]?.remove("abc_a_1");
	t.is(await take("abc_c_1", 600, 2), "h1");
});

test("with spread the busy host gets one container less, with more weight for load it gets none", async (t) => {
	const { gateways } = await stage(t, [{ load: 0.9 }, { load: 0.1 }]);
	const even = [];
	for (let i = 1; i <= 5; i++)
		even.push(await place(gateways[0], `abc_s${i}_1`));
	t.deepEqual(counts(even), { h1: 2, h2: 3 });
	const weighed = await stage(t, [{ load: 0.9 }, { load: 0.1 }], {
		configs: {
			placement: { strategy: "spread", load: 10, overcommit: 0, shared: [] },
		},
	});
	for (let i = 1; i <= 5; i++) {
		t.is(await place(weighed.gateways[0], `abc_s${i}_1`), "h2");
	}
});

test("one host is asked for no more than its user says in so many words", async (t) => {
	const { gateways } = await stage(t, [{}]);
	const HostConfig = {
		PortBindings: { "80/tcp": [{ HostPort: "80" }] },
		Memory: 2 ** 40,
	};
	t.is(await place(gateways[0], "abc_a_1", { HostConfig }), "h1");
	t.is(await place(gateways[0], "abc_a_2", { HostConfig }), "h1");
	t.regex(
		await place(gateways[0], "abc_b_1", { Env: ["constraint:node==h2"] }),
		/h1: constraint node==h2 is not met \(node is h1\)/,
	);
	const plain = await gateways[0]?.containers.create({
		...{ name: "plain", headers: {}, onlyHost: undefined },
		body: { Image: "busybox", Env: ["constraint:node==h2"] },
	});
	t.is(plain, undefined); // goes on untouched
});

test("a plugin of one's own filters and scores", async (t) => {
	const quiet = (await import(QUIET)).default as Plugin;
	const { gateways } = await stage(t, [{}, {}, {}], {
		more: [quiet],
		configs: { "quiet-hosts": { avoid: ["h1"], prefer: ["h3"] } },
	});
	t.is(await place(gateways[0], "abc_a_1"), "h3");
	t.is(await place(gateways[0], "abc_b_1"), "h2"); // h3 has one more by now, which counts as much
	t.regex(
		await place(gateways[0], "abc_c_1", { Env: ["constraint:node==h1"] }),
		/h1: is being looked after/,
	);
});

for (const [what, judge, answer] of [
	[
		"throws",
		() => {
			throw new Error("oops");
		},
		"refused: plugin mine: place failed: oops",
	],
	[
		"throws for a host",
		() => ({
			filter: () => {
				throw new Error("oops");
			},
		}),
		"refused: plugin mine: place failed: oops",
	],
	[
		"filters later",
		() => ({ filter: async () => undefined }),
		"refused: plugin mine: place failed: its filter gave [object Promise]; give a reason, or undefined",
	],
	[
		"scores by no number",
		() => ({ score: () => Number.NaN }),
		"refused: plugin mine: place failed: its score gave NaN; give a number",
	],
	["has no reason and no score", () => ({ filter: () => false }), "h1"],
	["has nothing to say", () => null, "h1"],
] as const) {
	test(`a plugin's place that ${what}`, async (t) => {
		const mine = { name: "mine", setup: () => ({ place: judge }) };
		const more = [mine as unknown as Plugin];
		const { gateways } = await stage(t, [{}], { more });
		t.is(await place(gateways[0], "abc_a_1"), answer);
	});
}

test("what Consul has lost of a container's place is put back", async (t) => {
	const { gateways, store } = await stage(t, [{}, {}]);
	const [gateway] = gateways as [Allocator];
	const { body } = await gateway.create("abc", "abc_web_1", {
		HostConfig: { PortBindings: { "80/tcp": [{ HostPort: "80" }] } },
	});
	const before = await store.list("arpanet/");
	const ours = before.filter(
		({ key }) => !/hosts|networks|subnets|gateways|leases|counts/.test(key),
	);
	t.is(ours.length, 5); // record, reasons, slot, copy, port
	for (const { key } of ours) await store.commit([{ verb: "delete", key }]);
	const id = gateway.docker.create("abc_web_1", body);
	const container = gateway.docker.containers.get(id);
	await gateway.reconcile.adopt(container as ContainerInspect);
	const slot = `arpanet/slots/h1/${body.Labels?.["arpanet.slot"]}`;
	t.like((await store.get(slot))?.value, {
		container: "abc_web_1",
		ports: ["80/tcp"],
	});
	t.truthy(await store.get("arpanet/ports/h1/80-tcp"));
});
