import test, { type ExecutionContext } from "ava";
import { Reschedule, withoutInherited } from "../../agent/leader/reschedule.ts";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { FencedStore, LEADER } from "../../pipeline/state/leader.ts";
import { type Move, moveKey } from "../../pipeline/state/moves.ts";
import { Repairs } from "../../pipeline/state/repairs.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

/** An engine that can be made to wait before it does what it is asked. */
class SlowEngine extends EngineDouble {
	readonly started: string[] = [];
	beforeCreate = async () => {};
	beforeStart = async () => {};

	override get engine(): Engine {
		const post = async (path: string, body: ContainerCreate) => {
			const [, what, name = ""] =
				/(create|start)(?:\?name=(.*))?$/.exec(path) ?? [];
			if (what === "create") {
				await this.beforeCreate();
				return { Id: this.create(name, body) };
			}
			await this.beforeStart();
			this.started.push(path);
			return undefined;
		};
		return { ...super.engine, post } as unknown as Engine;
	}
}

/** A door that is shut until it is opened, and tells when somebody stands before it. */
function door() {
	let open = () => {};
	let reach = () => {};
	const opened = new Promise<void>((resolve) => {
		open = resolve;
	});
	const reached = new Promise<void>((resolve) => {
		reach = resolve;
	});
	const pass = async () => {
		reach();
		await opened;
	};
	return { open, reached, pass };
}

const NAME = "abc_web_1";

/** Two agents, of which either may lead, and a container of a lost host that is decided to be started on h3. */
async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	t.teardown(() => consul.stop());
	const engine = new SlowEngine();
	const leader = (host: string) => {
		const allocator = new Allocator(consul.address, {
			host,
			engines: { h3: engine },
		});
		const store = new FencedStore({ address: consul.address });
		t.teardown(() => {
			allocator.close();
			store.close();
		});
		const { services, containers } = allocator;
		const repairs = new Repairs(store, host);
		const parts = [{ ...services, store }, containers, repairs] as const;
		return { store, reschedule: new Reschedule(...parts) };
	};
	const [first, second] = [leader("h1"), leader("h2")];
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());

	const elect = async ({ store: fenced }: typeof first) => {
		const { ID: session } = (await store.ask(() =>
			store.consul.session.create({
				behavior: "delete",
				lockdelay: "0s",
			} as never),
		)) as { ID: string };
		const lock = { verb: "lock", key: LEADER, value: {}, session } as const;
		await store.commit([lock]);
		fenced.session = session;
		return session;
	};
	const create = { Image: "busybox", Labels: { "arpanet.slot": "1" } };
	const move: Move = { from: "h4", to: "h3", create, connect: {} };
	const record = { facts: { host: "h3" }, holds: [], attempts: 1 };
	const address = "10.213.0.3";
	await store.commit([
		{ verb: "create", key: moveKey(NAME), value: move },
		{ verb: "create", key: `arpanet/containers/${NAME}`, value: record },
		{
			verb: "create",
			key: hostKeys("h3").record,
			value: { name: "h3", address, engine: "tcp://127.0.0.1:1" },
		},
		{ verb: "create", key: hostKeys("h3").alive, value: { address } },
	]);
	return { store, engine, first, second, elect };
}

for (const [moment, doing] of [
	["beforeCreate", "making"],
	["beforeStart", "starting"],
] as const) {
	test(`a leader that is paused ${doing} what another then finishes: there is one container, and nothing else is started`, async (t) => {
		const { store, engine, first, second, elect } = await stage(t);
		const session = await elect(first);
		const { open, reached, pass } = door();
		engine[moment] = pass;
		const pausing = first.reschedule.look();
		await reached;
		engine[moment] = async () => {};
		await store.ask(() => store.consul.session.destroy(session));
		await elect(second);
		await second.reschedule.look();
		t.is(await store.get(moveKey(NAME)), undefined);

		open();
		await pausing.catch((error) => t.is(error.name, "Deposed"));
		const made = [...engine.containers.values()];
		t.deepEqual(
			made.map(({ Name }) => Name),
			[`/${NAME}`],
		);
		const started = new Set(engine.started);
		t.deepEqual([...started], [`/containers/${made[0]?.Id}/start`]);
		t.is(await store.get(moveKey(NAME)), undefined);
	});
}

test("what cannot be made yet is made later, and only what no engine would make is given up", async (t) => {
	const { store, engine, first, elect } = await stage(t);
	await elect(first);
	for (const status of [404, 500]) {
		engine.beforeCreate = async () => {
			throw new HttpError(status, "No such image: busybox");
		};
		await first.reschedule.look();
		t.truthy(await store.get(moveKey(NAME)), `${status}`);
	}
	engine.beforeCreate = async () => {};
	await first.reschedule.look();
	t.is(engine.started.length, 1);
	t.is(await store.get(moveKey(NAME)), undefined);
});

for (const [moment, status] of [
	["beforeCreate", 400],
	["beforeStart", 500],
] as const) {
	test(`what an engine refuses ${moment === "beforeStart" ? "to start" : "to make"} (${status}) is given up`, async (t) => {
		const { store, engine, first, elect } = await stage(t);
		await elect(first);
		engine[moment] = async () => {
			throw new HttpError(status, "no such command");
		};
		await first.reschedule.look();
		t.is(await store.get(moveKey(NAME)), undefined);
	});
}

test("volumes without a name that Compose hands on begin empty elsewhere, as the first ones did", (t) => {
	const id = "0".repeat(64);
	const create = {
		Env: [`affinity:container==${id}`, "A=b"],
		HostConfig: {
			Binds: [`${id}:/data:rw`, "abc_db:/db"],
			Mounts: [
				{ Type: "volume", Source: id, Target: "/more" },
				{ Type: "volume", Source: "abc_own", Target: "/own" },
			],
		},
	};
	t.deepEqual(withoutInherited(create), {
		Env: ["A=b"],
		HostConfig: {
			Binds: ["abc_db:/db"],
			Mounts: [
				{ Type: "volume", Target: "/more" },
				{ Type: "volume", Source: "abc_own", Target: "/own" },
			],
		},
		Volumes: { "/data": {} },
	});
});
