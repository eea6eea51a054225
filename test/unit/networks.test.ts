import { setTimeout } from "node:timers/promises";
import test from "ava";
import type { NetworkCreate } from "../../pipeline/docker.ts";
import { Leases } from "../../pipeline/state/leases.ts";
import type { NetworkRecord, Networks } from "../../pipeline/state/networks.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator, type AllocatorOptions } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

let consul: TestConsul;
const allocators: Allocator[] = [];

test.before(async () => {
	consul = await startConsul();
});
test.after.always(async () => {
	for (const allocator of allocators) allocator.close();
	await consul?.stop();
});

function newAllocator(options?: AllocatorOptions): Allocator {
	const allocator = new Allocator(consul.address, options);
	allocators.push(allocator);
	return allocator;
}

/** As Compose asks for it. */
function composeNetwork(project: string) {
	const labels = {
		"com.docker.compose.project": project,
		"com.docker.compose.network": "default",
	};
	return { Name: `${project}_default`, Labels: labels };
}

test("a network that another adapter has given back is made anew", async (t) => {
	const [one, two] = [newAllocator(), newAllocator()];
	await one.networks.create(composeNetwork("twice"), {});
	await two.networks.removed("twice_default");
	const body = await one.networks.create(composeNetwork("twice"), {});
	t.truthy(body?.IPAM?.Config?.[0]?.Subnet);
	t.truthy(await two.services.networks.byName("twice_default"));
});

test("a deployment cannot have the name of a service that is in Consul anyway", async (t) => {
	const { networks, services } = newAllocator();
	const refused = networks.create(composeNetwork("consul"), {});
	await t.throwsAsync(refused, {
		message: /^dhcp: Consul has a service consul, .*another deployment id/,
	});
	t.is(await services.networks.byName("consul_default"), undefined);
});

test("a network has its name alone, also when a deployment comes that would call its own so", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const allocator = newAllocator({ plugins });
	const Labels = { "arpanet.deployment": "hand" };
	await allocator.networks.create({ Name: "zed_default", Labels }, {});
	const message =
		/^network with name zed_default already exists: it is of deployment hand;/;
	await t.throwsAsync(allocator.create("zed", "zed_web_1"), { message });
	const compose = allocator.networks.create(composeNetwork("zed"), {});
	await t.throwsAsync(compose, { message });
});

test("the late news of an old network's end takes none of the new one of its name", async (t) => {
	const { networks, services } = newAllocator();
	const vni = async () =>
		(await services.networks.byName("fast_default"))?.value.vni;
	await networks.create(composeNetwork("fast"), {});
	const granted = (await vni()) ?? 0;
	await networks.removed("fast_default", "old"); // the engine has none yet
	t.is(await vni(), granted);

	const old = { ...(await services.networks.byName("fast_default"))?.value };
	await networks.retire({ ...old, vni: granted - 1 } as NetworkRecord);
	t.is(await vni(), granted);

	await networks.created("fast_default", "new");
	await networks.removed("fast_default", "new");
	t.is(await vni(), undefined);
});

test("a VNI is no other network's, also when Consul has lost the last one given", async (t) => {
	const { networks, services } = newAllocator();
	const vniOf = async (name: string) => {
		await networks.create(composeNetwork(name), {});
		return (await services.networks.byName(`${name}_default`))?.value.vni ?? 0;
	};
	const first = await vniOf("vnia");
	await services.store.commit([
		{ verb: "delete", key: "arpanet/subnets-serial" },
	]);
	t.true((await vniOf("vnib")) > first);
});

