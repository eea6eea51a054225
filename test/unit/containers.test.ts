import { setTimeout } from "node:timers/promises";
import test from "ava";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import type { HttpError } from "../../pipeline/errors.ts";
import { readLabels } from "../../pipeline/facts.ts";
import { contextOf } from "../../pipeline/lifecycle/holder.ts";
import type { Facts, Plugin } from "../../pipeline/plugin.ts";
import {
	Containers,
	type Holding,
	isReasons,
	reasonsKey,
} from "../../pipeline/state/containers.ts";
import { guestsOf } from "../../pipeline/state/guests.ts";
import { isLease, type Lease } from "../../pipeline/state/leases.ts";
import { slotKeyOf } from "../../pipeline/state/slots.ts";
import { Store } from "../../pipeline/state/store.ts";
import { builtins } from "../../plugins/index.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;
let store: Store;

test.before(async () => {
	consul = await startConsul();
	store = new Store({ address: consul.address });
});
test.after.always(async () => {
	store?.close();
	await consul?.stop();
});

/** Longer than a record may stay unwritten. */
const LONG_MS = 9_000;

test.serial(
	"the record of a create that is under way is written again, and missed if it is gone",
	async (t) => {
		const containers = new Containers(store);
		const facts = { host: "h1", network: "abc", address: "10.32.0.2" };
		const value = { facts, holds: [], attempts: 1 };
		const key = containers.key("abc_web_1");
		await store.commit([{ verb: "create", key, value }]);
		const before = await containers.get("abc_web_1");

		const kept = containers.keep("abc_web_1", facts);
		t.teardown(kept.end);
		await setTimeout(LONG_MS);
		await t.notThrowsAsync(kept.mustBeThere());
		const after = await containers.get("abc_web_1");
		t.like(after?.value, value);
		t.true((after?.index ?? 0) > (before?.index ?? 0));

		await store.commit([{ verb: "delete", key }]);
		await t.throwsAsync(kept.mustBeThere(), {
			message: "the create of abc_web_1 was given up meanwhile; try again",
		});
		t.is(await containers.get("abc_web_1"), undefined);
	},
);

test.serial(
	"a container without a name of its client's is found while its agent learns the one that Docker gave it",
	async (t) => {
		const facts = { host: "h1", slot: 7, made: "brave" };
		const slot = slotKeyOf(facts) ?? "";
		const containers = new Containers(store);
		const value = { facts, holds: [slot], attempts: 1 };
		const key = containers.key(".request");
		await store.commit([
			{ verb: "create", key, value },
			{ verb: "create", key: slot, value: { container: ".request" } },
		]);
		const record = await containers.get(".request");
		if (!record) throw new Error("nothing is on record");
		const rename = await containers.rename(record, "brave_tesla");

		let isNamed = false;
		const between: Pick<Store, "get"> = {
			async get(asked: string) {
				const entry = await store.get(asked);
				if (asked === slot && !isNamed) await store.commit(rename);
				isNamed ||= asked === slot;
				return entry as never;
			},
		};
		const found = await new Containers(between as Store).find("", facts);
		t.is(found?.key, containers.key("brave_tesla"));
		await store.commit([
			{ verb: "delete", key: containers.key("brave_tesla") },
			{ verb: "delete", key: slot },
		]);
	},
);

test.serial(
	"a start that would take a deployment's container out of its network is refused",
	async (t) => {
		const allocator = new Allocator(consul.address);
		t.teardown(() => allocator.close());
		const { containers, docker } = allocator;
		const { body } = await allocator.create("old", "old_web_1");
		docker.create("plain", {});
		const id = docker.create("old_web_1", body);
		const { status, message } = await t.throwsAsync<HttpError>(
			containers.starting("old_web_1", true),
		);
		t.is(status, 400);
		t.regex(message, /^container old_web_1 .* when it is created/);
		await t.notThrowsAsync(containers.starting("old_web_1"));
		await t.notThrowsAsync(containers.starting("plain", true));
		docker.containers.delete(id);
		await allocator.remove("old_web_1");
	},
);

for (const order of [
	["curious", "placement"],
	["placement", "curious"],
]) {
	test.serial(
		`a container without a deployment of which a plugin has found something is ours: ${order}`,
		async (t) => {
			const gone: unknown[] = [];
			const curious: Plugin = {
				name: "curious",
				setup: () => ({
					create: ({ facts }) => void Object.assign(facts, { colour: "red" }),
					removed: ({ facts }) => void gone.push(facts),
				}),
			};
			const allocator = new Allocator(consul.address, {
				plugins: ["deployment-id"],
				more: order.map((name) => builtins[name] ?? curious),
			});
			t.teardown(() => allocator.close());
			const { containers, docker, services } = allocator;
			const body = await containers.create({
				...{ name: "plain", body: {}, headers: {}, onlyHost: undefined },
			});
			const id = docker.create("plain", body ?? {});
			const found = await contextOf("plain", services);
			t.is(found?.container.Id, id);
			await containers.removing(found?.container as ContainerInspect);
			docker.containers.delete(id);
			await containers.removedByRef("plain");
			t.is(await services.containers.get("plain"), undefined);
			t.like(gone[0], { colour: "red", host: "h1" });
		},
	);
}

