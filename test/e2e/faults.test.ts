import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import {
	type Answer,
	type Apart,
	api,
	consulKeys,
	insist,
	range,
	startApart,
} from "./adapters.ts";
import { startPowerstrip } from "./powerstrip.ts";
import { eventually, Stage } from "./stage.ts";

let stage: Stage;

test.before(async () => {
	stage = await Stage.start();
});
test.after.always(() => stage?.stop());

/** Kills and restarts one adapter after the other at random moments, until it is told to stop. */
function troublemaker(apart: Apart): { stop(): Promise<number> } {
	let going = true;
	let kills = 0;
	const done = (async () => {
		while (going) {
			await sleep(Math.random() * 400);
			const victim = kills % apart.adapters.length;
			await apart.adapters[victim]?.stop("SIGKILL");
			kills++;
			await sleep(Math.random() * 200);
			await apart.restart(victim);
		}
	})();
	return {
		stop: async () => {
			going = false;
			await done;
			return kills;
		},
	};
}

/** A life with retries: made, started, some stopped, some restarted, every third removed. */
async function live(
	t: ExecutionContext,
	target: () => string,
	deployment: string,
	i: number,
): Promise<void> {
	const name = `${deployment}_web_${i}`;
	const config = {
		Image: "busybox",
		Cmd: ["sleep", "9999"],
		StopTimeout: 0,
		HostConfig: { Init: true },
	};
	const made = await insist(
		target,
		"POST",
		`/v1.41/containers/create?name=${name}`,
		config,
	);
	t.true([201, 409].includes(made.status), JSON.stringify(made)); // 409: the answer to the first try was lost
	const steps: [method: string, step: string][] = [
		["POST", `/containers/${name}/start`],
		...(i % 2
			? ([
					["POST", `/containers/${name}/stop?t=1`],
					["POST", `/containers/${name}/start`],
				] as [string, string][])
			: []),
		...(i % 3
			? []
			: ([["DELETE", `/containers/${name}?force=1`]] as [string, string][])),
	];
	for (const [method, path] of steps) {
		const { status, body } = await insist(target, method, path);
		t.true(
			[204, 304, 404].includes(status),
			`${method} ${path}: ${status} ${JSON.stringify(body)}`,
		);
	}
}

/** What is on record of a deployment is what runs: no orphan, no double, every name right. */
async function agrees(t: ExecutionContext, deployment: string): Promise<void> {
	const rows = await stage.engine.listContainers(
		`arpanet.deployment=${deployment}`,
	);
	const containers = await Promise.all(
		rows.map(({ Id }) => stage.engine.inspectContainer(Id)),
	);
	const expected: Record<string, string> = {};
	for (const container of containers) {
		if (!container) continue;
		expected[fixedAddress(container, deployment)] = container.Name.slice(1);
	}
	t.is(Object.keys(expected).length, rows.length, "an address is held twice");
	t.deepEqual(
		await eventually(
			() => stage.leases(deployment),
			(seen) => same(seen, expected),
			75,
		),
		expected,
	);

	const records = () =>
		consulKeys(stage.host, `arpanet/containers/${deployment}_`);
	const names = Object.values(expected)
		.map((name) => `arpanet/containers/${name}`)
		.sort();
	t.deepEqual(
		await eventually(records, (seen) => same(seen, names), 75),
		names,
	);

	const running = containers
		.filter((container) => container?.State.Running)
		.map((container) => (container ? fixedAddress(container, deployment) : ""))
		.sort();
	const dns = () => answering(deployment, "web");
	t.deepEqual(await eventually(dns, (seen) => same(seen, running)), running);
	const ids = async () =>
		(await stage.registered())
			.filter(({ name }) => name === `web.${deployment}`)
			.map(({ id, address }) => `${id} ${address}`)
			.sort();
	const wanted = containers
		.filter((container) => container?.State.Running)
		.map(
			(container) =>
				`${container?.Config.Labels?.["arpanet.index"]}.web.${deployment} ${container && fixedAddress(container, deployment)}`,
		)
		.sort();
	t.deepEqual(await eventually(ids, (seen) => same(seen, wanted)), wanted);
}