test("the address on record of a host's bridge is the one that it has, unless another has that by now", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const allocator = newAllocator({ plugins });
	const { docker, store, reconcile } = allocator;
	const { body } = await allocator.create("bridged", "bridged_web_1");
	docker.create("bridged_web_1", body);
	const gateway = "arpanet/gateways/bridged/h1";
	const lease = (address: string) => `arpanet/leases/bridged/${address}`;
	const own = (await store.get<string>(gateway))?.value ?? "";
	const other = own.replace(/\d+$/, "200");
	const wrong = async (holder: object) => {
		const [set, value] = [
			"set",
			{ host: "h1", deployment: "bridged" },
		] as const;
		await store.commit([
			{ verb: set, key: gateway, value: other },
			{ verb: set, key: lease(other), value },
			{ verb: set, key: lease(own), value: { ...value, ...holder } },
		]);
		const listed = await docker.engine.listContainers("arpanet.host");
		await reconcile.sweep(listed);
		return (await store.get(gateway))?.value;
	};
	t.is(await wrong({}), own);
	t.is(await store.get(lease(other)), undefined);
	t.is(await wrong({ container: "bridged_web_9" }), other);
});

test("a bridge's address is no other's, also when somebody has deleted its lease", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const one = newAllocator({ plugins, size: 5 });
	await one.create("bare", "bare_web_1");
	const { store } = one;
	const bridge = (await store.get<string>("arpanet/gateways/bare/h1"))?.value;
	await store.commit([
		{ verb: "delete", key: `arpanet/leases/bare/${bridge}` },
	]);
	const two = newAllocator({ plugins, size: 5 });
	two.docker.networks = one.docker.networks; // one engine
	const given: string[] = [];
	for (let i = 2; i <= 5; i++) {
		given.push((await two.create("bare", `bare_web_${i}`)).address);
	}
	t.false(given.includes(bridge ?? ""), given.join());
	await one.reconcile.sweep([]);
	t.like(await store.get(`arpanet/leases/bare/${bridge}`), {
		value: { host: "h1" },
	});
});

test("a network whose record alone is lost keeps its subnet, whoever needs it first", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const one = newAllocator({ plugins });
	const other = newAllocator({ plugins, host: "h2" });
	const network = async () => {
		await one.services.networks.list();
		return (await one.services.networks.get("lost"))?.value;
	};
	const lose = (...keys: string[]) =>
		one.store.commit(
			["networks/lost", ...keys].map((key) => ({
				verb: "delete",
				key: `arpanet/${key}`,
			})),
		);
	const { body } = await one.create("lost", "lost_web_1");
	one.docker.create("lost_web_1", body);
	const before = await network();
	const bridge = await one.services.networks.bridges.address("lost", "h1");
	t.truthy(bridge);

	// its host's agent, with whatever else is lost
	for (const key of [
		"hosts/none",
		"gateways/lost/h1",
		`leases/lost/${bridge}`,
	]) {
		await lose(key);
		await one.reconcile.sweep([]);
		t.is((await network())?.subnet, before?.subnet, key);
		t.is(
			await one.services.networks.bridges.address("lost", "h1"),
			bridge,
			key,
		);
		t.like(await one.store.get(`arpanet/leases/lost/${bridge}`), {
			value: { host: "h1" },
		});
	}

	// a create on a host that has nothing of it yet
	await lose();
	const { address } = await other.create("lost", "lost_web_2");
	t.is((await network())?.subnet, before?.subnet);
	const leases = await one.store.keys("arpanet/leases/lost/");
	t.is(
		new Set(leases).size,
		4,
		`${leases} are two containers' and two bridges'`,
	);
	t.true(leases.includes(`arpanet/leases/lost/${address}`));
});

test("a network that two give back at once takes no other's subnet along", async (t) => {
	const [one, two, three] = [1, 2, 3].map(
		() => newAllocator().services.networks,
	) as [Networks, Networks, Networks];
	const wanted = (scope: string) => ({
		scope,
		deployment: scope,
		name: `${scope}_default`,
		host: "h1",
		implicit: false,
	});
	const pool = { pool: "10.99.0.0/16", reserved: [], size: 254 };
	const grant = async (scope: string) =>
		(await three.ensure(wanted(scope), pool)).value.subnet;
	const old = await grant("old");
	let fresh = "";
	// the first waits for Docker, and meanwhile the second is through with all of it
	await one.retire("old", async () => {
		t.true(await two.retire("old", async () => {}));
		three.forget("old");
		fresh = await grant("fresh");
	});
	t.is(fresh, old);
	t.not(await grant("next"), fresh);
});

