import test, { type ExecutionContext } from "ava";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { readLabels } from "../../pipeline/facts.ts";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { aliasesByDeployment } from "../../pipeline/state/aliases.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { EngineDouble, silent } from "./doubles.ts";

// what comes late, or a second time, of a container whose name and address another has by now

let consul: TestConsul;

test.before(async () => {
	consul = await startConsul();
});
test.after.always(() => consul?.stop());

/** A host, and a network of the deployment in which addresses are fixed. */
async function stage(t: ExecutionContext, deployment: string) {
	const plugins = "deployment-id placement dhcp links expose network";
	const host = new Allocator(consul.address, { plugins: plugins.split(" ") });
	t.teardown(() => host.close());
	const subnets = await host.store.keys("arpanet/subnets/");
	const subnet = `172.28.${subnets.length}`;
	const made = await host.networks.create(
		{
			Name: `${deployment}_front`,
			Labels: {
				"com.docker.compose.project": deployment,
				"com.docker.compose.network": "front",
			},
			IPAM: { Config: [{ Subnet: `${subnet}.0/24` }] },
		},
		{},
	);
	const Id = `3fa9${10 + subnets.length}`.padEnd(64, "0");
	const name = `${deployment}_front`;
	host.docker.networks.set(name, { Name: name, ...made, Id });
	await host.networks.created(name, Id);
	return { host, address: `${subnet}.50`, network: name, id: Id };
}

test.serial(
	"a container's end that is told late takes nothing from the next of its name and address",
	async (t) => {
		const { host, address, network } = await stage(t, "late");
		const create = async () => {
			const { body } = await host.create("late", "late_web_1", {
				HostConfig: { NetworkMode: network },
				NetworkingConfig: {
					EndpointsConfig: {
						[network]: { IPAMConfig: { IPv4Address: address } },
					},
				},
			});
			const id = host.docker.create("late_web_1", body);
			return { id, facts: readLabels(body.Labels ?? {}) };
		};
		const { containers, services } = host;
		const old = await create();
		host.docker.containers.delete(old.id);
		await containers.removed("late_web_1", old.facts, old.id); // the hook
		const next = await create();
		t.is(next.facts.address, old.facts.address);
		await containers.removed("late_web_1", old.facts, old.id); // the event
		const record = await services.containers.get("late_web_1");
		t.is(record?.value.facts.made, next.facts.made);
		const leases = await host.store.keys("arpanet/leases/late-front/");
		t.true(leases.includes(`arpanet/leases/late-front/${address}`));
		await containers.removed("late_web_1", next.facts, next.id);
		t.is(await services.containers.get("late_web_1"), undefined);
	},
);

/** A copy with a fixed address, which is made anew as Compose v2 does it, again and again. */
async function fixed(t: ExecutionContext, deployment: string) {
	const { host, address, network } = await stage(t, deployment);
	const name = `${deployment}-web-1`;
	const { containers, docker, services } = host;
	const body = {
		HostConfig: { NetworkMode: network },
		NetworkingConfig: {
			EndpointsConfig: { [network]: { IPAMConfig: { IPv4Address: address } } },
		},
	};
	const lease = `arpanet/leases/${deployment}-front/${address}`;
	return {
		host,
		name,
		lease,
		/** The container's name in the lease, and the names on record. */
		async state() {
			const held = await host.store.get<{ container: string }>(lease);
			const records = await services.containers.list();
			const names = records.map(({ key }) => services.containers.name(key));
			return {
				leased: held?.value.container,
				names: names.filter((each) => each.includes(name)).sort(),
			};
		},
		async make(as: string, Labels: Record<string, string> = {}) {
			const made = await host.create(deployment, as, { ...body, Labels });
			const id = docker.create(as, made.body);
			return { id, facts: readLabels(made.body.Labels ?? {}) };
		},
		refuse: (as: string, Labels: Record<string, string> = {}) =>
			host.create(deployment, as, { ...body, Labels }),
		async sweep() {
			await host.reconcile.sweep(await docker.engine.listContainers(""));
		},
		async end(id: string, as: string) {
			const { Config } = docker.containers.get(id) ?? {};
			docker.containers.delete(id);
			await containers.removed(as, readLabels(Config?.Labels ?? {}), id);
		},
		async rename(id: string, to: string) {
			const container = docker.containers.get(id);
			if (container) container.Name = `/${to}`;
			await containers.renamed(to);
		},
	};
}