/** The addresses from which Consul's DNS answers: all of them, also when they do not fit into a UDP packet. */
async function answering(
	deployment: string,
	service: string,
): Promise<string[]> {
	const answer = await fetch(
		`${stage.host.consul}/v1/health/service/${deployment}?tag=${service}&passing=1`,
	);
	const rows = (await answer.json()) as { Service: { Address: string } }[];
	return rows.map(({ Service }) => Service.Address).sort();
}

function same(a: unknown, b: unknown): boolean {
	return JSON.stringify(sorted(a)) === JSON.stringify(sorted(b));
}

function sorted(value: unknown): unknown {
	return Array.isArray(value) ? value : Object.entries(value as object).sort();
}

async function clear(deployment: string): Promise<void> {
	const rows = await stage.engine.listContainers(
		`arpanet.deployment=${deployment}`,
	);
	for (const { Id } of rows)
		await api(stage.arpanet.docker, "DELETE", `/containers/${Id}?force=1`);
}

async function underFire(
	t: ExecutionContext,
	apart: Apart,
	target: () => string,
	deployment: string,
): Promise<void> {
	const trouble = troublemaker(apart);
	const waiting = range(12);
	await Promise.all(
		range(3).map(async () => {
			for (let i = waiting.pop(); i !== undefined; i = waiting.pop()) {
				await live(t, target, deployment, i + 1);
			}
		}),
	).finally(async () => t.true((await trouble.stop()) >= 2));
	const rows = await stage.engine.listContainers(
		`arpanet.deployment=${deployment}`,
	);
	t.is(rows.length, 8);
}

test.serial(
	"under powerstrip, adapters that take turns and are killed at any point lose nothing",
	async (t) => {
		const apart = await startApart(stage.host, 2);
		const powerstrip = await startPowerstrip(
			stage.host.socketPath,
			apart.urls,
			stage.arpanet.config,
		);
		t.teardown(async () => {
			powerstrip.close();
			await apart.stop();
		});
		await underFire(t, apart, () => powerstrip.docker, "strip");
	},
);

test.serial(
	"under our gateway, adapters that take turns and are killed at any point lose nothing",
	async (t) => {
		const apart = await startApart(stage.host, 2);
		t.teardown(() => apart.stop());
		let turn = 0;
		await underFire(
			t,
			apart,
			() => apart.gateways[turn++ % 2] as string,
			"gate",
		);
	},
);

test.serial(
	"a minute later nothing is on record that is not there, and all is that is",
	async (t) => {
		await agrees(t, "strip");
		await agrees(t, "gate");
		await clear("strip");
		await clear("gate");
	},
);

test.serial(
	"an adapter that is down is a clear error, and nothing is asked of Docker",
	async (t) => {
		const apart = await startApart(stage.host, 1);
		t.teardown(() => apart.stop());
		await apart.adapters[0]?.stop("SIGKILL");
		const { status, body } = await api(
			apart.gateways[0] as string,
			"POST",
			"/containers/create?name=nobody_web_1",
			{ Image: "busybox" },
		);
		t.is(status, 502);
		t.regex(
			body.message,
			/^adapter arpanet-pre \(http:.*\) does not answer: .*; start it or remove it from powerstrip\.yml$/,
		);
		t.is(await stage.engine.inspectContainer("nobody_web_1"), undefined);
		t.is(
			(await api(apart.gateways[0] as string, "GET", "/version")).status,
			200,
		);
	},
);

const busybox = {
	Image: "busybox",
	Cmd: ["sleep", "9999"],
	StopTimeout: 0,
	HostConfig: { Init: true },
};

async function create(name: string, body: object = busybox): Promise<Answer> {
	return api(
		stage.arpanet.docker,
		"POST",
		`/containers/create?name=${name}`,
		body,
	);
}

async function act(
	t: ExecutionContext,
	method: string,
	path: string,
): Promise<void> {
	const { status, body } = await api(stage.arpanet.docker, method, path);
	t.is(status, 204, JSON.stringify(body));
}

async function start(t: ExecutionContext, name: string): Promise<void> {
	const { status, body } = await create(name);
	t.is(status, 201, JSON.stringify(body));
	await act(t, "POST", `/containers/${name}/start`);
}

