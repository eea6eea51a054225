import { once } from "node:events";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import test from "ava";
import { type Arpanet, arpanetProgram } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { startOpenMember } from "../lab/cluster.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { Cluster, filters, put, urlOf } from "./open-cluster.ts";
import { eventually, until } from "./stage.ts";

let cluster: Cluster;

test.before(async () => {
	cluster = await Cluster.start();
	const [h1, h2] = cluster.hosts;
	await put(h2, "b2");
	await put(h1, "b4");
});
test.after.always(() => cluster?.stop());
showComplaints(() => cluster?.gateways ?? []);

/** A volume plugin as Docker has them, that says nothing of its volumes until it gets a signal. */
const PLUGIN = `
const { mkdirSync } = require("node:fs");
const held = [];
let hangs = true;
const list = (response) => response.end('{"Volumes":[]}');
require("node:http").createServer(({ url }, response) => {
	if (url === "/Plugin.Activate") response.end('{"Implements":["VolumeDriver"]}');
	else if (url !== "/VolumeDriver.List") response.end("{}");
	else if (hangs) held.push(response);
	else list(response);
}).listen("/run/docker/plugins/stuck.sock", () => console.log("ready"));
process.on("SIGUSR2", () => { hangs = false; held.forEach(list); });
`;

test.serial(
	"an engine that hangs on a list while it answers pings delays nobody",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		for (const host of [h1, h2]) {
			await docker(host, ["volume", "create", `at-${host.name}`]);
		}
		await h2.exec("mkdir", ["-p", "/run/docker/plugins"]);
		const plugin = h2.spawn(process.execPath, ["-e", PLUGIN], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		await new Promise((resolve) => plugin.stdout?.once("data", resolve));
		const list = async (gateway = cluster.gateways[0]) => {
			const start = performance.now();
			const { body } = await cluster.api("GET", "/volumes", undefined, gateway);
			const found = body.Volumes as { Name: string }[];
			const seconds = (performance.now() - start) / 1000;
			return { seconds, found: found.map(({ Name }) => Name).sort() };
		};
		const first = await list();
		t.deepEqual(first.found, ["at-h1"]);
		t.true(first.seconds < 20, `${first.seconds} s`); // two on a machine with nothing else to do
		const second = await list();
		t.deepEqual(second.found, ["at-h1"]);
		t.true(second.seconds < 8, `${second.seconds} s`); // at once
		t.true(
			(await cluster.names("")).includes("b2"),
			"what it does not hang on",
		);
		plugin.kill("SIGUSR2");
		const whole = await eventually(list, ({ found }) => found.length > 1, 60);
		t.deepEqual(whole.found, ["at-h1", "at-h2"]);
		await cluster.cli("volume", "rm", "at-h1", "at-h2");
	},
);

test.serial(
	"an image is not taken for the one meant while a silent host may just be making it anew",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		const key = `${h1.consul}/v1/kv/arpanet/tagging/h2/a-build`;
		const names = ["arpanet/images/busybox:latest"];
		const at = new Date().toISOString();
		const body = JSON.stringify({ host: "h2", at, names });
		const create = () =>
			cluster.api("POST", "/containers/create?name=anew", {
				Image: "busybox",
				Env: ["constraint:node==h1"],
			});
		await fetch(key, { method: "PUT", body });
		process.kill(h2.pidOfEngine as number, "SIGSTOP");
		try {
			const refused = await create();
			t.is(refused.status, 503);
			t.regex(
				refused.body.message,
				/image busybox may be a newer one on host h2, which does not answer/,
			);
		} finally {
			process.kill(h2.pidOfEngine as number, "SIGCONT");
			await fetch(key, { method: "DELETE" });
		}
		const made = await eventually(create, ({ status }) => status === 201);
		t.is(made.status, 201, made.body.message);
		await cluster.cli("rm", "anew");
		// its agent may have taken it for hanging
		const alive = async () => {
			const state = `${h1.consul}/v1/kv/arpanet/hosts/h2/alive?raw`;
			return (await (await fetch(state)).json()) as { engineless?: true };
		};
		await until(alive, ({ engineless }) => !engineless);
	},
);

