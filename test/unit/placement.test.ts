import test, { type ExecutionContext } from "ava";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import {
	type HostRecord,
	type HostState,
	hostKeys,
} from "../../pipeline/state/hosts.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator, type AllocatorOptions } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

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

test("creates of several services at once: each of them is even, and all of them together", async (t) => {
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