test.serial(
	"what a plugin of one's own holds of a container without a name, or one that was renamed, stays with it",
	async (t) => {
		let gone = 0;
		const curious: Plugin = {
			name: "curious",
			setup: () => ({
				create({ facts, hold, recordName }) {
					Object.assign(facts, { colour: "red" });
					hold(`mine/${recordName}`, 1);
				},
				removed: () => void gone++,
			}),
		};
		const allocator = new Allocator(consul.address, {
			...{ plugins: ["deployment-id", "placement"], more: [curious] },
		});
		t.teardown(() => allocator.close());
		const { containers, docker, reconcile, services, store } = allocator;
		for (const name of [undefined, "before"]) {
			const body = await containers.create({
				...{ name, body: {}, onlyHost: undefined },
				headers: { "x-arpanet-request": "r1" },
			});
			docker.create(`${name ?? "made"}_up`, body ?? {});
		}
		await reconcile.sweep(await docker.engine.listContainers("arpanet.host"));
		const held = ["mine/.r1", "mine/before"];
		t.deepEqual(await store.keys("mine/"), held);
		for (const [i, name] of ["made_up", "before_up"].entries()) {
			const record = await services.containers.get(name);
			t.true(record?.value.holds.includes(held[i] ?? ""), name);
		}
		t.is(gone, 0);
		docker.containers.clear();
		for (const name of ["made_up", "before_up"]) {
			await containers.createFailed(name, { "x-arpanet-request": "r1" });
		}
	},
);

test.serial(
	"a create that fails gives back its own record, and not that of another create of the name",
	async (t) => {
		const allocator = new Allocator(consul.address);
		t.teardown(() => allocator.close());
		const { containers, services } = allocator;
		const labels = { "arpanet.deployment": "abc", "arpanet.service": "web" };
		await containers.create({
			name: "abc_web_7",
			body: { Image: "busybox", Labels: labels },
			headers: { "x-arpanet-request": "one" },
			onlyHost: undefined,
		});
		await containers.createFailed("abc_web_7", { "x-arpanet-request": "two" });
		t.truthy(await services.containers.get("abc_web_7"));
		await containers.createFailed("abc_web_7", { "x-arpanet-request": "one" });
		t.is(await services.containers.get("abc_web_7"), undefined);
	},
);

test.serial(
	"a container of many networks is put back on record, given back, and made again",
	async (t) => {
		const host = new Allocator(consul.address, {
			plugins: "deployment-id placement dhcp expose network dns-search".split(
				" ",
			),
		});
		t.teardown(() => host.close());
		const { docker, containers, networks, services } = host;
		const made = await host.create("proxy", "proxy_web_1", {
			Labels: { "arpanet.expose": "true" },
		});
		const id = docker.create("proxy_web_1", made.body);
		const container = docker.containers.get(id) as ContainerInspect;
		for (let i = 0; i < 31; i++) {
			const Name = `d${i}_default`;
			const Id = `${i}`.padEnd(64, "a");
			const Labels = {
				"com.docker.compose.project": `d${i}`,
				"com.docker.compose.network": "default",
			};
			const body = await networks.create({ Name, Labels }, {});
			docker.networks.set(Name, { Name, ...body, Id });
			await networks.created(Name, Id);
			const connect = { Container: id };
			const connected = await containers.connections.connect(Name, connect);
			container.NetworkSettings.Networks[Name] =
				connected?.EndpointConfig ?? {};
		}
		const exposed = await store.keys("arpanet/exposed/");
		t.is(exposed.length, 32);
		const whole = await services.containers.get("proxy_web_1");
		t.true((whole?.value.holds.length ?? 0) > 64);

		const lost = [services.containers.key("proxy_web_1")];
		for (const key of [...lost, ...(whole?.value.holds ?? [])])
			await store.commit([{ verb: "delete", key }]);
		await host.reconcile.adopt(container);
		const again = await services.containers.get("proxy_web_1");
		const leases = (keys: string[] = []) => keys.filter(isLease).sort();
		t.deepEqual(leases(again?.value.holds), leases(whole?.value.holds));
		t.deepEqual(await store.keys("arpanet/exposed/"), exposed);

		docker.containers.delete(id);
		await containers.removed("proxy_web_1", readLabels(made.body.Labels ?? {}));
		t.is(await services.containers.get("proxy_web_1"), undefined);
		const key = services.containers.key("proxy_web_1");
		await store.commit([{ verb: "create", key, value: whole?.value }]);
		const next = await host.create("proxy", "proxy_web_1"); // before any sweep
		await containers.removed("proxy_web_1", readLabels(next.body.Labels ?? {}));
		t.is(await services.containers.get("proxy_web_1"), undefined);
		const left = await store.list<Lease>("arpanet/leases/");
		t.deepEqual(
			left.filter(({ value }) => value.container === "proxy_web_1"),
			[],
		);
		t.deepEqual(await guestsOf(store), []);
	},
);