test("what would join a network that is being given back waits until that is done, and gets no address there", async (t) => {
	const [one, two] = [newAllocator(), newAllocator()];
	await one.networks.create(composeNetwork("going"), {});
	const joining = async () => {
		const HostConfig = { NetworkMode: "going_default" };
		const made = await two.create("going", "going_web_1", { HostConfig });
		return made.address;
	};
	let joined: ReturnType<typeof joining> | undefined;
	const isGone = await one.services.networks.retire("going", async () => {
		joined = joining();
		await setTimeout(300);
	});
	t.true(isGone);
	t.is(await joined, "");
	t.deepEqual(await one.store.keys("arpanet/leases/going/"), []);
});

test("who was slow to give a network back leaves the one that was granted after it", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const [one, two] = [newAllocator({ plugins }), newAllocator({ plugins })];
	two.docker.networks = one.docker.networks; // one engine
	await one.create("slow", "slow_web_1");
	const { networks } = one.services;
	const { bridges } = networks;
	const slow = bridges.hosts.bind(bridges);
	bridges.hosts = async (scope) => {
		bridges.hosts = slow;
		const found = await slow(scope);
		await two.services.networks.retire("slow", async () => {});
		two.docker.networks.delete("slow_default");
		await two.create("slow", "slow_web_2");
		return found;
	};
	await one.remove("slow_web_1");
	t.true(two.docker.networks.has("slow_default"));
});

test("a network whose record came back with another home has one id for clients", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const [one, two] = ["h1", "h2"].map((host) =>
		newAllocator({ plugins, host }),
	) as [Allocator, Allocator];
	const { store } = one;
	for (const each of [one, two]) {
		const { host } = each.services;
		await each.create("homes", `homes_web_${host.name}`, {
			Labels: { "arpanet.host": host.name },
		});
	}
	const network = await store.get<{ host: string }>("arpanet/networks/homes");
	const { host = "" } = network?.value ?? {};
	const other = host === "h1" ? "h2" : "h1";
	const key = (of: string) => `arpanet/network-ids/homes/${of}`;
	const value = { name: "homes_default", id: "homes_default" };
	await store.commit([
		{ verb: "set", key: key(host), value },
		{ verb: "set", key: key(other), value: { ...value, home: true } },
	]);
	for (const each of [one, two]) {
		const { ids } = each.services.networks;
		const home = { scope: "homes", name: "homes_default", host };
		await ids.set(home, each.services.host.name, "homes_default");
	}
	t.true((await store.get<{ home?: true }>(key(host)))?.value.home);
	t.is((await store.get<{ home?: true }>(key(other)))?.value.home, undefined);
});

test("a range of IPv6 stays as the user gave it", async (t) => {
	const asked = [{ Subnet: "2001:db8::/64" }, { Subnet: "172.28.5.0/24" }];
	const body = await newAllocator().networks.create(
		{ ...composeNetwork("six"), IPAM: { Config: asked } },
		{},
	);
	t.deepEqual(body?.IPAM?.Config, [
		{ Subnet: "172.28.5.0/24", Gateway: "172.28.5.1" },
		{ Subnet: "2001:db8::/64" },
	]);
});

test("a network without IPv4 has no subnet of ours, and stays as it was asked for", async (t) => {
	const { networks, services } = newAllocator();
	const asked = { ...composeNetwork("six-alone"), EnableIPv4: false };
	t.deepEqual(await networks.create(asked, {}), asked);
	t.is(await services.networks.byName("six-alone_default"), undefined);
});

test("a network that has another subnet since we read it is not taken down", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const [one, two] = [newAllocator({ plugins }), newAllocator({ plugins })];
	two.docker.networks = one.docker.networks; // one engine
	await one.create("moved", "moved_web_1");
	await two.remove("moved_web_1");
	await two.create("squatter", "squatter_web_1"); // has the subnet now
	const { address } = await two.create("moved", "moved_web_2");
	const made = one.docker.networks.get("moved_default");

	const { body } = await one.create("moved", "moved_web_3");
	t.is(one.docker.networks.get("moved_default"), made);
	const own = body.NetworkingConfig?.EndpointsConfig?.moved_default;
	const third = own?.IPAMConfig?.IPv4Address;
	t.is(third?.split(".")[2], address.split(".")[2]);
});