/** What a gateway says of containers from now on. */
async function follow(gateway: Arpanet) {
	const end = new AbortController();
	let text = "";
	const path = `/events?${filters({ type: ["container"] })}`;
	const answer = await fetch(urlOf(gateway, path), { signal: end.signal });
	void (async () => {
		const decoder = new TextDecoder();
		for await (const chunk of answer.body ?? []) text += decoder.decode(chunk);
	})().catch(() => {});
	return { text: () => text, end: () => end.abort() };
}

let stream: Awaited<ReturnType<typeof follow>>;

test.serial(
	"a host that one gateway alone does not reach gets nothing from it but what can go nowhere else, and that is refused soon",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		const rule = ["OUTPUT", "-d", h2.address, "-p", "tcp", "--dport", "2377"];
		await h1.exec("iptables", ["-I", ...rule, "-j", "DROP"]);
		const create = (name: string, ...Env: string[]) =>
			cluster.api(
				"POST",
				`/containers/create?name=${name}`,
				{ Image: "busybox", Env },
				cluster.gateways[0],
			);
		try {
			const before = performance.now();
			const refused = await create("no-way", "constraint:node==h2");
			t.is(refused.status, 502);
			t.regex(refused.body.message, /^host h2 does not answer/);
			t.true(performance.now() - before < 60_000); // ten, on a machine with nothing else to do
			for (let i = 1; i <= 4; i++) {
				const made = await create(`way-${i}`);
				t.is(made.status, 201, made.body.message);
				t.not(
					(
						await cluster.api(
							"GET",
							`/containers/way-${i}/json`,
							undefined,
							cluster.gateways[2],
						)
					).body.Node.Name,
					"h2",
				);
			}
		} finally {
			await h1.exec("iptables", ["-D", ...rule, "-j", "DROP"]);
		}
		const made = await eventually(
			() => create("a-way", "constraint:node==h2"),
			({ status }) => status === 201,
			30,
		);
		t.is(made.status, 201, made.body.message);
		await until(
			() =>
				cluster.api("GET", "/containers/json", undefined, cluster.gateways[0]),
			({ body }) => !JSON.stringify(body).includes("Lost: host h2"),
			30,
		);
		const names = [1, 2, 3, 4].map((i) => `way-${i}`);
		await cluster.cli("rm", ...names, "a-way");
	},
);

test.serial(
	"a host that does not answer delays nobody, and its containers stay listed",
	async (t) => {
		const [, h2] = cluster.hosts;
		stream = await follow(cluster.gateways[2]);
		await put(h2, "away");
		const there = "lost-1";
		const made = await cluster.api("POST", `/containers/create?name=${there}`, {
			Image: "busybox",
			Labels: { "arpanet.deployment": "lost" },
			Env: ["constraint:node==h2"],
			Cmd: ["sleep", "1000"],
			HostConfig: { Binds: ["precious:/data"] },
		});
		t.is(made.status, 201, made.body.message);
		for (const _ of cluster.gateways)
			t.true((await cluster.names("")).includes("away"));
		await h2.unplug();
		const first = performance.now();
		const { body: rows } = await cluster.api(
			"GET",
			"/containers/json",
			undefined,
			cluster.gateways[0],
		);
		t.true(performance.now() - first < 8_000); // a second, on a machine with nothing else to do
		const status = Object.fromEntries(
			rows.map((row: { Names: string[]; Status: string }) => [
				row.Names[0],
				row.Status,
			]),
		);
		t.is(status["/away"], "Lost: host h2 does not answer");
		t.regex(status["/b4"], /^Up/);
		t.is(status[`/${there}`], "Lost: host h2 does not answer");
		const second = performance.now();
		const inspected = await cluster.api(
			"GET",
			"/containers/b4/json",
			undefined,
			cluster.gateways[0],
		);
		t.is(inspected.status, 200);
		await cluster.api("GET", "/images/json", undefined, cluster.gateways[0]);
		t.true(performance.now() - second < 8_000);

		await cluster.gateways[0].stop();
		cluster.gateways[0] = await startOpenMember(cluster.hosts[0], "again");
		const again = await eventually(
			() =>
				cluster.api(
					"GET",
					"/containers/json?all=1",
					undefined,
					cluster.gateways[0],
				),
			({ body }) => JSON.stringify(body).includes(there),
			60,
		);
		const known = again.body.find(
			({ Names }: { Names: string[] }) => Names[0] === `/${there}`,
		);
		t.is(known.Status, "Lost: host h2 does not answer");
		const removed = await cluster.api(
			"DELETE",
			`/containers/${there}`,
			undefined,
			cluster.gateways[0],
		);
		t.is(removed.status, 502);
		t.regex(removed.body.message, new RegExp(`${there} is on host h2`));
		// an empty one in its place would hide it
		for (const [method, path, body] of [
			["GET", "/volumes/precious"],
			["POST", "/volumes/create", { Name: "precious" }],
			["DELETE", "/volumes/precious"],
		] as const) {
			const told = await cluster.api(method, path, body, cluster.gateways[2]);
			t.is(told.status, 502, method);
			t.regex(
				told.body.message,
				/volume precious is on host h2, which does not/,
			);
		}
	},
);

