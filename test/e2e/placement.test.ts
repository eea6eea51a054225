import test, { type ExecutionContext } from "ava";
import type { HostRecord } from "../../pipeline/state/hosts.ts";
import { type Arpanet, arpanetProgram, LASTING } from "../lab/arpanet.ts";
import { compose1, compose2, docker } from "../lab/clients.ts";
import { startOpenCluster, startOpenMember } from "../lab/cluster.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually } from "./stage.ts";

let lab: Lab;
let gateways: Arpanet[];

/** What a host's powerstrip.yml says of it. */
const LABELS: Record<string, Record<string, string>> = {
	h1: { disk: "ssd", zone: "eu-1" },
	h2: { disk: "hdd", zone: "eu-2" },
	h3: { zone: "us-1" },
};

test.before(async () => {
	const { gateways: started, ...rest } = await startOpenCluster(labelled);
	lab = rest;
	gateways = started;
});
showComplaints(() => gateways ?? []);
test.after.always(async () => {
	await lab?.stop();
});

// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
function labelled({ arpanet }: any, host: Host): void {
	arpanet.host.labels = LABELS[host.name];
}

/** Starts arpanet on a host with other settings of the plugin. */
function start(host: Host, placement: object): Promise<Arpanet> {
	return startOpenMember(host, "arpanet", (config) => {
		labelled(config, host);
		const { plugins } = config.arpanet;
		plugins[plugins.indexOf("placement")] = { placement };
	});
}

async function allAreKnown(): Promise<void> {
	for (const gateway of gateways) {
		await eventually(
			() => docker(gateway, ["info"]),
			({ stdout }) => stdout.includes("Hosts: 3"),
			60,
		);
	}
}

/** Runs the docker CLI against one of the gateways, by its host's number. */
function at(gateway: number, ...args: string[]) {
	return docker(gateways[gateway - 1] as Arpanet, args);
}

/** Creates a container and says on which host it is, or what the user reads instead. */
async function place(name: string, ...args: string[]): Promise<string> {
	return placeAt(1, name, ...args);
}

async function placeAt(
	gateway: number,
	name: string,
	...args: string[]
): Promise<string> {
	const { code, stderr } = await at(
		gateway,
		...["create", "--name", name, ...args, "busybox", "sleep", "100"],
	);
	return code === 0 ? hostOf(name) : stderr.trim();
}

async function hostOf(name: string): Promise<string> {
	for (const host of lab.hosts) {
		const { stdout } = await docker(host, [
			"ps",
			"-aq",
			"-f",
			`name=^${name}$`,
		]);
		if (stdout.trim()) return host.name;
	}
	return "nowhere";
}

/** `plan_web_1 h1` of all whose names begin so. */
async function perContainer(prefix: string): Promise<string[]> {
	const found = await Promise.all(
		lab.hosts.map(async (host) => {
			const format = ["--format", "{{.Names}}", "-f", `name=^${prefix}`];
			const { stdout } = await docker(host, ["ps", "-a", ...format]);
			const names = stdout.split("\n").filter(Boolean);
			return names.map((name) => `${name} ${host.name}`);
		}),
	);
	return found.flat();
}

/** What Consul has under a prefix. */
async function keys(prefix: string): Promise<string[]> {
	const [{ consul }] = lab.hosts as [Host];
	const answer = await fetch(`${consul}/v1/kv/${prefix}?keys`);
	return answer.ok ? ((await answer.json()) as string[]) : [];
}

async function removeAll(t: ExecutionContext, prefix: string): Promise<void> {
	const { stdout } = await at(1, "ps", "-aq", "-f", `name=${prefix}`);
	const ids = stdout.split("\n").filter(Boolean);
	if (ids.length === 0) return;
	const { code, stderr } = await at(1, "rm", "-fv", ...ids);
	t.is(code, 0, stderr);
}