test.serial(
	"a copy with a fixed address can be made anew any number of times",
	async (t) => {
		const { name, make, end, rename, state } = await fixed(t, "anew");
		let current = await make(name);
		for (let i = 0; i < 3; i++) {
			const aside = `0123456789ab_${name}`;
			const next = await make(aside);
			await end(current.id, name);
			t.deepEqual(await state(), { leased: aside, names: [aside] });
			await rename(next.id, name);
			t.deepEqual(await state(), { leased: name, names: [name] });
			current = next;
		}
		await end(current.id, name);
		t.deepEqual(await state(), { leased: undefined, names: [] });
	},
);

test.serial(
	"a copy whose successor Docker refuses has its fixed address again",
	async (t) => {
		const { host, name, make, refuse, end, rename, state, sweep } = await fixed(
			t,
			"refused",
		);
		const exposure = async () =>
			(await host.store.list("arpanet/exposed/refused")).map(
				({ value }) => value,
			);
		const labels = { "arpanet.service": "web", "arpanet.expose": "ops" };
		const old = await make(name, labels);
		const before = await exposure();
		const aside = `0123456789ab_${name}`;
		await refuse(aside, { ...labels, "arpanet.expose": "true" });
		t.is((await state()).leased, aside);
		await host.remove(aside);
		t.deepEqual(await state(), { leased: name, names: [name] });
		await sweep();
		t.deepEqual(await exposure(), before);
		const written = await host.services.containers.get(name);
		await sweep();
		const again = await host.services.containers.get(name);
		t.is(again?.index, written?.index); // all is as it should be
		const next = await make(aside);
		await end(old.id, name);
		await rename(next.id, name);
		t.deepEqual(await state(), { leased: name, names: [name] });
	},
);

test.serial(
	"a copy whose successor has its fixed address by now can be renamed",
	async (t) => {
		const { host, name, make, rename, state, sweep } = await fixed(t, "moved");
		const old = await make(name);
		const aside = `0123456789ab_${name}`;
		await make(aside);
		await rename(old.id, `${name}-old`);
		const names = [aside, `${name}-old`];
		t.deepEqual(await state(), { leased: aside, names });
		await sweep();
		t.deepEqual(await state(), { leased: aside, names });
		const slots = await host.store.list<{ container: string }>(
			"arpanet/slots/",
		);
		const of = slots.map(({ value }) => value.container);
		t.deepEqual(of.filter((each) => each.includes(name)).sort(), names);
	},
);

test.serial(
	"a lease that is gone is put back though no record holds it",
	async (t) => {
		const { host, name, lease, make, state, sweep } = await fixed(t, "nowhere");
		await make(name);
		const entry = await host.services.containers.get(name);
		if (!entry) throw new Error("no record");
		const { key, index, value } = entry;
		const holds = value.holds.filter((held) => held !== lease);
		await host.store.commit([
			{ verb: "update", key, index, value: { ...value, holds } },
			{ verb: "delete", key: lease },
		]);
		await sweep();
		t.deepEqual(await state(), { leased: name, names: [name] });
		const after = await host.services.containers.get(name);
		t.true(after?.value.holds.includes(lease));
	},
);