test.serial(
	"with Consul away creates fail soon and clearly, and all that runs can be handled",
	async (t) => {
		for (const i of range(4)) await start(t, `away_web_${i + 1}`);
		const pid = async () =>
			(await stage.engine.inspectContainer("away_web_1"))?.State.Pid;
		const before = await pid();
		await stage.host.stopConsul();
		t.teardown(() => stage.host.startConsul());

		const began = performance.now();
		for (const path of [
			"/containers/create?name=away_web_9",
			"/networks/create",
		]) {
			const { status, body } = await api(stage.arpanet.docker, "POST", path, {
				...busybox,
				Name: "away_back",
				Labels: { "com.docker.compose.project": "away" },
			});
			t.is(status, 503);
			t.regex(
				body.message,
				/^consul: http:.* does not answer \(.*\); running containers are not touched: start Consul and try again$/,
			);
		}
		t.true(performance.now() - began < 2 * 5_000);
		t.is(await stage.engine.inspectContainer("away_web_9"), undefined);
		t.is(await stage.network("away_back"), undefined);

		const plain = await create("plain");
		t.is(plain.status, 201, JSON.stringify(plain.body)); // none of ours
		await act(t, "POST", "/containers/away_web_2/stop");
		await act(t, "POST", "/containers/away_web_2/start");
		await act(t, "POST", "/containers/away_web_3/stop");
		await act(t, "DELETE", "/containers/away_web_4?force=1");
		await act(t, "DELETE", "/containers/plain");
		t.is(await pid(), before);

		await stage.host.startConsul();
		await agrees(t, "away");
		await start(t, "away_web_9");
		await agrees(t, "away");
	},
);

test.serial(
	"a Consul that comes back empty is told everything again",
	async (t) => {
		await act(t, "POST", "/containers/away_web_3/start");
		const made = await api(stage.arpanet.docker, "POST", "/networks/create", {
			Name: "away_back",
			CheckDuplicate: true,
			Labels: {
				"com.docker.compose.project": "away",
				"com.docker.compose.network": "back",
			},
		});
		t.is(made.status, 201, JSON.stringify(made.body));
		const inBack = {
			...busybox,
			Labels: {
				"com.docker.compose.project": "away",
				"com.docker.compose.service": "db",
				"com.docker.compose.container-number": "1",
			},
			HostConfig: { NetworkMode: "away_back" },
			NetworkingConfig: {
				EndpointsConfig: { away_back: { Aliases: ["pantry"] } },
			},
		};
		t.is((await create("away_db_1", inBack)).status, 201);
		await act(t, "POST", "/containers/away_db_1/start");
		const linked = { ...busybox, HostConfig: { Links: ["away_db_1:store"] } };
		t.is((await create("away_shop_1", linked)).status, 201);
		await agreesOn(t, "away", 4);

		const [leases, back] = [
			await stage.leases("away"),
			await stage.leases("away-back"),
		];
		const [subnets, networks] = await Promise.all([
			consulKeys(stage.host, "arpanet/subnets/"),
			consulKeys(stage.host, "arpanet/networks/"),
		]);
		const [db = ""] = Object.keys(back);
		await stage.host.stopConsul();
		await rm(join(stage.host.dataDir, "consul"), { recursive: true });
		await stage.host.startConsul();

		const seen = await eventually(
			async () => [await stage.leases("away"), await stage.leases("away-back")],
			(now) => same(now, [leases, back]),
			60,
		);
		t.deepEqual(seen, [leases, back]);
		t.deepEqual(await consulKeys(stage.host, "arpanet/subnets/"), subnets);
		t.deepEqual(await consulKeys(stage.host, "arpanet/networks/"), networks);
		for (const name of ["db", "pantry", "store"]) {
			const found = await eventually(
				() => stage.dns(`${name}.away-back`),
				(now) => now.length === 1,
			);
			t.deepEqual(found, [db], name);
		}
		await agreesOn(t, "away", 4);

		await start(t, "away_web_10");
		t.false(
			Object.keys(leases).includes(
				addressOf(await stage.engine.inspectContainer("away_web_10")),
			),
		);
		await clear("away");
		await act(t, "DELETE", "/networks/away_back");
		const left = await eventually(
			() => consulKeys(stage.host, "arpanet/networks/away"),
			(keys) => keys.length === 0,
			60,
		);
		t.deepEqual(left, []);
		t.is(await stage.network("away_default"), undefined);
	},
);

