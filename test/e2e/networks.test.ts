import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import type { NetworkInspect } from "../../pipeline/docker.ts";
import type { Arpanet } from "../lab/arpanet.ts";
import { compose1, compose2, docker } from "../lab/clients.ts";
import { type LabCluster, startCluster, startMember } from "../lab/cluster.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually } from "./stage.ts";

let lab: LabCluster;
let turn = 0;

test.before(async () => {
	lab = await startCluster({ hosts: 3 });
});
showComplaints(() => lab?.gateways ?? []);
test.after.always(async () => {
	await lab?.stop();
});

/** Any of the three gateways, in turn: each is the whole cluster. */
function any(): Arpanet {
	return lab.gateways[turn++ % lab.gateways.length] as Arpanet;
}

/** The docker CLI at a gateway; whatever its exit code. */
function ask(gateway: Arpanet, ...args: string[]) {
	return docker(gateway, args, { env: lab.certificates.client });
}

/** The docker CLI at any gateway. @returns what it prints */
async function cli(t: ExecutionContext, ...args: string[]): Promise<string> {
	const { code, stdout, stderr } = await ask(any(), ...args);
	t.is(code, 0, `docker ${args.join(" ")}\n${stderr}`);
	return stdout.trim();
}

/** A container that waits, on a host of the tester's choice. */
function run(
	t: ExecutionContext,
	name: string,
	host: Host,
	...args: string[]
): Promise<string> {
	const where = ["-e", `constraint:node==${host.name}`];
	const kept = ["--name", name, "--hostname", name];
	const waits = ["busybox", "sleep", "3600"];
	return cli(t, "run", "-d", ...kept, ...where, ...args, ...waits);
}

async function addressOf(
	t: ExecutionContext,
	container: string,
	network: string,
): Promise<string> {
	const format = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
	return cli(t, "inspect", "-f", format, container);
}

/** Whether a packet gets from a container to an address and back. @param more arguments of ping */
async function reaches(from: string, to: string, ...more: string[]) {
	const ping = ["ping", "-c", "1", "-W", "2", ...more, to];
	return (await ask(any(), "exec", from, ...ping)).code === 0;
}

/** The same within half a minute. */
function soonReaches(from: string, to: string): Promise<boolean> {
	return eventually(() => reaches(from, to), Boolean, 30);
}

/** The addresses that a container gets for a name, sorted. */
async function resolves(
	container: string,
	name: string,
	...server: string[]
): Promise<string[]> {
	const asking = ["exec", container, "nslookup", name, ...server];
	const { stdout } = await ask(any(), ...asking);
	const answer = stdout.slice(stdout.indexOf("\n\n"));
	const found = answer.matchAll(/^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)/gm);
	return [...new Set([...found].map((match) => match[1] as string))].sort();
}

/** The same once there are so many: each host's Consul is a moment behind the others. */
function comesToResolve(container: string, name: string, count = 1) {
	return eventually(
		() => resolves(container, name),
		(found) => found.length >= count,
	);
}

/** The address that a program in a container takes for a name; nslookup asks in all networks, a program in one after the other. */
async function firstOf(container: string, name: string): Promise<string> {
	const ping = ["ping", "-c", "1", "-W", "1", name];
	return eventually(
		async () => {
			const { stdout } = await ask(any(), "exec", container, ...ping);
			return /\((\d+\.\d+\.\d+\.\d+)\)/.exec(stdout)?.[1] ?? "";
		},
		(found) => found !== "",
	);
}

async function inspect(t: ExecutionContext, ref: string, gateway = any()) {
	const { code, stdout, stderr } = await ask(
		gateway,
		"network",
		"inspect",
		ref,
	);
	t.is(code, 0, stderr);
	return JSON.parse(stdout)[0] as NetworkInspect;
}

async function project(name: string, text: string): Promise<string> {
	const [host] = lab.hosts as [Host];
	const file = join(host.dataDir, "projects", name, "docker-compose.yml");
	await mkdir(join(host.dataDir, "projects", name), { recursive: true });
	await writeFile(file, text);
	return file;
}