test.serial(
	"a host tells its labels, its engine's and how busy it is",
	async (t) => {
		const [{ consul }] = lab.hosts as [Host];
		const answer = await fetch(`${consul}/v1/kv/arpanet/hosts/h1/record?raw`);
		const { labels = {} } = (await answer.json()) as HostRecord;
		t.like(labels, { disk: "ssd", zone: "eu-1", storagedriver: "overlay2" });
		const state = await fetch(`${consul}/v1/kv/arpanet/hosts/h1/alive?raw`);
		const { load, memory, network } = (await state.json()) as Record<
			string,
			number
		>;
		for (const share of [load, memory, network]) {
			t.true(share !== undefined && share >= 0 && share <= 1);
		}
	},
);

for (const [expression, ...hosts] of [
	["constraint:node==h2", "h2"],
	["constraint:node!=h1", "h2", "h3"],
	["constraint:disk==ssd", "h1"],
	["constraint:disk!=ssd", "h2", "h3"],
	["constraint:zone==eu-*", "h1", "h2"],
	["constraint:zone==/^US-/", "refused"],
	["constraint:zone==/(?i)^US-/", "h3"],
	["constraint:storagedriver==overlay2", "h1", "h2", "h3"],
	["constraint:disk==~hdd", "h2"],
	["constraint:disk==~tape", "h1", "h2", "h3"],
	["constraint:disk!=~ssd", "h2", "h3"],
] as const) {
	test.serial(`${expression} means ${hosts.join(" or ")}`, async (t) => {
		const name = `c${Math.random().toString(36).slice(2)}`;
		const place = await placeAt(2, name, "-e", expression, "-e", "A=b");
		if (hosts[0] === "refused") {
			t.regex(
				place,
				/no host can run c\w+: h2: constraint zone==\S+ is not met \(zone is eu-2\); h1: .*; h3: /,
			);
			return;
		}
		t.true((hosts as readonly string[]).includes(place), place);
		const { stdout } = await at(3, "inspect", name);
		const [{ Config }] = JSON.parse(stdout);
		t.deepEqual(
			Config.Env.filter((each: string) => !/^PATH=/.test(each)),
			["A=b"],
		);
		t.is(
			Config.Labels["com.docker.swarm.constraints"],
			JSON.stringify([expression.slice("constraint:".length)]),
		);
		await removeAll(t, name);
	});
}

test.serial("a constraint can be a label, or stand in Swarm's", async (t) => {
	t.is(await place("l1", "--label", "constraint:node==h3"), "h3");
	const swarm = 'com.docker.swarm.constraints=["zone==eu-*","node!=h1"]';
	t.is(await place("l2", "--label", swarm), "h2");
	t.regex(
		await place("l3", "-e", "constraint:node=h1"),
		/constraint "node=h1": write constraint:key==value/,
	);
	await removeAll(t, "l");
});

test.serial(
	"an affinity goes by containers, their labels, and images",
	async (t) => {
		t.is(
			await place(
				"front",
				"-e",
				"constraint:node==h2",
				"--label",
				"tier=front",
			),
			"h2",
		);
		t.is(await place("a1", "-e", "affinity:container==front"), "h2");
		t.is(await place("a2", "-e", "affinity:container==fr*"), "h2");
		t.is(await place("a3", "-e", "affinity:tier==front"), "h2");
		t.not(await place("a4", "-e", "affinity:tier!=front"), "h2");
		t.not(await placeAt(2, "a5", "-e", "affinity:container!=front"), "h2");
		t.is(await place("a6", "-e", "affinity:container==~front"), "h2");
		t.true(/^h/.test(await place("a7", "-e", "affinity:container==~nobody")));
		const { stdout: id } = await at(1, "inspect", "-f", "{{.Id}}", "front");
		t.is(await place("a8", "-e", `affinity:container==${id.trim()}`), "h2");
		const [, , third] = lab.hosts as [Host, Host, Host];
		await docker(third, ["tag", "busybox", "only-here:1"]);
		t.is(await place("a9", "-e", "affinity:image==only-here"), "h3");
		t.is(await place("a10", "-e", "affinity:image==only-here:1"), "h3");
		t.regex(
			await place("a11", "-e", "affinity:container==nobody"),
			/h1, h2, h3: affinity container==nobody is not met/,
		);
		const swarm = 'com.docker.swarm.affinities=["container==front"]';
		t.is(await place("a12", "--label", swarm), "h2");
		await removeAll(t, "a[0-9]");
		await removeAll(t, "front");
	},
);

