import test from "ava";
import { Reschedule } from "../../agent/leader/reschedule.ts";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { FencedStore, LEADER } from "../../pipeline/state/leader.ts";
import { type Move, moveKey } from "../../pipeline/state/moves.ts";
import { Repairs } from "../../pipeline/state/repairs.ts";
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

for (const moment of ["beforeCreate", "beforeStart"] as const) {
	test(`a leader that is paused ${moment.slice(6).toLowerCase()}ing what another then finishes: there is one container, and nothing else is started`, async (t) => {
		const consul = await startConsul();
		t.teardown(() => consul.stop());
		const engines = { h3: new SlowEngine() };
		const name = "abc_web_1";

		const leaders = ["h1", "h2"].map((host) => {
			const allocator = new Allocator(consul.address, { host, engines });
			const store = new FencedStore({ address: consul.address });
			t.teardown(() => {
				allocator.close();
				store.close();
			});
			const reschedule = new Reschedule(
				{ ...allocator.services, store },
				allocator.containers,
				new Repairs(store, host),
			);
			return { allocator, store, reschedule };
		});
		const [first, second] = leaders as [
			(typeof leaders)[0],
			(typeof leaders)[0],
		];
		const { store } = first.allocator;
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
			{ verb: "create", key: moveKey(name), value: move },
			{ verb: "create", key: `arpanet/containers/${name}`, value: record },
			{
				verb: "create",
				key: hostKeys("h3").record,
				value: { name: "h3", address, engine: "tcp://127.0.0.1:1" },
			},
			{ verb: "create", key: hostKeys("h3").alive, value: { address } },
		]);

		const session = await elect(first);
		const { open, reached, pass } = door();
		engines.h3[moment] = pass;
		const pausing = first.reschedule.look();
		await reached;
		engines.h3[moment] = async () => {};
		await store.ask(() => store.consul.session.destroy(session));
		await elect(second);
		await second.reschedule.look();
		t.is(await store.get(moveKey(name)), undefined);

		open();
		await pausing.catch((error) => t.is(error.name, "Deposed"));
		const made = [...engines.h3.containers.values()];
		t.deepEqual(
			made.map(({ Name }) => Name),
			[`/${name}`],
		);
		const started = new Set(engines.h3.started);
		t.deepEqual([...started], [`/containers/${made[0]?.Id}/start`]);
		t.is(await store.get(moveKey(name)), undefined);
	});
}