/** @param net the first three numbers of the addresses in its network back */
const several = (net: string) => `version: "3.8"
services:
  web:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h1"]
    networks: [front, back]
  api:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h2"]
    networks:
      back: {aliases: [backend]}
  db:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h3"]
    networks:
      back: {ipv4_address: ${net}.77}
      vault: {}
  safe:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h1"]
    networks: [vault]
networks:
  front: {}
  vault: {internal: true}
  back:
    ipam:
      config: [{subnet: ${net}.0/24}]
`;

for (const [version, compose, separator] of [
	["docker-compose 1.29.2", compose1, "_"],
	["Compose v2", compose2, "-"],
] as const) {
	test.serial(
		`${version}: several networks over three hosts, each with its own names`,
		async (t) => {
			const id = version.includes("v2") ? "two" : "one";
			const net = id === "one" ? "172.29.1" : "172.29.2";
			const file = await project(id, several(net));
			const fig = async (...args: string[]) => {
				const { code, stderr } = await compose(
					any(),
					["-f", file, "-p", id, ...args],
					{ env: lab.certificates.client, timeout: 240_000 },
				);
				t.is(code, 0, `${args.join(" ")}\n${stderr}`);
			};
			await fig("up", "-d");
			const of = (service: string) =>
				`${id}${separator}${service}${separator}1`;
			const api = await addressOf(t, of("api"), `${id}_back`);
			t.is(await addressOf(t, of("db"), `${id}_back`), `${net}.77`);

			t.deepEqual(await comesToResolve(of("web"), "api"), [api]);
			t.deepEqual(await comesToResolve(of("web"), "backend"), [api]);
			const inBack = `db.${id}-back.service.consul`;
			t.deepEqual(await comesToResolve(of("web"), inBack), [`${net}.77`]);
			t.true(await reaches(of("web"), `${net}.77`));
			t.true(await reaches(of("db"), api));
			const front = await addressOf(t, of("web"), `${id}_front`);
			t.false(await reaches(of("api"), front), "not in front");
			t.true((await inspect(t, `${id}_vault`)).Internal);
			const db = await addressOf(t, of("db"), `${id}_vault`);
			t.is(await firstOf(of("safe"), "db"), db);
			t.true(await reaches(of("safe"), db));
			t.false(await reaches(of("safe"), api), "no way leads out of vault");
			t.false(await reaches(of("safe"), lab.gateway), "nor to the wire");

			await fig("down", "-t", "1");
			const left = ["network", "ls", "-q", "--filter", `name=${id}_`];
			t.is(await cli(t, ...left), "");
		},
	);
}

/** @param id also the end of an alias of its api */
const sharing = (id: string) => `version: "3.8"
services:
  web:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h1"]
    networks: [default, front]
  api:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h2"]
    networks:
      front: {aliases: [api-of-${id}]}
  db:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h3"]
networks:
  front: {external: true, name: front}
`;