test.serial(
	"a fixed port is one container's on each host, stopped ones too",
	async (t) => {
		const places = await Promise.all(
			[1, 2, 3].map((i) => placeAt(i, `p${i}`, "-p", "8080:80")),
		);
		t.deepEqual(places.sort(), ["h1", "h2", "h3"]);
		t.regex(
			await placeAt(2, "p4", "-p", "8080:80"),
			/h\d: port 8080\/tcp is taken by p\d; h\d: port 8080\/tcp is taken by p\d; h\d: /,
		);
		t.regex(await placeAt(3, "p5", "-p", "8080:80/udp"), /^h/);
		const free = await hostOf("p2");
		await at(3, "rm", "p2");
		const its = Number(free.slice(1));
		t.is(await placeAt(its, "p6", "-p", "127.0.0.1:8080:80"), free);
		const loopback = ["-p", "127.0.0.1:8081:80"];
		t.is(await placeAt(2, "p7", ...loopback), "h2");
		const there = ["-e", "constraint:node==h3"];
		t.is(await placeAt(2, "p8", ...there, ...loopback), "h3");
		t.regex(
			await placeAt(2, "p9", ...loopback),
			/h2: port 127.0.0.1:8081\/tcp is taken by p7; h1: port 127.0.0.1:8081 is one of h2, whose gateway was asked; /,
		);
		await removeAll(t, "p[0-9]");
	},
);

test.serial(
	"what a container shares with another binds it to that one's host",
	async (t) => {
		t.is(await place("data", "-e", "constraint:node==h3", "-v", "/data"), "h3");
		t.is(await place("s1", "--volumes-from", "data"), "h3");
		t.is(await placeAt(2, "s2", "--network", "container:data"), "h3");
		t.is(await placeAt(2, "s3", "--pid", "container:data"), "h3");
		t.regex(
			await place("s4", "--volumes-from", "data", "-e", "constraint:node==h1"),
			/h1: data, whose volumes it uses, is on h3; h2, h3: |h1: data, whose volumes it uses, is on h3; h2: .*; h3: /,
		);
		await removeAll(t, "s[0-9]");
		await removeAll(t, "data");
	},
);

test.serial(
	"a bind mount is of the host that was asked, unless the user names another",
	async (t) => {
		for (const i of [1, 2, 3]) {
			t.is(await placeAt(i, `b${i}`, "-v", "/tmp:/tmp"), `h${i}`);
		}
		t.is(
			await place("b4", "-v", "/tmp:/tmp", "-e", "constraint:node==h2"),
			"h2",
		);
		t.regex(
			await place("b5", "-v", "/tmp:/tmp", "-e", "constraint:disk==hdd"),
			/h1: constraint disk==hdd is not met \(disk is ssd\); h2: bind mount \/tmp is a path of h1, whose gateway was asked; /,
		);
		t.not(
			await place(
				"b6",
				"-v",
				"/etc/localtime:/t:ro",
				"-e",
				"constraint:node!=h1",
			),
			"h1",
		);
		await removeAll(t, "b[0-9]");
	},
);

test.serial("nobody reserves more than a host has", async (t) => {
	t.regex(
		await place("m1", "-m", "900g"),
		/h1, h2, h3: 900 GiB of memory are asked for, and of its \d+(\.\d)? GiB 0 B are reserved/,
	);
	t.regex(
		await place("m2", "--cpus", "1", "-e", "constraint:node==h1"),
		/^h1$/,
	);
	await removeAll(t, "m[0-9]");
});

