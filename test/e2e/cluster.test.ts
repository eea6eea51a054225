import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import test from "ava";
import { Engine } from "../../pipeline/engine.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { HttpClient } from "../../pipeline/http-client.ts";
import { type Arpanet, arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import { eventually } from "./stage.ts";

let lab: Lab;
let hosts: [Host, Host, Host];
let gateways: Arpanet[];
let turn = 0;

test.before(async () => {
	lab = await startLab({ hosts: 3 });
	hosts = lab.hosts as [Host, Host, Host];
	await Promise.all(hosts.map((host) => loadImages(host, ["busybox"])));
	gateways = await Promise.all(hosts.map((host) => start(host)));
	for (const gateway of gateways) {
		await eventually(
			() => docker(gateway, ["info"]),
			({ stdout }) => stdout.includes("Hosts: 3"),
			60,
		);
	}
});
test.after.always(async () => {
	await lab?.stop();
});

function start(host: Host, name = "arpanet"): Promise<Arpanet> {
	return startArpanet(host, {
		name,
		configure: ({ arpanet }) => {
			arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
}

/** Each call goes through the next gateway: any is the whole cluster. */
async function cli(...args: string[]): Promise<string> {
	const gateway = gateways[turn++ % gateways.length] as Arpanet;
	const { code, stdout, stderr } = await docker(gateway, args);
	if (code !== 0) throw new Error(stderr || stdout);
	return stdout.trim();
}

/** The API through the next gateway. */
async function api(
	method: string,
	path: string,
	body?: object,
	gateway = gateways[turn++ % gateways.length] as Arpanet,
	// biome-ignore lint/suspicious/noExplicitAny: whatever Docker answers
): Promise<{ status: number; body: any }> {
	const answer = await fetch(gateway.docker.replace("tcp:", "http:") + path, {
		method,
		...(body && {
			body: JSON.stringify(body),
			headers: { "content-type": "application/json" },
		}),
	});
	const text = await answer.text();
	return { status: answer.status, body: text ? JSON.parse(text) : undefined };
}

function filters(by: object): string {
	return `filters=${encodeURIComponent(JSON.stringify(by))}`;
}

/** What the list says, by name. */
async function names(query: string): Promise<string[]> {
	const { status, body } = await api("GET", `/containers/json?${query}`);
	if (status !== 200) throw new Error(body.message);
	return body.map(({ Names }: { Names: string[] }) => Names[0]?.slice(1));
}

/** A container on a host that is not its gateway's choice: straight to the engine. */
async function put(host: Host, name: string, ...args: string[]): Promise<void> {
	const run = ["run", "-d", "--name", name, "--stop-timeout", "0"];
	const { code, stderr } = await docker(host, [
		...run,
		...args,
		"busybox",
		"sleep",
		"1000",
	]);
	if (code !== 0) throw new Error(stderr);
}

test.serial(
	"one list of all hosts, with Docker's order and filters over the whole",
	async (t) => {
		const [h1, h2, h3] = hosts;
		await put(h1, "a1", "-l", "team=a", "-p", "8001:80");
		await put(h2, "b2", "-l", "team=b", "-p", "127.0.0.1:8002:80");
		await put(h3, "a3", "-l", "team=a", "-P", "--expose", "80");
		await put(h1, "b4", "-l", "team=b");
		await cli("stop", "b2");
		for (const _ of gateways) {
			t.deepEqual(await names(""), ["b4", "a3", "a1"]);
			t.deepEqual(await names("all=1"), ["b4", "a3", "b2", "a1"]);
			t.deepEqual(await names("limit=3"), ["b4", "a3", "b2"]);
			t.deepEqual(await names(`all=1&${filters({ label: ["team=a"] })}`), [
				"a3",
				"a1",
			]);
			t.deepEqual(await names(filters({ status: ["exited"] })), ["b2"]);
			t.deepEqual(await names(`all=1&${filters({ since: ["b2"] })}`), [
				"b4",
				"a3",
			]);
			t.deepEqual(await names(`all=1&${filters({ before: ["a3"] })}`), [
				"b2",
				"a1",
			]);
			t.deepEqual(
				await names(`all=1&${filters({ before: ["a3"], name: ["a"] })}`),
				["a1"],
			);
			t.deepEqual(
				await names(`all=1&size=1&limit=1&${filters({ name: ["2", "3"] })}`),
				["a3"],
			);
		}
		for (const query of [
			filters({ nonsense: ["x"] }),
			filters({ since: ["nobody"] }),
			"limit=x",
		]) {
			const path = `/containers/json?${query}`;
			const engine = await docker(h1, ["ps", "--filter", "nonsense=x"]);
			t.not(engine.code, 0);
			const own = await fetchEngine(h1, path);
			t.deepEqual(await api("GET", path), own);
		}
	},
);

/** The engine's own answer. */
async function fetchEngine(host: Host, path: string): Promise<unknown> {
	const client = new HttpClient({ socketPath: host.socketPath });
	const { status, text } = await client.ask({ method: "GET", path });
	client.close();
	return { status, body: JSON.parse(text) };
}

test.serial(
	"whoever writes through one gateway reads it through another",
	async (t) => {
		for (let i = 0; i < 12; i++) {
			await api("POST", "/containers/a3/rename?name=renamed");
			t.deepEqual(await names("limit=2"), ["b4", "renamed"]);
			await api("POST", "/containers/renamed/rename?name=a3");
			t.deepEqual(await names("limit=2"), ["b4", "a3"]);
			await api("POST", "/containers/a3/pause");
			t.deepEqual(await names(filters({ status: ["paused"] })), ["a3"]);
			await api("POST", "/containers/a3/unpause");
			t.deepEqual(await names(filters({ status: ["paused"] })), []);
		}
	},
);

test.serial("published ports and inspect tell of the host", async (t) => {
	const [h1, h2, h3] = hosts;
	t.is(await cli("port", "a1", "80"), `${h1.address}:8001`);
	t.regex(
		await cli("ps", "--filter", "name=a1", "--format", "{{.Ports}}"),
		new RegExp(`^${h1.address}:8001->80/tcp$`),
	);
	t.regex(await cli("port", "a3", "80"), new RegExp(`^${h3.address}:\\d+$`));
	await cli("start", "b2");
	t.is(await cli("port", "b2", "80"), "127.0.0.1:8002");
	const { body } = await api("GET", "/containers/b2/json");
	t.like(body.Node, {
		ID: "h2",
		Name: "h2",
		IP: h2.address,
		Addr: `${h2.address}:2377`,
	});
	t.true(body.Node.Cpus > 0 && body.Node.Memory > 0);
	const id = await cli("ps", "-q", "--no-trunc", "--filter", "name=b2");
	t.is(await cli("inspect", "-f", "{{.Id}}", id.slice(0, 10)), id);
});

test.serial(
	"what several ids begin with is ambiguous, on whatever hosts they are",
	async (t) => {
		const [h1, h2, h3] = hosts;
		const ids = new Map<Host, string[]>();
		for (const host of hosts) {
			const { stdout } = await docker(host, ["ps", "-aq", "--no-trunc"]);
			ids.set(host, stdout.trim().split("\n"));
		}
		const count = (host: Host, start: string) =>
			ids.get(host)?.filter((id) => id.startsWith(start)).length ?? 0;
		const digits = [..."0123456789abcdef"];
		const made: [Host, string][] = [];
		let onTwo: string | undefined;
		let onOne: string | undefined;
		while (!onTwo || !onOne) {
			for (const host of [h2, h3]) {
				const { stdout } = await docker(host, ["create", "busybox"]);
				made.push([host, stdout.trim()]);
				ids.get(host)?.push(stdout.trim());
			}
			const starts = digits
				.flatMap((digit) => [digit, ...digits.map((other) => digit + other)])
				.filter((start) => count(h1, start) === 0)
				.filter((start) => !/^[ab]\d$/.test(start)); // names that were given above
			onTwo = starts.find(
				(start) => count(h2, start) === 1 && count(h3, start) === 1,
			);
			onOne = starts.find(
				(start) => count(h2, start) === 2 && count(h3, start) === 0,
			);
		}
		const said = await fetchEngine(h2, `/containers/${onOne}/json`);
		for (const _ of gateways) {
			const { status, body } = await api("GET", `/containers/${onTwo}/json`);
			const message = `Multiple IDs found with provided prefix: ${onTwo}`;
			t.deepEqual({ status, body }, { status: 500, body: { message } });
			t.deepEqual(await api("GET", `/containers/${onOne}/json`), said);
			t.deepEqual(await api("POST", `/containers/${onOne}/start`), said);
		}
		for (const [host, id] of made) await docker(host, ["rm", id]);
	},
);

test.serial(
	"a name is one container's in the whole cluster, also of creates at once",
	async (t) => {
		const create = { Image: "busybox", Cmd: ["sleep", "1000"] };
		const taken = await api("POST", "/containers/create?name=a3", create);
		const id = await cli("ps", "-q", "--no-trunc", "--filter", "name=a3");
		const conflict = (name: string, by: string) =>
			`Conflict. The container name "/${name}" is already in use by container "${by}". You have to remove (or rename) that container to be able to reuse that name.`;
		t.deepEqual(taken, { status: 409, body: { message: conflict("a3", id) } });
		const many = await Promise.all(
			Array.from({ length: 9 }, () =>
				api("POST", "/containers/create?name=only", create),
			),
		);
		const made = many.filter(({ status }) => status === 201);
		t.is(made.length, 1);
		for (const { status, body } of many) {
			if (status === 201) continue;
			t.deepEqual(
				{ status, body },
				{ status: 409, body: { message: conflict("only", made[0]?.body.Id) } },
			);
		}
		t.deepEqual(await names(`all=1&${filters({ name: ["only"] })}`), ["only"]);
		const renamed = await api("POST", "/containers/only/rename?name=a3");
		t.deepEqual(renamed, {
			status: 409,
			body: {
				message: `Error when allocating new name: ${conflict("a3", id)}`,
			},
		});
		t.is((await api("POST", "/containers/only/rename?name=other")).status, 204);
		t.is((await api("DELETE", "/containers/other")).status, 204);
		// what is left is the names of those that were made at the engines
		const foreign = ["a1", "a3", "b2", "b4"];
		t.deepEqual(await eventually(keptNames, isExactly(foreign)), foreign);
	},
);

/** The names of which no record tells, as Consul has them. */
async function keptNames(): Promise<string[]> {
	const prefix = "arpanet/names/";
	const answer = await fetch(`${hosts[0].consul}/v1/kv/${prefix}?keys`);
	const keys = answer.status === 404 ? [] : ((await answer.json()) as string[]);
	return keys.map((key) => key.slice(prefix.length)).sort();
}

function isExactly(wanted: string[]): (found: string[]) => boolean {
	return (found) => found.join() === wanted.join();
}

test.serial(
	"so is that of a container made at an engine, or without arpanet's plugins",
	async (t) => {
		const [, h2] = hosts;
		const create = { Image: "busybox", Cmd: ["sleep", "1000"] };
		const disabled = { ...create, Labels: { "arpanet.enabled": "false" } };
		await put(h2, "foreign");
		await eventually(keptNames, (kept) => kept.includes("foreign"));
		const id = await cli("ps", "-q", "--no-trunc", "--filter", "name=foreign");
		for (const gateway of gateways) {
			for (const body of [create, disabled]) {
				const path = "/containers/create?name=foreign";
				const taken = await api("POST", path, body, gateway);
				t.is(taken.status, 409);
				t.true(taken.body.message.includes(`in use by container "${id}"`));
			}
		}
		const renamed = await api("POST", "/containers/a1/rename?name=foreign");
		t.is(renamed.status, 409);
		// gone behind arpanet's back: the name is free at once
		await docker(h2, ["rm", "-f", "foreign"]);
		t.is(
			(await api("POST", "/containers/create?name=foreign", create)).status,
			201,
		);
		await cli("rm", "foreign");

		const many = await Promise.all(
			Array.from({ length: 12 }, (_, i) =>
				api("POST", "/containers/create?name=one", i % 2 ? create : disabled),
			),
		);
		t.deepEqual(
			many.map(({ status }) => status).sort(),
			[201, ...Array(11).fill(409)],
			many.map(({ body }) => body.message).join("\n"),
		);
		t.deepEqual(await names(`all=1&${filters({ name: ["one"] })}`), ["one"]);
		await cli("rm", "one");
	},
);

test.serial(
	"an image's name means on every host what it was last given to mean, on whatever host that was",
	async (t) => {
		const [h1, , h3] = hosts;
		/** The image that a container of that name gets on a host, through any gateway. */
		const imageOn = async (host: string, image: string) => {
			const Env = [`constraint:node==${host}`];
			const path = "/containers/create?name=asks";
			const made = await api("POST", path, { Image: image, Env });
			t.is(made.status, 201, made.body.message);
			const { body } = await api("GET", "/containers/asks/json");
			t.is(body.Node.Name, host);
			t.is((await api("DELETE", "/containers/asks")).status, 204);
			return body.Image;
		};
		await docker(h3, ["tag", "busybox", "only:h3"]);
		const { stdout: id } = await docker(h1, [
			...["inspect", "-f", "{{.Id}}", "busybox"],
		]);
		t.is(await imageOn("h1", "only:h3"), id.trim());
		for (const maker of ["b2", "a3", "b2"]) {
			const query = `container=${maker}&repo=again&tag=1`;
			const made = await api("POST", `/commit?${query}`);
			for (const host of ["h1", "h2", "h3"]) {
				t.is(await imageOn(host, "again:1"), made.body.Id, host);
			}
		}
		const create = { Image: "nowhere", Cmd: ["true"] };
		const missing = await api("POST", "/containers/create?name=none", create);
		t.deepEqual(missing, {
			status: 404,
			body: { message: "No such image: nowhere:latest" },
		});
		t.deepEqual(await names(`all=1&${filters({ name: ["none"] })}`), []);
		for (const host of hosts) await docker(host, ["tag", "again:1", "twice:1"]);
		const twice = await api("GET", "/images/again:1/json");
		const refused = await api("DELETE", `/images/${twice.body.Id}`);
		t.is(refused.status, 409);
		t.regex(refused.body.message, /referenced in multiple repositories/);
		await cli("rmi", "only:h3", "again:1", "twice:1");
	},
);

test.serial(
	"a copy of an image that its engine cannot take in is an error, though the answer began with 200",
	async (t) => {
		const source = createServer((_, answer) => {
			answer.end("this is no image");
		}).listen(0, "127.0.0.1");
		await once(source, "listening");
		const { port } = source.address() as AddressInfo;
		const [to, from] = [
			new Engine(`unix://${hosts[0].socketPath}`),
			new Engine(`tcp://127.0.0.1:${port}`),
		];
		t.teardown(async () => {
			await Promise.all([to.close(), from.close()]);
			source.close();
		});
		await t.throwsAsync(to.copyImage("any", from), { message: /\S/ });
	},
);

test.serial(
	"an exec is made at one gateway, started at another and inspected at a third",
	async (t) => {
		const { body } = await api("POST", "/containers/b2/exec", {
			Cmd: ["sh", "-c", "exit 7"],
			AttachStdout: true,
		});
		const started = await fetch(
			`${gateways[turn++ % 3]?.docker.replace("tcp:", "http:")}/exec/${body.Id}/start`,
			{
				method: "POST",
				headers: { "content-type": "application/json" },
				body: JSON.stringify({ Detach: true }),
			},
		);
		t.is(started.status, 200);
		const inspected = await eventually(
			() => api("GET", `/exec/${body.Id}/json`),
			({ body }) => body.Running === false,
		);
		t.is(inspected.body.ExitCode, 7);
		t.is(
			await cli("exec", "b2", "hostname"),
			await cli("inspect", "-f", "{{.Config.Hostname}}", "b2"),
		);
	},
);

test.serial(
	"events end when until has passed, in the order of their times",
	async (t) => {
		const since = Date.now() / 1000 - 600;
		const query = `since=${since}&until=${Math.ceil(Date.now() / 1000)}&${filters({ type: ["container"], event: ["create", "start"] })}`;
		const gateway = gateways[1] as Arpanet;
		const answer = await fetch(
			`${gateway.docker.replace("tcp:", "http:")}/events?${query}`,
		);
		const events = (await answer.text())
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line));
		const seen = events.map(({ Actor }) => Actor.Attributes.name);
		for (const name of ["a1", "b2", "a3", "b4"])
			t.true(seen.includes(name), name);
		t.true(
			events.every(({ time }, i) => i === 0 || time >= events[i - 1].time),
		);
	},
);

test.serial(
	"an image is one everywhere: made of a container, run elsewhere, removed from all hosts or none",
	async (t) => {
		const [h1, h2, h3] = hosts;
		await cli("exec", "b2", "touch", "/made");
		await cli("commit", "b2", "made:1");
		t.is(await cli("run", "--rm", "made:1", "ls", "/made"), "/made");
		await cli("tag", "made:1", "made:2");
		const context = join(h1.dataDir, "context");
		await mkdir(context);
		const build = async (
			tag: string,
			dockerfile: string,
			...args: string[]
		) => {
			await writeFile(join(context, "Dockerfile"), dockerfile);
			const gateway = gateways[turn++ % gateways.length] as Arpanet;
			// newer engines ask for BuildKit, which has no network of a container
			const env = { DOCKER_BUILDKIT: "0" };
			const built = ["build", "-t", tag, ...args, context];
			const { code, stderr } = await docker(gateway, built, { env });
			if (code !== 0) throw new Error(stderr);
		};
		await build("made:of", "FROM made:2\nRUN ls /made\n");
		const network = ["--network", "container:b2"]; // where b2 is
		await build("made:there", "FROM busybox\nRUN touch /there\n", ...network);
		await build("made:of", "FROM made:there\nRUN ls /there\n");
		await cli("rmi", "made:there");
		await cli("rmi", "made:of");
		t.regex(
			await cli("images", "--format", "{{.Tag}}", "made"),
			/^[12]\n[12]$/,
		);
		await cli("exec", "b2", "touch", "/again");
		await cli("commit", "b2", "made:1");
		t.is(await cli("run", "--rm", "made:1", "ls", "/again"), "/again");
		const saved = await docker(gateways[0] as Arpanet, [
			"save",
			"made:1",
			"made:2",
			"-o",
			`${h1.dataDir}/made.tar`,
		]);
		t.is(saved.code, 0, saved.stderr);
		await docker(h3, ["tag", "busybox", "made:3"]);
		await docker(h1, ["tag", "busybox", "made:3"]);
		await docker(h3, [
			"run",
			"-d",
			"--name",
			"user",
			"made:3",
			"sleep",
			"1000",
		]);
		for (const host of hosts) await docker(host, ["rmi", "busybox"]);
		const refused = await api("DELETE", "/images/made:3");
		t.is(refused.status, 409);
		t.regex(
			refused.body.message,
			/conflict: unable to (remove repository reference "made:3"|delete made:3)/,
		);
		t.is(
			(await docker(h1, ["images", "-q", "made:3"])).stdout.trim().length,
			12,
		);
		await cli("rm", "-f", "user");
		await cli("rmi", "made:1", "made:2");
		for (const host of hosts) {
			t.is((await docker(host, ["images", "-q", "made:1"])).stdout, "");
		}
		await docker(h1, ["tag", "made:3", "busybox"]);
		t.is((await docker(h2, ["images", "-q", "made"])).stdout, "");
	},
);

test.serial(
	"a name that is given to an older image means that one",
	async (t) => {
		const tar = (age: string) => `${hosts[0]?.dataDir}/${age}.tar`;
		await cli("commit", "b2", "aged:1");
		await cli("save", "aged:1", "-o", tar("older"));
		await cli("exec", "b2", "touch", "/newer");
		await cli("commit", "b2", "aged:1");
		await cli("save", "aged:1", "-o", tar("newer"));
		await cli("load", "-i", tar("newer"));
		const see = () =>
			cli("run", "--rm", "aged:1", "find", "/newer").catch(messageOf);
		t.is(await see(), "/newer");
		await cli("load", "-i", tar("older"));
		const isOlder = (seen: string) => /No such file/.test(seen);
		await eventually(see, isOlder);
		for (const _ of gateways) t.true(isOlder(await see()));
		await cli("rmi", "-f", "aged:1");
	},
);

test.serial(
	"volumes of all hosts are one list, and are removed and pruned wherever they are",
	async (t) => {
		const [h1, h2] = hosts;
		for (const host of hosts) {
			await docker(host, ["volume", "create", `at-${host.name}`]);
		}
		await docker(h1, ["volume", "create", "both"]);
		await put(h2, "keeper", "-v", "both:/data");
		const list = async (...args: string[]) =>
			(await cli("volume", "ls", "-q", ...args)).split("\n");
		for (const _ of gateways) {
			t.deepEqual(await list(), ["at-h1", "at-h2", "at-h3", "both"]);
			t.deepEqual(await list("--filter", "name=h2"), ["at-h2"]);
			t.deepEqual(await list("--filter", "dangling=false"), ["both"]);
			const inspect = ["volume", "inspect", "-f", "{{.Name}}"];
			t.is(await cli(...inspect, "at-h1", "at-h3"), "at-h1\nat-h3");
			t.deepEqual(await names(filters({ volume: ["both"] })), ["keeper"]);
		}
		const used = await api("DELETE", "/volumes/both");
		t.is(used.status, 409);
		t.regex(used.body.message, /volume is in use/);
		const left = await docker(h1, ["volume", "ls", "-q"]);
		t.true(left.stdout.includes("both"), "all of it or nothing");
		await cli("volume", "rm", "at-h3");
		const pruned = await api("POST", "/v1.41/volumes/prune");
		t.deepEqual(pruned.body.VolumesDeleted.sort(), ["at-h1", "at-h2", "both"]);
		t.is(typeof pruned.body.SpaceReclaimed, "number");
		t.deepEqual(await list(), ["both"]);
		await cli("rm", "-f", "keeper");
		await cli("volume", "rm", "both");
		t.deepEqual(await list(), [""]);
	},
);

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
		const [h1, h2] = hosts;
		for (const host of [h1, h2]) {
			await docker(host, ["volume", "create", `at-${host.name}`]);
		}
		await h2.exec("mkdir", ["-p", "/run/docker/plugins"]);
		const plugin = h2.spawn(process.execPath, ["-e", PLUGIN], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		await new Promise((resolve) => plugin.stdout?.once("data", resolve));
		const list = async (gateway = gateways[0] as Arpanet) => {
			const start = performance.now();
			const { body } = await api("GET", "/volumes", undefined, gateway);
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
		t.true((await names("")).includes("b2"), "what it does not hang on");
		plugin.kill("SIGUSR2");
		const whole = await eventually(list, ({ found }) => found.length > 1, 60);
		t.deepEqual(whole.found, ["at-h1", "at-h2"]);
		await cli("volume", "rm", "at-h1", "at-h2");
	},
);

test.serial(
	"an image is not taken for the one meant while a silent host may just be making it anew",
	async (t) => {
		const [h1, h2] = hosts;
		const key = `${h1.consul}/v1/kv/arpanet/tagging/h2/a-build`;
		const names = ["arpanet/images/busybox:latest"];
		const at = new Date().toISOString();
		const body = JSON.stringify({ host: "h2", at, names });
		const create = () =>
			api("POST", "/containers/create?name=anew", {
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
		await cli("rm", "anew");
	},
);

test.serial("system df and prune are of all hosts", async (t) => {
	await cli("stop", "a1", "b2", "a3");
	const usage = await api("GET", "/system/df");
	t.is(usage.body.Containers.length, 4);
	t.true(usage.body.LayersSize > 0);
	const info = await api("GET", "/info");
	t.is(info.body.ContainersStopped, 3);
	const pruned = await api("POST", "/containers/prune");
	t.is(pruned.body.ContainersDeleted.length, 3);
	t.is(typeof pruned.body.SpaceReclaimed, "number");
	t.deepEqual(await names("all=1"), ["b4"]);
	t.is((await api("POST", "/build/prune")).status, 200);
	t.is((await api("POST", "/images/prune")).status, 200);
	t.is(
		(await api("POST", `/images/prune?${filters({ nonsense: ["x"] })}`)).status,
		400,
	);
	t.regex((await api("GET", "/services")).body.message, /not a swarm manager/);
});

/** What a gateway says of containers from now on. */
async function follow({ docker }: Arpanet) {
	const end = new AbortController();
	let text = "";
	const path = `/events?${filters({ type: ["container"] })}`;
	const answer = await fetch(docker.replace("tcp:", "http:") + path, {
		signal: end.signal,
	});
	void (async () => {
		const decoder = new TextDecoder();
		for await (const chunk of answer.body ?? []) text += decoder.decode(chunk);
	})().catch(() => {});
	return { text: () => text, end: () => end.abort() };
}

let stream: Awaited<ReturnType<typeof follow>>;

test.serial(
	"a host that does not answer delays nobody, and its containers stay listed",
	async (t) => {
		const [, h2] = hosts;
		stream = await follow(gateways[2] as Arpanet);
		await put(h2, "away");
		const there = "lost-1";
		const made = await api("POST", `/containers/create?name=${there}`, {
			Image: "busybox",
			Labels: { "arpanet.deployment": "lost" },
			Env: ["constraint:node==h2"],
			Cmd: ["sleep", "1000"],
		});
		t.is(made.status, 201, made.body.message);
		for (const _ of gateways) t.true((await names("")).includes("away"));
		await h2.unplug();
		const first = performance.now();
		const { body: rows } = await api(
			"GET",
			"/containers/json",
			undefined,
			gateways[0],
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
		const inspected = await api(
			"GET",
			"/containers/b4/json",
			undefined,
			gateways[0],
		);
		t.is(inspected.status, 200);
		await api("GET", "/images/json", undefined, gateways[0]);
		t.true(performance.now() - second < 8_000);

		await gateways[0]?.stop();
		gateways[0] = await start(hosts[0], "again");
		const again = await eventually(
			() => api("GET", "/containers/json?all=1", undefined, gateways[0]),
			({ body }) => JSON.stringify(body).includes(there),
			60,
		);
		const known = again.body.find(
			({ Names }: { Names: string[] }) => Names[0] === `/${there}`,
		);
		t.is(known.Status, "Lost: host h2 does not answer");
		const removed = await api(
			"DELETE",
			`/containers/${there}`,
			undefined,
			gateways[0],
		);
		t.is(removed.status, 502);
		t.regex(removed.body.message, new RegExp(`${there} is on host h2`));
	},
);

test.serial(
	"a host that comes back is whole again, also in events that are followed since before",
	async (t) => {
		const [, h2] = hosts;
		await put(h2, "meanwhile");
		await h2.plug();
		for (const gateway of [gateways[0], gateways[2]] as Arpanet[]) {
			const { body } = await eventually(
				() => api("GET", "/containers/json", undefined, gateway),
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
		}
		await put(h2, "back");
		const starts = (name: string) =>
			stream
				.text()
				.split("\n")
				.filter((line) => line.includes(`"name":"${name}"`))
				.filter((line) => line.includes('"Action":"start"')).length;
		await eventually(
			async () => starts("meanwhile") && starts("back"),
			Boolean,
			60,
		);
		t.is(starts("back"), 1);
		t.is(starts("meanwhile"), 1);
		t.is(starts("away"), 1, "once, as it was followed before");
		stream.end();
	},
);

test.serial(
	"a host whose Docker is down gets nothing new, and keeps nobody from a volume",
	async (t) => {
		const [, , h3] = hosts;
		const config = gateways[2]?.config ?? "";
		const state = async () => {
			const { stdout } = await h3.exec("node", [
				arpanetProgram,
				...["hosts", "-c", config],
			]);
			return stdout.split("\n").find((line) => line.startsWith("h3 "));
		};
		await h3.stopEngine();
		await eventually(state, (line) => /no engine/.test(line ?? ""), 60);
		for (let i = 1; i <= 6; i++) {
			const { status, body } = await api(
				"POST",
				`/containers/create?name=downs-${i}`,
				{
					Image: "busybox",
					Labels: { "arpanet.deployment": "downs" },
					Cmd: ["sleep", "1000"],
					HostConfig: { Binds: [`downs-${i}:/data`] },
				},
				gateways[i % 2],
			);
			t.is(status, 201, body.message);
		}
		await h3.startEngine();
		await eventually(state, (line) => / ready/.test(line ?? ""), 60);
	},
);

test.serial(
	"a host that has another's name by mistake takes nothing from it, and is told so",
	async (t) => {
		const [h1, , h3] = hosts;
		const made = await api("POST", "/containers/create?name=twin-1", {
			Image: "busybox",
			Labels: { "arpanet.deployment": "twin", "arpanet.service": "web" },
			Env: ["constraint:node==h1"],
			Cmd: ["sleep", "1000"],
		});
		t.is(made.status, 201, made.body.message);
		t.is((await api("POST", "/containers/twin-1/start")).status, 204);
		const state = async () => {
			const nodes = await fetch(`${h1.consul}/v1/catalog/service/web-twin`);
			const record = await fetch(
				`${h1.consul}/v1/kv/arpanet/hosts/h1/record?raw`,
			);
			const { address } = (await record.json()) as { address: string };
			return { address, copies: ((await nodes.json()) as object[]).length };
		};
		const file = join(h3.dataDir, "twin.yml");
		const own = await readFile(gateways[2]?.config ?? "", "utf8");
		await writeFile(
			file,
			own.replace("name: h3", "name: h1").replace(":2377", ":2387"),
		);
		const twin = h3.spawn("node", [arpanetProgram, "agent", "-c", file], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		const ended = once(twin, "exit");
		let log = "";
		twin.stdout?.on("data", (chunk) => {
			log += chunk;
		});
		const before = await state();
		await eventually(
			async () => log,
			(said) => /another host, at \S+, is announced as h1/.test(said),
			60,
		);
		await setTimeout(3_000); // for a look, as every agent takes when it starts
		t.deepEqual(await state(), before);
		const check = await h3.exec("node", [arpanetProgram, "check", "-c", file]);
		t.regex(check.stdout, /^fail .*host: one at \S+ is announced as h1/m);
		twin.kill();
		t.deepEqual(await ended, [0, null], log);
	},
);