test.serial(
	"two projects share an external network: all in it have names for each other, and none for what is not",
	async (t) => {
		await cli(t, "network", "create", "front");
		const projects = [
			[compose1, "left", "left_api_1"],
			[compose2, "right", "right-api-1"],
		] as const;
		const fig = async (
			[compose, id]: (typeof projects)[number],
			...args: string[]
		) => {
			const file = await project(id, sharing(id));
			const { code, stderr } = await compose(
				any(),
				["-f", file, "-p", id, ...args],
				{ env: lab.certificates.client, timeout: 240_000 },
			);
			t.is(code, 0, `${id}: ${args.join(" ")}\n${stderr}`);
		};
		for (const each of projects) await fig(each, "up", "-d");
		const apis = await Promise.all(
			projects.map(([, , api]) => addressOf(t, api, "front")),
		);
		const [left, right] = apis as [string, string];
		const webs = await Promise.all([
			addressOf(t, "left_web_1", "front"),
			addressOf(t, "right-web-1", "front"),
		]);
		for (const [asker, name, expected] of [
			["left_web_1", "api-of-right", [right]],
			["right-web-1", "api-of-left", [left]],
			["left_api_1", "api-of-right", [right]],
			["right-api-1", "left_api_1", [left]],
			["left_web_1", "api", apis], // as Docker does with an alias of two
			["left_web_1", "db", [await addressOf(t, "left_db_1", "left_default")]],
		] as const) {
			t.deepEqual(
				await comesToResolve(asker, name, expected.length),
				[...expected].sort(),
				`${name} in ${asker}`,
			);
		}
		const web = await addressOf(t, "left_web_1", "left_default");
		t.is(await firstOf("left_db_1", "web"), web);
		t.true(webs.includes(await firstOf("left_api_1", "web")));
		t.deepEqual(await resolves("left_web_1", "db.right.service.consul"), []);
		t.true(await reaches("left_web_1", right));
		t.true(await reaches("right-api-1", left));
		const db = await addressOf(t, "right-db-1", "right_default");
		t.false(await reaches("left_web_1", db), "it is not in front");

		// a project that is made in another's own network finds what is there
		await run(
			t,
			"top_proxy_1",
			lab.hosts[2] as Host,
			"--network",
			"left_default",
		);
		t.is(await firstOf("top_proxy_1", "web"), web);
		t.true(await reaches("top_proxy_1", web));
		t.deepEqual(await resolves("top_proxy_1", "db.right.service.consul"), []);
		await cli(t, "rm", "-f", "top_proxy_1");

		const [first, second] = projects;
		await fig(first, "down", "-t", "1");
		t.deepEqual(await resolves("right-web-1", "api"), [right]);
		t.true(await reaches("right-web-1", right));
		t.not((await ask(any(), "network", "rm", "front")).code, 0);
		await fig(second, "down", "-t", "1");
		await cli(t, "network", "rm", "front");
	},
);

test.serial(
	"a network that a user makes is one network, with one id, from every gateway and on every host",
	async (t) => {
		const [h1, h2, h3] = lab.hosts as [Host, Host, Host];
		const created = await Promise.all(
			lab.gateways.map((gateway) =>
				ask(gateway, "network", "create", "--label", "team=blue", "shared"),
			),
		);
		const [made, ...others] = created.sort(
			(a, b) => Number(a.code) - Number(b.code),
		);
		const id = made?.stdout.trim() ?? "";
		t.regex(id, /^[0-9a-f]{64}$/);
		for (const { code, stderr } of others) {
			t.is(code, 1);
			t.regex(stderr, /network with name shared already exists/);
		}

		await run(t, "abc_a_1", h1, "--network", "shared");
		await run(t, "xyz_b_1", h2, "--network", id.slice(0, 12));
		await run(t, "cee", h3, "--network", "shared"); // of no deployment
		const b = await addressOf(t, "xyz_b_1", "shared");
		t.deepEqual(await comesToResolve("abc_a_1", "b"), [b]);
		t.deepEqual(await comesToResolve("cee", "b"), [b]);
		t.true(await reaches("cee", b));
		t.true(await reaches("abc_a_1", await addressOf(t, "cee", "shared")));

		for (const gateway of lab.gateways) {
			const seen = await inspect(t, id.slice(0, 10), gateway);
			t.is(seen.Id, id);
			const names = Object.values(seen.Containers ?? {}).map(
				({ Name }) => Name,
			);
			t.deepEqual(names.sort(), ["abc_a_1", "cee", "xyz_b_1"]);
			const format = "{{.ID}} {{.Name}}";
			const list = async (...filters: string[]) =>
				(
					await ask(
						gateway,
						...["network", "ls", "--no-trunc", "--format", format],
						...filters.flatMap((filter) => ["--filter", filter]),
					)
				).stdout.trim();
			t.is(await list("name=shared"), `${id} shared`);
			t.is(await list(`id=${id.slice(0, 12)}`), `${id} shared`);
			t.is(await list("label=team=blue"), `${id} shared`);
		}
		for (const by of ["shared", id]) {
			const listed = ["ps", "--filter", `network=${by}`, "--format"];
			const found = await cli(t, ...listed, "{{.Names}}");
			t.is(found.split("\n").sort().join(), "abc_a_1,cee,xyz_b_1", by);
		}
		for (const name of ["abc_a_1", "xyz_b_1", "cee"]) {
			const format = '{{(index .NetworkSettings.Networks "shared").NetworkID}}';
			t.is(await cli(t, "inspect", "-f", format, name), id);
		}

		const busy = await ask(any(), "network", "rm", "shared");
		t.is(busy.code, 1);
		t.regex(busy.stderr, /network shared id [0-9a-f]{64} has active endpoints/);
		await cli(t, "rm", "-f", "abc_a_1");
		const still = await ask(any(), "network", "rm", id);
		t.regex(still.stderr, /has active endpoints/, "on the other hosts");
	},
);