test.serial(
	"copies that exclude each other are one to a host, and the next is refused with reasons",
	async (t) => {
		const text = [
			"web:",
			"  image: busybox",
			"  command: sleep 100",
			"  labels: {arpanet.exclusive: 'true'}",
		].join("\n");
		const options = { cwd: (lab.hosts[0] as Host).dataDir, input: text };
		const { code, stderr } = await compose1(
			gateways[1] as Arpanet,
			["-f", "-", "-p", "excl", "up", "-d", "--scale", "web=4"],
			options,
		);
		t.not(code, 0);
		t.regex(
			stderr,
			/no host can run excl_web_\d: .*a copy of web is there, and arpanet.exclusive keeps copies apart/,
		);
		const places = await Promise.all(
			[1, 2, 3, 4].map((i) => hostOf(`excl_web_${i}`)),
		);
		t.deepEqual(places.sort(), ["h1", "h2", "h3", "nowhere"]);
		await removeAll(t, "excl_");
	},
);

test.serial(
	"a plain docker run is placed as well, and handled through any gateway",
	async (t) => {
		const { stdout, stderr } = await at(
			1,
			"run",
			"-d",
			"-e",
			"constraint:node==h3",
			"busybox",
			"sleep",
			"100",
		);
		t.regex(stdout, /^[0-9a-f]{64}$/m, stderr);
		const id = stdout.trim();
		const { stdout: name } = await at(2, "inspect", "-f", "{{.Name}}", id);
		t.is(await hostOf(name.trim().slice(1)), "h3");
		t.is((await at(2, "exec", id, "echo", "hello")).stdout, "hello\n");
		// the name that Docker made up is on record instead of the request
		const onRecord = await eventually(
			() => keys("arpanet/containers/"),
			(all) => all.includes(`arpanet/containers${name.trim()}`),
			30,
		);
		t.deepEqual(onRecord, [`arpanet/containers${name.trim()}`]);
		const all = await Promise.all(
			Array.from({ length: 6 }, (_, i) => placeAt((i % 3) + 1, `plain${i}`)),
		);
		t.deepEqual([...new Set(all)].sort(), ["h1", "h2", "h3"]);
		t.regex(
			await place("plain0"),
			/The container name "\/plain0" is already in use/,
		);
		t.is(
			(await at(3, "run", "--rm", "busybox", "echo", "done")).stdout,
			"done\n",
		);
		await removeAll(t, "plain");
		t.is((await at(1, "rm", "-f", id)).code, 0);
	},
);

test.serial(
	"creates at once through all gateways: even, and no fixed port twice",
	async (t) => {
		const places = await Promise.all(
			Array.from({ length: 30 }, (_, i) =>
				create(i, `many_web_${i + 1}`, {
					Image: "busybox",
					HostConfig:
						i < 9 ? { PortBindings: { "80/tcp": [{ HostPort: "9090" }] } } : {},
				}),
			),
		);
		const made = places.filter((place) => place.status === 201);
		const refused = places.filter((place) => place.status === 409);
		t.is(refused.length, 6);
		for (const { message } of refused)
			t.regex(message, /port 9090\/tcp is taken/);
		t.is(made.length, 24);
		const hosts = await Promise.all(
			lab.hosts.map(async (host) => {
				const { stdout } = await docker(host, [
					"ps",
					"-aq",
					"-f",
					"name=many_web",
				]);
				return stdout.split("\n").filter(Boolean).length;
			}),
		);
		t.true(Math.max(...hosts) - Math.min(...hosts) <= 1, `${hosts}`);
		const ports = await Promise.all(
			lab.hosts.map(async (host) => {
				const { stdout } = await docker(host, [
					"ps",
					"-aq",
					"-f",
					"name=many_web",
				]);
				const ids = stdout.split("\n").filter(Boolean);
				const { stdout: bound } = await docker(host, [
					"inspect",
					"-f",
					"{{.HostConfig.PortBindings}}",
					...ids,
				]);
				return bound.split("9090").length - 1;
			}),
		);
		t.deepEqual(ports, [1, 1, 1]);
		await removeAll(t, "many_web");
	},
);