test("who acquired for a create that Consul does not take gives it back", async (t) => {
	const held = new Set<string>();
	const allocator = newAllocator({
		more: [
			{
				name: "elsewhere",
				setup: () => ({
					create: ({ recordName }) => void held.add(recordName),
					removed: () => held.clear(),
				}),
			},
		],
	});
	const commit = allocator.store.commit.bind(allocator.store);
	allocator.store.commit = async (operations) => {
		const isRecord = operations.some(
			(each) => "key" in each && each.key.startsWith("arpanet/containers/"),
		);
		if (isRecord) throw new Error("away");
		return commit(operations);
	};
	await t.throwsAsync(allocator.create("undone", "undone_web_1"), {
		message: "away",
	});
	t.is(held.size, 0);
});

test("a container of an image that was committed from another takes nothing from it", async (t) => {
	const allocator = newAllocator();
	const { containers, docker, services } = allocator;
	const { body } = await allocator.create("whole", "whole_web_1");
	docker.create("whole_web_1", body);
	const id = docker.create("copy", { Labels: body.Labels ?? {} });
	const record = await services.containers.get("whole_web_1");

	await containers.renamed(id);
	docker.containers.delete(id);
	await containers.removed("copy", record?.value.facts ?? {}, id);
	t.deepEqual(await services.containers.get("whole_web_1"), record);
});

test("in a subnet that the user has chosen further hosts' bridges leave him the lower end", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const body = {
		...composeNetwork("fixed"),
		IPAM: { Config: [{ Subnet: "172.29.5.0/24" }] },
	};
	const { networks, services } = newAllocator({ plugins });
	await networks.create(body, {});
	const network = await services.networks.byName("fixed_default");
	const leases = new Leases(services.store);
	const bridge = await services.networks.bridges.ensure(
		network as NonNullable<typeof network>,
		"h2",
		() => leases.pickForBridge((network as NonNullable<typeof network>).value),
	);
	t.is(bridge, "172.29.5.254");
});

test("a network that its user makes anew while containers hold addresses in it is on every host as he asks for it now", async (t) => {
	const consul = await startConsul();
	const engines = { h1: new EngineDouble(), h2: new EngineDouble() };
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const h1 = new Allocator(consul.address, { engines, plugins });
	t.teardown(async () => {
		h1.close();
		await consul.stop();
	});
	await h1.announce(Object.keys(engines));
	await h1.follow();
	const make = async (more: Partial<NetworkCreate> = {}) => {
		const asked = { ...composeNetwork("changed"), ...more };
		const body = await h1.networks.create(asked, {});
		engines.h1.networks.set(asked.Name, { ...asked, ...body, Id: "a1" });
		await h1.networks.created(asked.Name, "a1");
		return body?.IPAM?.Config?.[0]?.Subnet;
	};
	const fill = (host: string, name: string) =>
		h1.create("changed", name, {
			HostConfig: { NetworkMode: "changed_default" },
			Env: [`constraint:node==${host}`],
		});
	const before = await make();
	await fill("h2", "changed_web_1");
	t.false(engines.h2.networks.get("changed_default")?.Internal ?? false);

	t.true(engines.h2.networks.has("changed_default"));
	engines.h1.networks.delete("changed_default");
	await h1.networks.removed("changed_default");
	t.false(engines.h2.networks.has("changed_default"));
	await t.throwsAsync(
		make({ Internal: true, IPAM: { Config: [{ Subnet: "10.99.0.0/24" }] } }),
		{ message: /changed_default in \S+; remove them .* have 10.99.0.0\/24$/ },
	);
	const refused = await h1.services.networks.get("changed");
	t.not(refused?.value.body?.Internal, true, "nothing of what was refused");
	t.is(await make({ Internal: true }), before);
	await fill("h2", "changed_web_2");
	t.true(engines.h2.networks.get("changed_default")?.Internal);
});