test.serial(
	"a container with a fixed IPv6 address goes where its network has the range",
	async (t) => {
		const ranges = ["--subnet", "10.200.5.0/24", "--subnet", "fd00:5::/64"];
		await cli(t, "network", "create", "--ipv6", ...ranges, "six");
		const six = (address: string) => ["--network", "six", "--ip6", address];
		const waits = ["busybox", "sleep", "3600"];
		await cli(t, "run", "-d", "--name", "six", ...six("fd00:5::5"), ...waits);
		const where =
			'{{(index .NetworkSettings.Networks "six").GlobalIPv6Address}}';
		t.is(await cli(t, "inspect", "-f", where, "six"), "fd00:5::5");
		const home = await cli(t, "inspect", "-f", "{{.Node.Name}}", "six");
		const other = lab.hosts.find(({ name }) => name !== home) as Host;
		const there = ["-e", `constraint:node==${other.name}`];
		const refused = await ask(
			any(),
			...["run", "-d", ...there, ...six("fd00:5::6"), ...waits],
		);
		t.regex(
			refused.stderr,
			/fd00:5::6 is of an IPv6 range that network six has on h\d alone/,
		);
		await cli(t, "rm", "-f", "six");
		await cli(t, "network", "rm", "six");
	},
);

test.serial(
	"a network that Docker does not let anybody make leaves nothing taken",
	async (t) => {
		const subnet = ["--subnet", "10.88.0.0/24"];
		for (const name of ["bridge", "host", "none"]) {
			const refused = await ask(any(), "network", "create", ...subnet, name);
			t.regex(refused.stderr, /not permitted on predefined/);
		}
		await cli(t, "network", "create", ...subnet, "free");
		await cli(t, "network", "rm", "free");
	},
);

test.serial(
	"connect and disconnect, whatever host the container is on",
	async (t) => {
		const [, h2] = lab.hosts as [Host, Host];
		const since = Math.floor(Date.now() / 1000);
		const id = await cli(t, "network", "create", "second");
		await cli(t, "network", "connect", "--alias", "bee", "second", "xyz_b_1");
		await cli(t, "network", "connect", id, "cee");
		const b = await addressOf(t, "xyz_b_1", "second");
		t.true(await reaches("cee", b));
		const bee = "bee.shared-second.service.consul";
		t.deepEqual(await comesToResolve("cee", bee), [b]);

		await cli(t, "network", "disconnect", id.slice(0, 12), "xyz_b_1");
		t.false(await reaches("cee", b));
		t.deepEqual(
			await eventually(
				() => resolves("cee", bee),
				(found) => found.length === 0,
			),
			[],
		);
		await cli(t, "network", "disconnect", "second", "cee");
		await cli(t, "network", "rm", id);
		const told = await cli(
			t,
			...["events", "--since", String(since), "--filter", "type=network"],
			...["--until", String(Math.ceil(Date.now() / 1000))],
			...["--format", "{{.Action}} {{.Actor.ID}} {{.Actor.Attributes.name}}"],
		);
		const lines = told.split("\n").filter((line) => line.endsWith(" second"));
		t.deepEqual(
			[...new Set(lines)], // the engine tells of a disconnect twice
			["create", "connect", "disconnect", "destroy"].map(
				(action) => `${action} ${id} second`,
			),
		);
		for (const host of lab.hosts) {
			const { stdout } = await docker(host, [
				"network",
				"ls",
				"--format={{.Name}}",
			]);
			t.false(stdout.includes("second"), host.name);
		}
		t.is((await inspect(t, "shared")).Name, "shared", h2.name);
	},
);