/** Creates through one of the gateways without a client in between. */
async function create(i: number, name: string, body: object) {
	const { docker } = gateways[i % 3] as Arpanet;
	const url = docker.replace("tcp:", "http:");
	const answer = await fetch(`${url}/v1.41/containers/create?name=${name}`, {
		method: "POST",
		headers: { "content-type": "application/json" },
		body: JSON.stringify(body),
	});
	const { message = "" } = (await answer.json()) as { message?: string };
	return { status: answer.status, message };
}

for (const [client, project, file] of [
	[compose1, "verone", "web: $"],
	[compose2, "vertwo", "services: {web: $}"],
] as const) {
	test.serial(
		`a container that ${client.name} makes anew takes over its fixed port, though every host has one`,
		async (t) => {
			for (const seconds of [100, 200]) {
				const web = `{image: busybox, command: sleep ${seconds}, ports: ["7070:80"]}`;
				const { code, stderr } = await client(
					gateways[2] as Arpanet,
					["-f", "-", "-p", project, "up", "-d", "-t", "1", "--scale", "web=3"],
					{ input: file.replace("$", web) },
				);
				t.is(code, 0, stderr);
			}
			const places = await Promise.all(
				[1, 2, 3].map((i) =>
					hostOf([project, "web", i].join(client === compose1 ? "_" : "-")),
				),
			);
			t.deepEqual(places.sort(), ["h1", "h2", "h3"]);
			await removeAll(t, project);
			await at(1, "network", "rm", `${project}_default`); // what v2 makes stays
		},
	);
}

test.serial(
	"a container that another Compose, or another container_name, makes anew takes over what the old one had",
	async (t) => {
		const file = (name: string) => `
version: "2.4"
services:
  db: {image: busybox, init: true, command: sleep 1000, ports: ["7171:80"], volumes: ["data:/v"]}
  fix: {image: busybox, init: true, command: sleep 1000, networks: {default: {ipv4_address: 172.28.7.10}}}
  only: {image: busybox, init: true, command: sleep 1000, labels: {arpanet.exclusive: "true"}, scale: 3}
  named: {image: busybox, init: true, command: sleep 1000, container_name: ${name}, ports: ["7272:80"], volumes: ["data:/v"]}
networks: {default: {ipam: {config: [{subnet: 172.28.7.0/24}]}}}
volumes: {data: {}}
`;
		const places = new Set<string>();
		let i = 0;
		for (const [client, name] of [
			[compose2, "heir-foo"],
			[compose2, "heir-bar"],
			[compose1, "heir-bar"],
			[compose1, "heir-foo"],
			[compose2, "heir-bar"],
		] as const) {
			const up = ["-f", "-", "-p", "heir", "up", "-d", "-t", "1"];
			const { code, stderr } = await client(gateways[i++ % 3] as Arpanet, up, {
				input: file(name),
			});
			t.is(code, 0, stderr);
			const mark = client === compose1 ? "_" : "-";
			const named = (service: string, copy = 1) =>
				["heir", service, copy].join(mark);
			const all = await perContainer("heir");
			t.deepEqual(
				all.map((each) => each.split(" ")[0]).sort(),
				[
					...[name, named("db"), named("fix")],
					...[1, 2, 3].map((copy) => named("only", copy)),
				].sort(),
			);
			places.add(await hostOf(named("db"))).add(await hostOf(name));
			const { stdout } = await at(1, "inspect", named("fix"));
			t.regex(stdout, /"IPAddress": "172\.28\.7\.10"/);
		}
		t.is(places.size, 1, "the volume and those who use it stay where they are");
		t.deepEqual(
			(await keys("arpanet/leases/heir/")).length,
			9,
			"six containers and a bridge on each host",
		);
		await removeAll(t, "heir");
		await at(1, "network", "rm", "heir_default");
		await at(1, "volume", "rm", "heir_data");
		t.deepEqual(await keys("arpanet/containers/heir"), []);
	},
);