test.serial(
	"a host that comes back is whole again, also in events that are followed since before",
	async (t) => {
		const [, h2] = cluster.hosts;
		await put(h2, "meanwhile");
		await h2.plug();
		for (const gateway of [cluster.gateways[0], cluster.gateways[2]]) {
			const { body } = await eventually(
				() => cluster.api("GET", "/containers/json", undefined, gateway),
				({ body }) => !JSON.stringify(body).includes("Lost: host h2"),
				60,
			);
			const status = Object.fromEntries(
				body.map((row: { Names: string[]; Status: string }) => [
					row.Names[0],
					row.Status,
				]),
			);
			t.regex(status["/away"], /^Up/);
			t.regex(status["/meanwhile"], /^Up/);
			const volume = await cluster.api("GET", "/volumes/precious");
			t.is(volume.status, 200);
		}
		const key = `${cluster.hosts[0].consul}/v1/kv/arpanet/volumes/precious?raw`;
		t.deepEqual(await (await fetch(key)).json(), { host: "h2" });
		await put(h2, "back");
		const starts = (name: string) =>
			stream
				.text()
				.split("\n")
				.filter((line) => line.includes(`"name":"${name}"`))
				.filter((line) => line.includes('"Action":"start"')).length;
		await until(async () => starts("meanwhile") && starts("back"), Boolean, 60);
		t.is(starts("back"), 1);
		t.is(starts("meanwhile"), 1);
		t.is(starts("away"), 1, "once, as it was followed before");
		stream.end();
	},
);

