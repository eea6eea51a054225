import test, { type ExecutionContext } from "ava";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import { moveKey } from "../../pipeline/state/moves.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;
const now = performance.now.bind(performance);

test.before(async () => {
	consul = await startConsul();
});
test.afterEach.always(() => {
	performance.now = now;
});
test.after.always(() => consul?.stop());

/** A container and another network of its deployment, in which it asks for addresses. */
async function stage(
	t: ExecutionContext,
	deployment: string,
	Labels: Record<string, string> = { "arpanet.expose": "true" },
) {
	const plugins = "deployment-id placement dhcp expose network".split(" ");
	const host = new Allocator(consul.address, { plugins });
	t.teardown(() => host.close());
	const { docker, networks, store } = host;
	const Name = `${deployment}_back`;
	const subnets = await store.keys("arpanet/subnets/");
	const subnet = `172.29.${subnets.length}`;
	const composes = {
		"com.docker.compose.project": deployment,
		"com.docker.compose.network": "back",
	};
	const IPAM = { Config: [{ Subnet: `${subnet}.0/24` }] };
	const body = await networks.create({ Name, Labels: composes, IPAM }, {});
	const Id = `${subnets.length}`.padEnd(64, "b");
	docker.networks.set(Name, { Name, ...body, Id });
	await networks.created(Name, Id);
	const name = `${deployment}_web_1`;
	const made = await host.create(deployment, name, { Labels });
	const id = docker.create(name, made.body);
	const endpoints = docker.containers.get(id)?.NetworkSettings.Networks ?? {};
	const { connections } = host.containers;
	return {
		host,
		network: Name,
		id,
		endpoints,
		address: (last: number) => `${subnet}.${last}`,
		/** What the pre-hook answers. */
		connect: (last: number) =>
			connections.connect(Name, {
				Container: id,
				EndpointConfig: { IPAMConfig: { IPv4Address: `${subnet}.${last}` } },
			}),
		sweep: async () =>
			host.reconcile.sweep(await docker.engine.listContainers("")),
		/** Ends of the keys of what is leased and exposed there, but for the host's own. */
		async held() {
			const keys = await Promise.all(
				["leases", "exposed"].map((each) =>
					store.keys(`arpanet/${each}/${deployment}-back/`),
				),
			);
			const own = `arpanet/leases/${deployment}-back/${subnet}.1`;
			return keys.flat().filter((key) => key !== own);
		},
	};
}

test.serial(
	"who has left a network of which no post-hook told gives back what it had there",
	async (t) => {
		const { connect, endpoints, held, network, sweep } = await stage(t, "left");
		endpoints[network] = (await connect(50))?.EndpointConfig ?? {};
		await sweep();
		t.is((await held()).length, 2);
		delete endpoints[network]; // at the engine itself
		await sweep();
		t.is((await held()).length, 2, "it may be work in progress");
		performance.now = () => now() + 30_000;
		await sweep();
		t.deepEqual(await held(), []);
	},
);

test.serial(
	"who is still to be connected, on its way from a lost host, keeps what is leased for it",
	async (t) => {
		const { connect, held, host, sweep } = await stage(t, "coming");
		await connect(50);
		const key = moveKey("coming_web_1");
		await host.store.commit([{ verb: "create", key, value: {} }]);
		await sweep();
		performance.now = () => now() + 30_000;
		await sweep();
		t.is((await held()).length, 2);
	},
);

test.serial(
	"who is in a network already keeps its address there, and the one that Docker refuses it goes back",
	async (t) => {
		const all = await stage(t, "twice");
		const { address, connect, endpoints, held, host, id, network } = all;
		endpoints[network] = (await connect(50))?.EndpointConfig ?? {};
		await connect(60); // endpoint with name twice_web_1 already exists
		await host.containers.connections.ended(network, id);
		t.deepEqual(await held(), [
			`arpanet/leases/twice-back/${address(50)}`,
			`arpanet/exposed/twice-back/${address(50)}`,
		]);
	},
);

test.serial("an image does not open a service to others", async (t) => {
	const all = await stage(t, "shy", {});
	const { connect, endpoints, held, host, id, network } = all;
	const container = host.docker.containers.get(id) as ContainerInspect;
	const Labels = { "arpanet.expose": "true", ...container.Config.Labels };
	container.Config = { ...container.Config, Labels }; // Docker keeps what the create said
	endpoints[network] = (await connect(50))?.EndpointConfig ?? {};
	t.is((await held()).length, 1, "its lease");
	const key = host.services.containers.key("shy_web_1");
	await host.store.commit([{ verb: "delete", key }]);
	await host.reconcile.adopt(container);
	t.deepEqual(await host.store.keys("arpanet/exposed/shy"), []);
});

test.serial(
	"what an earlier arpanet made goes on exposing what it was asked to",
	async (t) => {
		const { connect, endpoints, held, host, id, network } = await stage(
			t,
			"early",
		);
		const container = host.docker.containers.get(id) as ContainerInspect;
		// one that knew of no more than this
		const facts = "deployment,service,index,host,slot,network,address,made";
		const Labels = { ...container.Config.Labels, "arpanet.facts": facts };
		container.Config = { ...container.Config, Labels };
		endpoints[network] = (await connect(50))?.EndpointConfig ?? {};
		t.is((await held()).length, 2, "its lease, and who may reach it");
		await consul.stop();
		await consul.start();
		await host.reconcile.sweep(
			await host.docker.engine.listContainers("arpanet.host"),
		);
		t.is((await host.store.keys("arpanet/exposed/early")).length, 2);
	},
);