test.serial("prune takes what no host uses, and nothing else", async (t) => {
	await cli(t, "network", "create", "--label", "old", "unused");
	const pruned = await cli(t, "network", "prune", "-f");
	t.true(pruned.includes("unused"));
	t.false(pruned.includes("shared"));
	for (const gateway of lab.gateways) {
		const { stdout } = await ask(
			gateway,
			"network",
			"ls",
			"--format={{.Name}}",
		);
		t.deepEqual(stdout.trim().split("\n").sort(), [
			"bridge",
			"host",
			"none",
			"shared",
		]);
	}
	await cli(t, "rm", "-f", "xyz_b_1", "cee");
	await cli(t, "network", "rm", "shared");
});

/** Two deployments, each with a container on two hosts: `<id>_a_1` on the first host, `<id>_b_1` on the second. */
async function pairs(t: ExecutionContext, ...ids: string[]): Promise<void> {
	const [h1, h2] = lab.hosts as [Host, Host];
	for (const id of ids) {
		await run(t, `${id}_a_1`, h1);
		await run(t, `${id}_b_1`, h2);
	}
}

test.serial("what is large gets through whole", async (t) => {
	await pairs(t, "red", "blue");
	const b = await addressOf(t, "red_b_1", "red_default");
	const mtu = await cli(
		t,
		...["exec", "red_a_1", "cat", "/sys/class/net/eth0/mtu"],
	);
	t.is(mtu, "1450");
	t.true(await reaches("red_a_1", b, "-s", "1422"), "the largest packet");
	t.true(await reaches("red_a_1", b, "-s", "9000"), "one that goes in pieces");
	const serve = "dd if=/dev/zero of=/big bs=1M count=20; httpd -h /";
	await cli(t, "exec", "red_b_1", "sh", "-c", serve);
	const fetch = `wget -qO- http://${b}/big | wc -c`;
	t.is(
		await cli(t, "exec", "red_a_1", "sh", "-c", fetch),
		String(20 * 2 ** 20),
	);
});

test.serial("no packet gets from one deployment to another", async (t) => {
	for (const to of ["blue_a_1", "blue_b_1"]) {
		const address = await addressOf(t, to, "blue_default");
		t.false(await reaches("red_a_1", address), to);
		t.false(await reaches("red_b_1", address), to);
	}
});

test.serial("a network is not another's because it says so", async (t) => {
	const [h1] = lab.hosts as [Host];
	const forged = ["--label", "arpanet.network=red"];
	const disabled = ["--label", "arpanet.enabled=false"];
	await cli(t, "network", "create", ...forged, ...disabled, "evil");
	const shown = await inspect(t, "evil");
	t.deepEqual(shown.Labels, { "arpanet.enabled": "false" });
	// past every gateway, before the overlay looks again
	const made = await docker(h1, ["network", "create", ...forged, "forged"]);
	const bridge = `br-${made.stdout.slice(0, 12)}`;
	const devices = await vxlans(h1);
	for (const { ifname } of devices)
		await h1.exec("ip", ["link", "del", ifname]);
	const b = await addressOf(t, "red_b_1", "red_default");
	t.true(await soonReaches("red_a_1", b));
	for (const end = Date.now() + 7_000; Date.now() < end; await sleep(200)) {
		const masters = (await vxlans(h1)).map(({ master }) => master);
		t.is(masters.length, devices.length);
		t.false(masters.includes(bridge), "while it is looked at again");
	}
	await cli(t, "network", "rm", "evil");
	await docker(h1, ["network", "rm", "forged"]);
});

test.serial("another host is not told either what is not theirs", async (t) => {
	const [, h2] = lab.hosts as [Host, Host];
	const asked = (name: string) =>
		resolves("red_a_1", `${name}.service.consul`, h2.address);
	const b = await addressOf(t, "red_b_1", "red_default");
	t.deepEqual(await asked("b.red"), [b]);
	t.deepEqual(await asked("b.blue"), []);
});