test.serial(
	"arpanet plan says where all goes and why not elsewhere; up then does just that",
	async (t) => {
		const [host] = lab.hosts as [Host];
		const file = [
			"db: {image: busybox, command: sleep 100, environment: ['constraint:disk==hdd']}",
			"web: {image: busybox, command: sleep 100, links: [db], ports: ['6060:80'], environment: ['constraint:node!=h2']}",
			"side: {image: busybox, command: sleep 100, net: 'container:db'}",
		].join("\n");
		const plan = (...args: string[]) =>
			host.exec(
				process.execPath,
				[
					arpanetProgram,
					"plan",
					"-c",
					gateways[0]?.config ?? "",
					"-f",
					"-",
					"-p",
					"plan",
					...args,
				],
				{ input: file },
			);
		const shown = await plan("--scale", "web=3");
		t.is(shown.code, 1, shown.stderr);
		t.regex(
			shown.stdout,
			/^plan_db_1 +h2 +h1: constraint disk==hdd is not met \(disk is ssd\)$/m,
		);
		t.regex(
			shown.stdout,
			/^plan_web_3 +none +h\d: port 6060\/tcp is taken by plan_web_\d$/m,
		);
		t.regex(shown.stdout, /db_1, whose namespace it shares, is on h2$/m);
		const { stdout } = await plan("--json", "--scale", "web=2");
		const plans = JSON.parse(stdout) as { container: string; host: string }[];
		const up = await compose1(
			gateways[0] as Arpanet,
			["-f", "-", "-p", "plan", "up", "-d", "--scale", "web=2"],
			{ input: file },
		);
		t.is(up.code, 0, up.stderr);
		// the two copies are made at once: which is where is chance
		const service = (each: string) => each.replace(/_\d+ /, " ");
		t.deepEqual(
			plans
				.map(({ container, host }) => service(`${container} ${host}`))
				.sort(),
			(await perContainer("plan_")).map(service).sort(),
		);
		t.regex((await plan()).stdout, /^plan_db_1 +h2 +\(is there already\)$/m);
		await removeAll(t, "plan_");
	},
);

/** The hosts that have a volume. */
async function homesOf(volume: string): Promise<string[]> {
	const found = await Promise.all(
		lab.hosts.map(async (host) => {
			const { code } = await docker(host, ["volume", "inspect", volume]);
			return code === 0 ? [host.name] : [];
		}),
	);
	return found.flat();
}

test.serial(
	"a named volume is on the host of its first container, and later ones follow",
	async (t) => {
		const first = await place(
			"v1",
			"-v",
			"data:/d",
			"-e",
			"constraint:node!=h1",
		);
		t.not(first, "h1");
		for (const i of [1, 2, 3])
			t.is(await placeAt(i, `v2${i}`, "-v", "data:/d"), first);
		const mount = "type=volume,source=data,target=/d";
		t.is(await place("v3", "--mount", mount), first);
		t.regex(
			await place("v4", "-v", "data:/d", "-e", "constraint:node==h1"),
			/h1: volume data is on h[23]; /,
		);
		await removeAll(t, "v[0-9]");
		t.is(await placeAt(1, "v5", "-v", "data:/d"), first); // its data are there still
		t.deepEqual(await homesOf("data"), [first]);
		const { stdout } = await at(
			1,
			"volume",
			"inspect",
			"-f",
			"{{.Name}}",
			"data",
		);
		t.is(stdout.trim(), "data");
		t.is(
			(await at(1, "volume", "ls", "-q", "-f", "name=data")).stdout,
			"data\n",
		);
		await removeAll(t, "v[0-9]");
		t.is((await at(2, "volume", "rm", "data")).code, 0);
		t.is(await place("v6", "-v", "data:/d", "-e", "constraint:node==h1"), "h1");
		await removeAll(t, "v[0-9]");
		await at(1, "volume", "rm", "data");
	},
);