test.serial(
	"what an engine is asked for and may make yet keeps its name and its address",
	async (t) => {
		const { host } = await stage(t, "yet");
		const pipeline = new Pipeline(host, silent);
		await host.create("yet", "yet_web_1");
		const answered = (Code: number) =>
			pipeline.postHook(
				{
					PowerstripProtocolVersion: 1,
					Type: "post-hook",
					ClientRequest: {
						Method: "POST",
						Request: "/v1.41/containers/create?name=yet_web_1",
						Body: "{}",
					},
					ServerResponse: { ContentType: null, Body: null, Code },
				},
				{},
			);
		await answered(502); // no answer
		t.truthy(await host.services.containers.get("yet_web_1"));
		await answered(404);
		t.is(await host.services.containers.get("yet_web_1"), undefined);
	},
);

test.serial(
	"of two tries of a create the first's container may come to be: it keeps all that both held",
	async (t) => {
		const { host } = await stage(t, "twice");
		const Labels = {
			"arpanet.service": "web",
			"arpanet.reschedule": "on-host-failure",
		};
		const { body } = await host.create("twice", "twice_web_1", { Labels });
		await host.create("twice", "twice_web_1", { Labels });
		const before = await host.services.containers.get("twice_web_1");
		const id = host.docker.create("twice_web_1", body); // the first's
		const container = await host.docker.engine.inspectContainer(id);
		if (container) await host.reconcile.adopt(container);
		const record = await host.services.containers.get("twice_web_1");
		t.deepEqual(record?.value.holds, before?.value.holds);
		t.is(record?.value.facts.made, body.Labels?.["arpanet.made"]);
		const facts = readLabels(body.Labels ?? {});
		await host.containers.removed("twice_web_1", facts, id);
		t.is(await host.services.containers.get("twice_web_1"), undefined);
	},
);

test.serial(
	"a network's name goes before what an id begins with",
	async (t) => {
		const { host, id } = await stage(t, "named");
		const name = id.slice(0, 6); // of a network that is none of ours
		host.docker.networks.set(name, { Name: name, Id: "f".repeat(64) });
		const { body } = await host.create("named", "named_web_1", {
			HostConfig: { NetworkMode: name },
		});
		t.is(body.HostConfig?.NetworkMode, name);
		t.is(body.Labels?.["arpanet.address"], undefined);
		const { containers } = host;
		const plain = { Image: "busybox", HostConfig: { NetworkMode: name } };
		const request = { headers: {}, onlyHost: undefined };
		const made = await containers.create({
			name: "pg",
			body: plain,
			...request,
		});
		t.is(made?.Labels?.["arpanet.deployment"], undefined);
		const Container = host.docker.create("pg", made ?? {});
		const connected = await containers.connections.connect(name, { Container });
		t.is(connected, undefined, "it is none of ours");
	},
);

test.serial("a name that is tried again is what was asked last", async (t) => {
	const { host } = await stage(t, "again");
	const ask = (expose: string, link: string) =>
		host.create("again", "again_web_1", {
			Labels: { "arpanet.expose": expose, "arpanet.service": "web" },
			HostConfig: { Links: [link] },
		});
	await ask("true", "again_redis_1:cache");
	await ask("ops", "again_db_1:cache");
	const [exposed] = await host.store.list("arpanet/exposed/again");
	t.deepEqual(exposed?.value, { service: "web", to: ["ops"] });
	const found = await aliasesByDeployment(host.store);
	const [alias] = found.get("again") ?? [];
	t.like(alias, { alias: "cache", service: "db" });
});

test.serial(
	"a container that is not on record is connected to nothing until it is",
	async (t) => {
		const { host, network } = await stage(t, "off");
		const { body } = await host.create("off", "off_web_1");
		const id = host.docker.create("off_web_1", body);
		const entry = await host.services.containers.get("off_web_1");
		await host.store.commit([{ verb: "delete", key: entry?.key ?? "" }]);
		const connect = () =>
			host.containers.connections.connect(network, { Container: id });
		await t.throwsAsync(connect(), {
			message: /^container off_web_1 is not on record.*try again$/,
		});
		const container = await host.docker.engine.inspectContainer(id);
		if (container) await host.reconcile.adopt(container);
		const connected = await connect();
		t.regex(
			connected?.EndpointConfig?.IPAMConfig?.IPv4Address ?? "",
			/^172\.28\./,
		);
	},
);