test.serial(
	"a container cannot speak as though it were the overlay",
	async (t) => {
		const [h1, h2] = lab.hosts as [Host, Host];
		const answer = await fetch(`${h1.consul}/v1/kv/arpanet/networks/red?raw`);
		const { vni } = (await answer.json()) as { vni: number };
		const frame = (from: number) => {
			const header = Buffer.from([8, 0, 0, 0, 0, vni >> 8, vni & 255, 0]); // RFC 7348
			const ethernet = "ffffffffffff02000000000088b5"; // a type for experiments
			const bytes = [
				header,
				Buffer.from(ethernet, "hex"),
				Buffer.alloc(46, from),
			];
			return Buffer.concat(bytes).toString("hex");
		};
		const capture = h1.spawn(
			"tcpdump",
			["-i", `arpa${vni}`, "-l", "-x", "ether", "proto", "0x88b5"],
			{ stdio: ["ignore", "pipe", "pipe"] },
		);
		let seen = "";
		for (const stream of [capture.stdout, capture.stderr]) {
			stream?.on("data", (chunk) => {
				seen += chunk;
			});
		}
		await eventually(
			async () => seen,
			(said) => said.includes("listening on"),
		);
		const speak = async (host: Host, from: number, ...inside: string[]) => {
			const script = `const s = require("dgram").createSocket("udp4");
				s.send(Buffer.from("${frame(from)}", "hex"), 4789, "${h1.address}", () => s.close())`;
			const [program = "", ...args] = [...inside, "node", "-e", script];
			t.is((await host.exec(program, args)).code, 0);
		};
		await run(t, "plain", h1); // on Docker's own bridge
		for (const container of ["plain", "blue_a_1"]) {
			const pid = await cli(t, "inspect", "-f", "{{.State.Pid}}", container);
			await speak(h1, 0x11, "nsenter", "-t", pid, "-n");
		}
		await speak(h2, 0x22);
		await eventually(
			async () => seen,
			(said) => said.includes("2222 2222"),
		);
		t.true(seen.includes("2222 2222"), "a host can");
		t.false(seen.includes("1111 1111"), "a container cannot");
		capture.kill("SIGINT");
		await cli(t, "rm", "-f", "plain");
	},
);

test.serial(
	"what a service exposes others reach and find, and nothing else",
	async (t) => {
		const [h1, h2] = lab.hosts as [Host, Host];
		await run(t, "open_api_1", h2, "-l", "arpanet.expose=red");
		await run(t, "open_db_1", h1);
		const name = "api.open.service.consul";
		const api = await addressOf(t, "open_api_1", "open_default");
		const red = await eventually(
			() => reaches("red_a_1", api),
			(there) => there,
			60,
		);
		t.true(red, "from another host");
		t.true(
			await eventually(
				() => reaches("red_b_1", api),
				(there) => there,
				60,
			),
			"from the same host",
		);
		t.deepEqual(await resolves("red_a_1", name), [api]);
		t.deepEqual(await resolves("blue_a_1", name), []);
		t.false(await reaches("blue_a_1", api), "blue is not named");
		t.false(await reaches("blue_b_1", api), "blue is not named");
		const db = await addressOf(t, "open_db_1", "open_default");
		t.false(await reaches("red_a_1", db), "it is not exposed");
		const back = await addressOf(t, "red_b_1", "red_default");
		t.false(await reaches("open_api_1", back), "the way back is closed");
		const wrong = [
			"run",
			"-d",
			"-l",
			"arpanet.expose=A!",
			"--name=open_x_1",
			"busybox",
		];
		t.regex(
			(await ask(any(), ...wrong)).stderr,
			/expose: "A!".* is no deployment's id/,
		);
		await cli(t, "rm", "-f", "open_api_1", "open_db_1");
	},
);

test.serial("what someone deletes of the overlay comes back", async (t) => {
	const [h1, h2] = lab.hosts as [Host, Host];
	const b = await addressOf(t, "red_b_1", "red_default");
	const whole = () => soonReaches("red_a_1", b);
	const devices = await vxlans(h1);
	for (const { ifname } of devices) {
		await h1.exec("ip", ["link", "del", ifname]);
	}
	t.true(await whole());
	const gone = devices.map(({ ifindex }) => ifindex);
	t.false((await vxlans(h1)).some(({ ifindex }) => gone.includes(ifindex)));
	for (const device of await vxlans(h2)) {
		await h2.exec("ip", ["link", "set", device.ifname, "nomaster"]);
	}
	t.true(await whole());
	for (const { ifname } of await vxlans(h1)) {
		const flood = ["fdb", "del", "00:00:00:00:00:00", "dev", ifname];
		await h1.exec("bridge", [...flood, "dst", h2.address]);
		await h1.exec("bridge", ["fdb", "flush", "dev", ifname]);
	}
	t.true(await whole());
});