test.serial(
	"containers that want one new volume at the same moment all get that one",
	async (t) => {
		const answers = await Promise.all(
			Array.from({ length: 6 }, (_, i) =>
				create(i, `same${i}`, {
					Image: "busybox",
					HostConfig: { Binds: ["fresh:/d"] },
				}),
			),
		);
		t.deepEqual(
			answers.map(({ status, message }) => message || status),
			Array(6).fill(201),
		);
		t.is((await homesOf("fresh")).length, 1);
		await removeAll(t, "same");
		await at(1, "volume", "rm", "fresh");
	},
);

test.serial("a volume that a host has already is found there", async (t) => {
	const [, , third] = lab.hosts as [Host, Host, Host];
	await docker(third, ["volume", "create", "old"]);
	t.is(await place("o1", "-v", "old:/d"), "h3");
	await removeAll(t, "o1");
	await at(1, "volume", "rm", "old");
});

test.serial(
	"a volume that was only made and then filled past arpanet is where its data are",
	async (t) => {
		const [first] = lab.hosts as [Host];
		await at(1, "volume", "create", "seed");
		await docker(first, [
			...["run", "--rm", "-v", "seed:/d", "busybox"],
			...["touch", "/d/dump.sql"],
		]);
		t.regex(
			await place("f1", "-v", "seed:/d", "-e", "constraint:node!=h1"),
			/: volume seed is on h1/,
		);
		t.is(await place("f1", "-v", "seed:/d"), "h1");
		t.deepEqual(await homesOf("seed"), ["h1"]);
		await removeAll(t, "f1");
		await at(1, "volume", "rm", "seed");
	},
);

test.serial(
	"a volume that Compose makes goes along with its first container, labels and all",
	async (t) => {
		const file = [
			"services:",
			"  db:",
			"    image: busybox",
			"    command: sleep 100",
			"    environment: ['constraint:disk==hdd']",
			"    volumes: ['data:/d']",
			"volumes: {data: {labels: {mine: 'yes'}}}",
		].join("\n");
		const compose = (...args: string[]) =>
			compose2(gateways[0] as Arpanet, ["-f", "-", "-p", "vol", ...args], {
				input: file,
			});
		const up = await compose("up", "-d");
		t.is(up.code, 0, up.stderr);
		t.is(await hostOf("vol-db-1"), "h2");
		const homes = await eventually(
			() => homesOf("vol_data"),
			(all) => all.length === 1,
			30,
		);
		t.deepEqual(homes, ["h2"]);
		const { stdout } = await at(
			3,
			"volume",
			"inspect",
			"-f",
			"{{.Labels.mine}}",
			"vol_data",
		);
		t.is(stdout, "yes\n");
		const down = await compose("down", "-v", "-t", "1");
		t.is(down.code, 0, down.stderr);
		t.deepEqual(await homesOf("vol_data"), []);
	},
);

test.serial(
	"other strategies: binpack fills one host, random takes any",
	async (t) => {
		const [, second, third] = lab.hosts as [Host, Host, Host];
		await Promise.all(gateways.slice(1).map((gateway) => gateway.stop()));
		gateways = [
			gateways[0] as Arpanet,
			await start(second, { strategy: "binpack" }),
			await start(third, { strategy: "random" }),
		];
		await allAreKnown();
		t.is(await place("first", "-e", "constraint:node==h3", "-m", "64m"), "h3");
		for (let i = 0; i < 4; i++) t.is(await placeAt(2, `bin${i}`), "h3");
		const seen = new Set<string>();
		for (let i = 0; i < 30 && seen.size < 3; i++)
			seen.add(await placeAt(3, `ran${i}`));
		t.is(seen.size, 3);
	},
);

test.serial(
	"all of it goes again, and nothing is left on record",
	async (t) => {
		await removeAll(t, "");
		const left = await eventually(
			async () => (await keys("arpanet/")).filter((key) => !LASTING.test(key)),
			(all) => all.length === 0,
			60,
		);
		t.deepEqual(left, []);
	},
);