function addressOf(container: ContainerInspect | undefined): string {
	return container ? fixedAddress(container, "away") : "";
}

/** The address that a container was given for life, running or not. */
function fixedAddress(
	{ NetworkSettings }: ContainerInspect,
	deployment: string,
): string {
	const endpoint = NetworkSettings.Networks[`${deployment}_default`];
	return endpoint?.IPAMConfig?.IPv4Address ?? "";
}

/** Copies of web that DNS knows. */
async function agreesOn(
	t: ExecutionContext,
	deployment: string,
	copies: number,
): Promise<void> {
	const dns = await eventually(
		() => stage.dns(`web.${deployment}`),
		(seen) => seen.length === copies,
		30,
	);
	t.is(dns.length, copies);
}

test.serial(
	"a stop that was announced and never came keeps a copy out of DNS for seconds only",
	async (t) => {
		const apart = await startApart(stage.host, 1);
		t.teardown(() => apart.stop());
		await start(t, "spared_web_1");
		const [address = ""] = Object.keys(await stage.leases("spared"));
		t.deepEqual(
			await eventually(
				() => stage.dns("web.spared"),
				(seen) => seen.length === 1,
			),
			[address],
		);
		const hook = {
			PowerstripProtocolVersion: 1,
			Type: "pre-hook",
			ClientRequest: {
				Method: "POST",
				Request: "/containers/spared_web_1/stop?t=0",
				Body: null,
			},
		};
		const { status } = await fetch(`${apart.urls[0]}/pre-hook`, {
			method: "POST",
			body: JSON.stringify(hook),
		});
		t.is(status, 200);
		t.deepEqual(await stage.dns("web.spared"), []);
		await apart.stop(); // and Docker is never asked
		t.deepEqual(
			await eventually(
				() => stage.dns("web.spared"),
				(seen) => seen.length === 1,
				60,
			),
			[address],
		);
		await clear("spared");
	},
);

test.serial(
	"with the engine down every request is a clear 502, and a create leaves nothing",
	async (t) => {
		await start(t, "off_web_1");
		await stage.host.stopEngine();
		t.teardown(() => stage.host.startEngine());
		for (const [method, path] of [
			["GET", "/version"],
			["POST", "/containers/create?name=off_web_2"],
			["POST", "/containers/off_web_1/stop"],
		] as const) {
			const { status, body } = await api(
				stage.arpanet.docker,
				method,
				path,
				method === "POST" ? busybox : undefined,
			);
			t.is(status, 502, `${method} ${path}`);
			t.regex(body.message, /engine/);
		}
		const named = await eventually(
			() => stage.dns("web.off"),
			(found) => found.length === 0,
		);
		t.deepEqual(named, [], "it has ended with its engine");
		await stage.host.startEngine();
		await agrees(t, "off");
		await act(t, "POST", "/containers/off_web_1/start");
		await agrees(t, "off");
	},
);

test.serial(
	"arpanet killed and started again goes on as if nothing had been",
	async (t) => {
		const [address] = Object.keys(await stage.leases("off"));
		await stage.arpanet.stop("SIGKILL");
		const process = stage.engine;
		await api(stage.host.docker, "POST", "/containers/off_web_1/stop?t=0"); // nobody watches
		const again: Arpanet = await startArpanet(stage.host);
		t.teardown(() => again.stop());
		t.false((await process.inspectContainer("off_web_1"))?.State.Running);
		t.deepEqual(
			await eventually(
				() => stage.dns("web.off"),
				(seen) => seen.length === 0,
			),
			[],
		);
		const { status } = await api(
			again.docker,
			"POST",
			"/containers/off_web_1/start",
		);
		t.is(status, 204);
		t.deepEqual(
			await eventually(
				() => stage.dns("web.off"),
				(seen) => seen.length === 1,
			),
			[address as string],
		);
	},
);