test.serial(
	"a network that is put on record anew never has two devices in its bridge: they would be a loop",
	async (t) => {
		const [h1, h2] = lab.hosts as [Host, Host];
		await run(t, "ring_a_1", h1);
		await run(t, "ring_b_1", h2);
		const b = await addressOf(t, "ring_b_1", "ring_default");
		const whole = () => soonReaches("ring_a_1", b);
		t.true(await whole());
		const names = (devices: Device[]) => devices.map(({ ifname }) => ifname);
		const old = names(await vxlans(h1));
		const record = `${h1.consul}/v1/kv/arpanet/networks/ring`;
		await fetch(record, { method: "DELETE" });
		const isNew = await eventually(
			async () => {
				const all = await Promise.all([h1, h2].map(vxlans));
				for (const devices of all) {
					const bridges = devices.map(({ master }) => master);
					t.is(new Set(bridges).size, bridges.length, `${names(devices)}`);
				}
				return all.every((some) => names(some).some((n) => !old.includes(n)));
			},
			Boolean,
			30,
		);
		t.true(isNew);
		t.true(await whole());
		await cli(t, "rm", "-f", "ring_a_1", "ring_b_1");
	},
);

interface Device {
	ifname: string;
	ifindex: number;
	/** The bridge that it is in. */
	master?: string;
}

async function vxlans(host: Host): Promise<Device[]> {
	const { stdout } = await host.exec("ip", [
		...["-j", "link", "show", "type", "vxlan"],
	]);
	return JSON.parse(stdout || "[]");
}

test.serial(
	"who reads along on the wire reads nothing with encrypt",
	async (t) => {
		const [h1] = lab.hosts as [Host];
		const b = await addressOf(t, "red_b_1", "red_default");
		const payload = "Payload-That-Is-Nobody-Elses";
		const seen = async () => {
			const capture = h1.spawn("tcpdump", ["-i", "eth0", "-l", "-A", "udp"], {
				stdio: ["ignore", "pipe", "pipe"],
			});
			let text = "";
			capture.stdout?.on("data", (chunk) => {
				text += chunk;
			});
			capture.stderr?.on("data", (chunk) => {
				text += chunk;
			});
			await eventually(
				async () => text,
				(said) => said.includes("listening on"),
			);
			await ask(
				any(),
				"exec",
				"red_a_1",
				"wget",
				"-qO-",
				`http://${b}/${payload}`,
			);
			await eventually(
				async () => text,
				(said) => said.includes(payload),
				3,
			);
			capture.kill("SIGINT");
			return text;
		};
		t.true((await seen()).includes(payload), "as it is");

		await Promise.all(lab.gateways.map((gateway) => gateway.stop()));
		lab.gateways = await Promise.all(
			lab.hosts.map((host) =>
				startMember(host, lab.certificates, "encrypting", ({ arpanet }) => {
					arpanet.encrypt = true;
				}),
			),
		);
		t.true(
			await eventually(
				() => reaches("red_a_1", b),
				(there) => there,
				60,
			),
		);
		t.false((await seen()).includes(payload), "encrypted");
		t.true(await reaches("red_a_1", b, "-s", "9000"));
		const { stdout } = await h1.exec("stat", [
			...["-c", "%a", "/run/arpanet/wireguard.key"],
		]);
		t.is(stdout.trim(), "600");
	},
);

test.serial(
	"a host in which nobody is any more leaves the network",
	async (t) => {
		const [h1, h2] = lab.hosts as [Host, Host];
		await cli(t, "rm", "-f", "red_b_1", "blue_a_1", "blue_b_1");
		const networks = async (host: Host) => {
			const names = ["network", "ls", "--format={{.Name}}"];
			return (await docker(host, names)).stdout;
		};
		const left = await eventually(
			() => networks(h2),
			(names) => !names.includes("red_default"),
			90,
		);
		t.false(left.includes("red_default"));
		t.true((await networks(h1)).includes("red_default"));
		t.deepEqual(
			await eventually(
				() => vxlans(h1),
				(devices) => devices.length === 0,
				30,
			),
			[],
		);
		await cli(t, "rm", "-f", "red_a_1");
	},
);