for (const digits of [6, 11, 12, 64]) {
	test.serial(
		`a network by the first ${digits} digits of its id is that network`,
		async (t) => {
			const { host, network, id } = await stage(t, `short${digits}`);
			const { body, address } = await host.create(
				`short${digits}`,
				`short${digits}_web_1`,
				{ HostConfig: { NetworkMode: id.slice(0, digits) } },
			);
			t.is(body.HostConfig?.NetworkMode, network);
			t.regex(address, /^172\.28\./);
		},
	);
}

for (const HostConfig of [null, { NetworkMode: "default" }]) {
	const mode = HostConfig?.NetworkMode ?? "none";
	test.serial(
		`a network named by its endpoint alone is joined (mode ${mode})`,
		async (t) => {
			const deployment = `alone${mode}`;
			const { host, network } = await stage(t, deployment);
			const asked = {
				...(HostConfig ? { HostConfig } : {}),
				NetworkingConfig: { EndpointsConfig: { [network]: {} } },
			} as ContainerCreate;
			const { body, address } = await host.create(deployment, "x", asked);
			t.is(body.HostConfig?.NetworkMode, network);
			t.deepEqual(Object.keys(body.NetworkingConfig?.EndpointsConfig ?? {}), [
				network,
			]);
			t.regex(address, /^172\.28\./);
			await host.remove("x");
		},
	);
}

test("what an image says of the container that it was committed from is none of another's facts", (t) => {
	const image = { "arpanet.service": "web", "arpanet.aliases": "a:web" };
	const own = { "arpanet.host": "h1", "arpanet.facts": "host" };
	t.deepEqual(readLabels({ ...image, ...own }), { host: "h1" });
});

test.serial(
	"a container whose name another host's got while its record was lost goes by its id, and keeps its address",
	async (t) => {
		const engines = { h1: new EngineDouble(), h2: new EngineDouble() };
		const plugins = "deployment-id placement dhcp network".split(" ");
		const [h1, h2] = ["h1", "h2"].map((host) => {
			const allocator = new Allocator(consul.address, {
				...{ host, engines, plugins },
			});
			t.teardown(() => allocator.close());
			return allocator;
		}) as [Allocator, Allocator];
		const name = "twice_web_1";
		const make = async (on: Allocator, as = name) => {
			const { body, address } = await on.create("twice", as);
			return { id: on.docker.create(as, body), address };
		};
		const look = async ({ docker, reconcile }: Allocator) =>
			reconcile.sweep(await docker.engine.listContainers("arpanet.host"));

		const { id, address } = await make(h1);
		const key = h1.services.containers.key(name);
		await h1.store.commit([{ verb: "delete", key }]);
		const other = await make(h2);
		await look(h1);
		await look(h2);
		const aside = `${id.slice(0, 12)}_${name}`;
		t.is(engines.h1.containers.get(id)?.Name, `/${aside}`);
		t.is(engines.h2.containers.get(other.id)?.Name, `/${name}`);
		const lease = `arpanet/leases/twice/${address}`;
		const record = await h1.services.containers.get(aside);
		t.true(record?.value.holds.includes(lease), `${record?.value.holds}`);
		t.like(await h1.store.get(lease), { value: { container: aside } });
		t.like(await h1.services.containers.get(name), {
			value: { facts: { host: "h2" } },
		});

		// so does one that Docker could be had to rename past its record
		const late = await make(h1, "twice_web_2");
		const container = engines.h1.containers.get(late.id);
		if (container) container.Name = `/${name}`;
		await look(h1);
		const now = `${late.id.slice(0, 12)}_${name}`;
		t.is(container?.Name, `/${now}`);
		t.is(await h1.services.containers.get("twice_web_2"), undefined);
		t.like(await h1.services.containers.get(now), {
			value: { facts: { address: late.address } },
		});
	},
);