test("a network's id beside its name is taken out, and one beside another's name refused: an engine goes by it alone", async (t) => {
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const { containers, docker, networks } = newAllocator({ plugins });
	const asked = composeNetwork("ided");
	const body = await networks.create(asked, {});
	const Id = "1d".padEnd(64, "0");
	docker.networks.set(asked.Name, { ...asked, ...body, Id });
	await networks.created(asked.Name, Id);
	const create = (network: string, NetworkID: string, Labels = {}) =>
		containers.create({
			name: undefined,
			headers: {},
			onlyHost: undefined,
			body: {
				Labels,
				HostConfig: { NetworkMode: network },
				NetworkingConfig: { EndpointsConfig: { [network]: { NetworkID } } },
			},
		});
	const { Name } = asked;
	for (const id of [Id, Id.slice(0, 12), Name]) {
		const made = await create(Name, id);
		const settings = made?.NetworkingConfig?.EndpointsConfig?.[Name];
		t.false(Object.hasOwn(settings ?? {}, "NetworkID"));
		t.truthy(settings?.IPAMConfig?.IPv4Address);
		for (const Labels of [{}, { "arpanet.enabled": "false" }]) {
			const refused = create("own", id, Labels);
			await t.throwsAsync(refused, { message: /own has NetworkID .* ided_/ });
		}
	}
	t.is(await create("own", "0".repeat(64)), undefined, "an engine's own");

	const id = docker.create("plain", {});
	const connect = (network: string, NetworkID: string) =>
		containers.connections.connect(network, {
			Container: id,
			EndpointConfig: { NetworkID },
		});
	const { EndpointConfig } = (await connect(Name, Id)) ?? {};
	t.deepEqual(Object.keys(EndpointConfig ?? {}), ["IPAMConfig"]);
	await t.throwsAsync(connect("own", Id), { message: /own has NetworkID/ });
	t.is(await connect("own", "0".repeat(64)), undefined);
});

test("a deployment that has the id of a network for all is not put into it unasked", async (t) => {
	const consul = await startConsul(); // others have one host
	const engines = { h1: new EngineDouble(), h2: new EngineDouble() };
	const plugins = ["deployment-id", "placement", "dhcp", "network"];
	const allocator = new Allocator(consul.address, { engines, plugins });
	t.teardown(async () => {
		allocator.close();
		await consul.stop();
	});
	await allocator.announce(Object.keys(engines));
	await allocator.follow();
	const { containers, networks } = allocator;
	await networks.create({ Name: "front" }, {});
	const create = (HostConfig = {}) =>
		containers.create({
			name: undefined,
			headers: {},
			onlyHost: undefined,
			body: { Labels: { "arpanet.deployment": "shared-front" }, HostConfig },
		});
	await t.throwsAsync(create(), {
		message: /shared-front belongs to network front .* another deployment id/,
	});
	const joined = await create({ NetworkMode: "front" });
	t.is(joined?.Labels?.["arpanet.network"], "shared-front");
});

test("the id of a network that is none of ours is known without Consul", async (t) => {
	const consul = await startConsul();
	const allocator = new Allocator(consul.address);
	t.teardown(() => allocator.close());
	const { containers, docker } = allocator;
	await consul.stop();
	const asked: [string, Record<string, string>][] = [
		["bridge", {}],
		["own", { "arpanet.enabled": "false" }],
	];
	for (const [Name, Labels] of asked) {
		const Id = `${docker.networks.size}e`.padEnd(64, "0");
		docker.networks.set(Name, { Name, Id });
		// as who makes a container anew from its inspection
		const body = {
			Labels,
			HostConfig: { NetworkMode: Name },
			NetworkingConfig: { EndpointsConfig: { [Name]: { NetworkID: Id } } },
		};
		const request = { name: "web", headers: {}, onlyHost: undefined, body };
		t.is(await containers.create(request), undefined, Name);
	}
});