for (const [trouble, begin, end] of [
	[
		"is down",
		(host: Host) => host.stopEngine(),
		(host: Host) => host.startEngine(),
	],
	[
		"hangs",
		(host: Host) => process.kill(host.pidOfEngine as number, "SIGSTOP"),
		(host: Host) => process.kill(host.pidOfEngine as number, "SIGCONT"),
	],
] as const) {
	test.serial(
		`a host whose Docker ${trouble} gets nothing new, and keeps nobody from a volume`,
		async (t) => {
			const [, , h3] = cluster.hosts;
			const config = cluster.gateways[2].config;
			const state = async () => {
				const { stdout } = await h3.exec("node", [
					arpanetProgram,
					...["hosts", "-c", config],
				]);
				return stdout.split("\n").find((line) => line.startsWith("h3 "));
			};
			await begin(h3);
			t.teardown(() => end(h3)); // also when this fails
			await until(state, (line) => /no engine/.test(line ?? ""), 60);
			// each gateway has heard of it
			for (const gateway of cluster.gateways.slice(0, 2)) {
				const body = { Image: "busybox", Env: ["constraint:node==h3"] };
				const refused = await eventually(
					() => cluster.api("POST", "/containers/create", body, gateway),
					({ body }) => /h3: its engine does not answer/.test(body.message),
				);
				t.is(refused.status, 409);
			}
			for (let i = 1; i <= 6; i++) {
				const { status, body } = await cluster.api(
					"POST",
					`/containers/create?name=downs-${i}`,
					{
						Image: "busybox",
						Labels: { "arpanet.deployment": "downs" },
						Cmd: ["sleep", "1000"],
						HostConfig: { Binds: [`downs-${i}:/data`] },
					},
					cluster.gateways[i % 2],
				);
				t.is(status, 201, body.message);
			}
			await end(h3);
			await until(state, (line) => / ready/.test(line ?? ""), 60);
			const names = [1, 2, 3, 4, 5, 6].map((i) => `downs-${i}`);
			await cluster.cli("rm", ...names);
			await cluster.cli("volume", "rm", ...names);
		},
	);
}

/** One more agent on h3, under another name. */
async function agentAs(name: string) {
	const [, , h3] = cluster.hosts;
	const file = join(h3.dataDir, `as-${name}.yml`);
	const own = await readFile(cluster.gateways[2].config, "utf8");
	await writeFile(
		file,
		own.replace("name: h3", `name: ${name}`).replace(":2377", ":2387"),
	);
	const agent = h3.spawn("node", [arpanetProgram, "agent", "-c", file], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	const ended = once(agent, "exit");
	let log = "";
	agent.stdout?.on("data", (chunk) => {
		log += chunk;
	});
	return {
		log: () => log,
		check: () => h3.exec("node", [arpanetProgram, "check", "-c", file]),
		/** @returns its exit code and signal */
		stop() {
			agent.kill();
			return ended;
		},
	};
}

test.serial(
	"a host that has another's name by mistake takes nothing from it, and is told so",
	async (t) => {
		const [h1] = cluster.hosts;
		const made = await cluster.api("POST", "/containers/create?name=twin-1", {
			Image: "busybox",
			Labels: { "arpanet.deployment": "twin", "arpanet.service": "web" },
			Env: ["constraint:node==h1"],
			Cmd: ["sleep", "1000"],
		});
		t.is(made.status, 201, made.body.message);
		t.is((await cluster.api("POST", "/containers/twin-1/start")).status, 204);
		const state = async () => {
			const nodes = await fetch(`${h1.consul}/v1/catalog/service/web-twin`);
			const record = await fetch(
				`${h1.consul}/v1/kv/arpanet/hosts/h1/record?raw`,
			);
			const { address } = (await record.json()) as { address: string };
			return { address, copies: ((await nodes.json()) as object[]).length };
		};
		const before = await state();
		const twin = await agentAs("h1");
		await until(
			async () => twin.log(),
			(said) => /another host, at \S+, is announced as h1/.test(said),
			60,
		);
		await setTimeout(3_000); // for a look, as every agent takes when it starts
		t.deepEqual(await state(), before);
		const check = await twin.check();
		t.regex(check.stdout, /^fail .*host: one at \S+ is announced as h1/m);
		t.deepEqual(await twin.stop(), [0, null], twin.log());
	},
);

test.serial(
	"a host that was given another name is told so, and what it has stays under the old one",
	async (t) => {
		const [h1] = cluster.hosts;
		const renamed = await agentAs("h9");
		const why =
			/is host h3's address, too; set arpanet\.host\.address on one .* set arpanet\.host\.name back/;
		const said = await eventually(
			async () => renamed.log(),
			(text) => why.test(text),
			60,
		);
		t.regex(said, why);
		await setTimeout(3_000); // for another try
		const record = await fetch(`${h1.consul}/v1/kv/arpanet/hosts/h9/record`);
		t.is(record.status, 404);
		t.deepEqual(await renamed.stop(), [0, null], renamed.log());
	},
);