test.serial(
	"why a container got what it has is known after another has its name, and goes with it",
	async (t) => {
		const host = new Allocator(consul.address);
		t.teardown(() => host.close());
		const { docker, containers, services } = host;
		const make = async () => {
			const { body } = await host.create("redo", "redo_web_1");
			const id = docker.create("redo_web_1", body);
			return { id, facts: readLabels(body.Labels ?? {}) };
		};
		const first = await make();
		const old = "0123456789ab_redo_web_1"; // as Compose 1 calls it
		(docker.containers.get(first.id) as ContainerInspect).Name = `/${old}`;
		await containers.renamed(first.id);
		const reasons = (...names: string[]) => names.map(reasonsKey).sort();
		const kept = () => store.keys(reasonsKey(""));
		t.deepEqual(await kept(), reasons(old));
		await make();
		t.deepEqual(await kept(), reasons(old, "redo_web_1"));
		docker.containers.delete(first.id);
		await containers.removed(old, first.facts, first.id);
		t.deepEqual(await kept(), reasons("redo_web_1"));
		const record = await services.containers.get("redo_web_1");
		t.true(record?.value.holds.includes(reasonsKey("redo_web_1")));
	},
);

for (const NetworkMode of ["default", "host"]) {
	test.serial(
		`two containers (network_mode: ${NetworkMode}) that exchanged names while nobody looked are on record under their own`,
		async (t) => {
			const host = new Allocator(consul.address);
			t.teardown(() => host.close());
			const { docker, reconcile, services } = host;
			const names = ["blue", "green"].map((each) => `${NetworkMode}_${each}_1`);
			const made: [string, Facts][] = [];
			for (const name of names) {
				const { body } = await host.create(NetworkMode, name, {
					HostConfig: { NetworkMode },
				});
				const id = docker.create(name, body);
				made.push([id, readLabels(body.Labels ?? {})]);
			}
			for (const [i, [id]] of made.entries()) {
				const container = docker.containers.get(id) as ContainerInspect;
				container.Name = `/${names[1 - i]}`;
			}
			await reconcile.sweep(await docker.engine.listContainers(""));
			for (const [i, [, facts]] of made.entries()) {
				const name = names[1 - i] as string;
				const record = await services.containers.get(name);
				t.deepEqual(record?.value.facts, facts);
				const holds = record?.value.holds ?? [];
				t.true(holds.includes(reasonsKey(name)));
				for (const key of holds.filter((held) => !isReasons(held))) {
					const held = await store.get<Holding>(key);
					t.is(held?.value.container, name, key);
				}
			}
		},
	);
}

test.serial(
	"a copy of a service that its label names is started elsewhere, whoever named the copy",
	async (t) => {
		const host = new Allocator(consul.address);
		t.teardown(() => host.close());
		const asked = { "arpanet.reschedule": "on-host-failure" };
		const madeOf = async (Labels: Record<string, string>) => {
			const body = { Labels: { "arpanet.deployment": "abc", ...Labels } };
			const headers = { "x-arpanet-request": crypto.randomUUID() };
			const request = { name: undefined, body, headers, onlyHost: undefined };
			const made = await host.containers.create(request);
			return made?.Labels?.["arpanet.facts"]?.split(",") ?? [];
		};
		const copy = await madeOf({ ...asked, "arpanet.service": "web" });
		t.true(copy.includes("reschedule"));
		t.false((await madeOf(asked)).includes("reschedule"));
	},
);

test.serial(
	"a create that is refused for its label keeps no place",
	async (t) => {
		const host = new Allocator(consul.address);
		t.teardown(() => host.close());
		const { services } = host;
		await services.slots.ready();
		const before = services.slots.use("h1").count;
		const Labels = { "arpanet.reschedule": "always" };
		await t.throwsAsync(host.create("abc", "abc_web_9", { Labels }), {
			message: /arpanet.reschedule=always is not known/,
		});
		t.is(services.slots.use("h1").count, before);
		t.is(await services.containers.get("abc_web_9"), undefined);
	},
);
