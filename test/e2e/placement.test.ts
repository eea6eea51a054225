import test from "ava";
import type { HostRecord } from "../../pipeline/state/hosts.ts";
import { arpanetProgram } from "../lab/arpanet.ts";
import { compose1, docker } from "../lab/clients.ts";
import { showComplaints } from "./complaints.ts";
import { Placing } from "./placing.ts";
import { eventually } from "./stage.ts";

let cluster: Placing;

test.before(async () => {
	cluster = await Placing.start();
});
showComplaints(() => cluster?.gateways ?? []);
test.after.always(async () => {
	await cluster?.stop();
});

test.serial(
	"a host tells its labels, its engine's and how busy it is",
	async (t) => {
		const [{ consul }] = cluster.hosts;
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
		const place = await cluster.placeAt(2, name, "-e", expression, "-e", "A=b");
		if (hosts[0] === "refused") {
			t.regex(
				place,
				/no host can run c\w+: h2: constraint zone==\S+ is not met \(zone is eu-2\); h1: .*; h3: /,
			);
			return;
		}
		t.true((hosts as readonly string[]).includes(place), place);
		const { stdout } = await cluster.at(3, "inspect", name);
		const [{ Config }] = JSON.parse(stdout);
		t.deepEqual(
			Config.Env.filter((each: string) => !/^PATH=/.test(each)),
			["A=b"],
		);
		t.is(
			Config.Labels["com.docker.swarm.constraints"],
			JSON.stringify([expression.slice("constraint:".length)]),
		);
		await cluster.removeAll(t, name);
	});
}

test.serial("a constraint can be a label, or stand in Swarm's", async (t) => {
	t.is(await cluster.place("l1", "--label", "constraint:node==h3"), "h3");
	const swarm = 'com.docker.swarm.constraints=["zone==eu-*","node!=h1"]';
	t.is(await cluster.place("l2", "--label", swarm), "h2");
	t.regex(
		await cluster.place("l3", "-e", "constraint:node=h1"),
		/constraint "node=h1": write constraint:key==value/,
	);
	await cluster.removeAll(t, "l");
});

test.serial(
	"an affinity goes by containers, their labels, and images",
	async (t) => {
		t.is(
			await cluster.place(
				"front",
				"-e",
				"constraint:node==h2",
				"--label",
				"tier=front",
			),
			"h2",
		);
		t.is(await cluster.place("a1", "-e", "affinity:container==front"), "h2");
		t.is(await cluster.place("a2", "-e", "affinity:container==fr*"), "h2");
		t.is(await cluster.place("a3", "-e", "affinity:tier==front"), "h2");
		t.not(await cluster.place("a4", "-e", "affinity:tier!=front"), "h2");
		t.not(
			await cluster.placeAt(2, "a5", "-e", "affinity:container!=front"),
			"h2",
		);
		t.is(await cluster.place("a6", "-e", "affinity:container==~front"), "h2");
		t.true(
			/^h/.test(await cluster.place("a7", "-e", "affinity:container==~nobody")),
		);
		const { stdout: id } = await cluster.at(
			1,
			"inspect",
			"-f",
			"{{.Id}}",
			"front",
		);
		t.is(
			await cluster.place("a8", "-e", `affinity:container==${id.trim()}`),
			"h2",
		);
		const [, , third] = cluster.hosts;
		await docker(third, ["tag", "busybox", "only-here:1"]);
		t.is(await cluster.place("a9", "-e", "affinity:image==only-here"), "h3");
		t.is(await cluster.place("a10", "-e", "affinity:image==only-here:1"), "h3");
		t.regex(
			await cluster.place("a11", "-e", "affinity:container==nobody"),
			/h1, h2, h3: affinity container==nobody is not met/,
		);
		const swarm = 'com.docker.swarm.affinities=["container==front"]';
		t.is(await cluster.place("a12", "--label", swarm), "h2");
		await cluster.removeAll(t, "a[0-9]");
		await cluster.removeAll(t, "front");
	},
);

test.serial(
	"a fixed port is one container's on each host, stopped ones too",
	async (t) => {
		const places = await Promise.all(
			[1, 2, 3].map((i) => cluster.placeAt(i, `p${i}`, "-p", "8080:80")),
		);
		t.deepEqual(places.sort(), ["h1", "h2", "h3"]);
		t.regex(
			await cluster.placeAt(2, "p4", "-p", "8080:80"),
			/h\d: port 8080\/tcp is taken by p\d; h\d: port 8080\/tcp is taken by p\d; h\d: /,
		);
		t.regex(await cluster.placeAt(3, "p5", "-p", "8080:80/udp"), /^h/);
		const free = await cluster.hostOf("p2");
		await cluster.at(3, "rm", "p2");
		const its = Number(free.slice(1));
		t.is(await cluster.placeAt(its, "p6", "-p", "127.0.0.1:8080:80"), free);
		const loopback = ["-p", "127.0.0.1:8081:80"];
		t.is(await cluster.placeAt(2, "p7", ...loopback), "h2");
		const there = ["-e", "constraint:node==h3"];
		t.is(await cluster.placeAt(2, "p8", ...there, ...loopback), "h3");
		t.regex(
			await cluster.placeAt(2, "p9", ...loopback),
			/h2: port 127.0.0.1:8081\/tcp is taken by p7; h1: port 127.0.0.1:8081 is one of h2, whose gateway was asked; /,
		);
		await cluster.removeAll(t, "p[0-9]");
	},
);

test.serial(
	"what a container shares with another binds it to that one's host",
	async (t) => {
		t.is(
			await cluster.place("data", "-e", "constraint:node==h3", "-v", "/data"),
			"h3",
		);
		t.is(await cluster.place("s1", "--volumes-from", "data"), "h3");
		t.is(await cluster.placeAt(2, "s2", "--network", "container:data"), "h3");
		t.is(await cluster.placeAt(2, "s3", "--pid", "container:data"), "h3");
		t.regex(
			await cluster.place(
				"s4",
				"--volumes-from",
				"data",
				"-e",
				"constraint:node==h1",
			),
			/h1: data, whose volumes it uses, is on h3; h2, h3: |h1: data, whose volumes it uses, is on h3; h2: .*; h3: /,
		);
		await cluster.removeAll(t, "s[0-9]");
		await cluster.removeAll(t, "data");
	},
);

test.serial(
	"a bind mount is of the host that was asked, unless the user names another",
	async (t) => {
		for (const i of [1, 2, 3]) {
			t.is(await cluster.placeAt(i, `b${i}`, "-v", "/tmp:/tmp"), `h${i}`);
		}
		t.is(
			await cluster.place("b4", "-v", "/tmp:/tmp", "-e", "constraint:node==h2"),
			"h2",
		);
		t.regex(
			await cluster.place(
				"b5",
				"-v",
				"/tmp:/tmp",
				"-e",
				"constraint:disk==hdd",
			),
			/h1: constraint disk==hdd is not met \(disk is ssd\); h2: bind mount \/tmp is a path of h1, whose gateway was asked; /,
		);
		for (const path of [
			...["/etc/localtime", "/etc/timezone", "/lib/modules"],
			...["/var/run/docker.sock", "/var/run/arpanet.sock"],
		]) {
			t.regex(
				await cluster.place(
					`b6${path.replaceAll("/", "_")}`,
					...["-v", `${path}:/t:ro`, "-e", "constraint:node!=h1"],
				),
				/^h[23]$/,
				`${path} is no host's own`,
			);
		}
		await cluster.removeAll(t, "b[0-9]");
	},
);

test.serial("nobody reserves more than a host has", async (t) => {
	t.regex(
		await cluster.place("m1", "-m", "900g"),
		/h1, h2, h3: 900 GiB of memory are asked for, and of its \d+(\.\d)? GiB 0 B are reserved/,
	);
	t.regex(
		await cluster.place("m2", "--cpus", "1", "-e", "constraint:node==h1"),
		/^h1$/,
	);
	await cluster.removeAll(t, "m[0-9]");
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
		const options = { cwd: cluster.hosts[0].dataDir, input: text };
		const { code, stderr } = await compose1(
			cluster.gateways[1],
			["-f", "-", "-p", "excl", "up", "-d", "--scale", "web=4"],
			options,
		);
		t.not(code, 0);
		t.regex(
			stderr,
			/no host can run excl_web_\d: .*a copy of web is there, and arpanet.exclusive keeps copies apart/,
		);
		const places = await Promise.all(
			[1, 2, 3, 4].map((i) => cluster.hostOf(`excl_web_${i}`)),
		);
		t.deepEqual(places.sort(), ["h1", "h2", "h3", "nowhere"]);
		await cluster.removeAll(t, "excl_");
	},
);

test.serial(
	"a plain docker run is placed as well, and handled through any gateway",
	async (t) => {
		const { stdout, stderr } = await cluster.at(
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
		const { stdout: name } = await cluster.at(
			2,
			"inspect",
			"-f",
			"{{.Name}}",
			id,
		);
		t.is(await cluster.hostOf(name.trim().slice(1)), "h3");
		t.is((await cluster.at(2, "exec", id, "echo", "hello")).stdout, "hello\n");
		// the name that Docker made up is on record instead of the request
		const onRecord = await eventually(
			() => cluster.keys("arpanet/containers/"),
			(all) => all.includes(`arpanet/containers${name.trim()}`),
			30,
		);
		t.deepEqual(onRecord, [`arpanet/containers${name.trim()}`]);
		const all = await Promise.all(
			Array.from({ length: 6 }, (_, i) =>
				cluster.placeAt((i % 3) + 1, `plain${i}`),
			),
		);
		t.deepEqual([...new Set(all)].sort(), ["h1", "h2", "h3"]);
		t.regex(
			await cluster.place("plain0"),
			/The container name "\/plain0" is already in use/,
		);
		t.is(
			(await cluster.at(3, "run", "--rm", "busybox", "echo", "done")).stdout,
			"done\n",
		);
		await cluster.removeAll(t, "plain");
		t.is((await cluster.at(1, "rm", "-f", id)).code, 0);
	},
);

test.serial(
	"who is made under the name that another had takes its place, as by hand and with Portainer",
	async (t) => {
		const asked = ["-p", "7070:80", "-v", "shelf:/data"];
		const ok = async (gateway: number, ...args: string[]) => {
			const { code, stderr } = await cluster.at(gateway, ...args);
			t.is(code, 0, stderr);
		};
		const host = await cluster.place("shelf", ...asked);
		t.regex(host, /^h\d$/);
		await ok(1, "start", "shelf");
		await ok(2, "stop", "-t", "0", "shelf");
		await ok(2, "rename", "shelf", "shelf-old");
		t.is(await cluster.placeAt(3, "shelf", ...asked), host);
		await ok(1, "start", "shelf");

		// it is thought better of
		await ok(1, "rm", "-f", "shelf");
		await ok(2, "rename", "shelf-old", "shelf");
		await ok(3, "start", "shelf");
		t.regex(
			await cluster.place("shelf2", ...asked),
			/port 7070\/tcp is taken by shelf/,
		);
		await cluster.removeAll(t, "shelf");
		await ok(1, "volume", "rm", "shelf");
	},
);

test.serial(
	"one that runs under another name by now keeps its port and its address from who is made under the former one",
	async (t) => {
		const run = (name: string, ...args: string[]) =>
			cluster.at(1, "run", "-d", "--name", name, ...args, "busybox", "top");
		const ok = async (answer: ReturnType<typeof run>) => {
			const { code, stderr } = await answer;
			t.is(code, 0, stderr);
		};
		await ok(
			cluster.at(1, "network", "create", "--subnet=172.29.5.0/24", "turns"),
		);
		const address = ["--network", "turns", "--ip", "172.29.5.10"];
		for (const asked of [["-p", "7070:80"], address]) {
			await ok(run("turn", ...asked));
			await ok(cluster.at(2, "rename", "turn", "turn-live"));
			const { code, stderr } = await run("turn", ...asked);
			if (asked === address)
				t.regex(stderr, /172\.29\.5\.10 is leased to turn-live/);
			else t.is(code, 0, stderr);
			const live = await cluster.hostOf("turn-live");
			t.not(await cluster.hostOf("turn"), live);
			await cluster.removeAll(t, "turn");
		}
		// the engine of the one says that the other has the address by now: they may not be on two
		await ok(run("turn", ...address));
		await ok(cluster.at(1, "stop", "-t", "0", "turn"));
		await ok(cluster.at(1, "rename", "turn", "turn-old"));
		const place = await cluster.hostOf("turn-old");
		const elsewhere = ["-e", `constraint:node!=${place}`];
		const refused = await run("turn", ...address, ...elsewhere);
		t.regex(refused.stderr, /172\.29\.5\.10 is leased to turn-old/);
		await ok(run("turn", ...address));
		t.is(await cluster.hostOf("turn"), place);
		const both = await cluster.at(1, "start", "turn-old");
		t.regex(both.stderr, /[Aa]ddress already in use/);
		await cluster.removeAll(t, "turn");
		// nor is a stopped one's what another deployment makes
		const by = ["-p", "7070:80", "-e"];
		await ok(run("turn", ...by, "ARPANET_DEPLOYMENT=abc"));
		await ok(cluster.at(1, "stop", "-t", "0", "turn"));
		await ok(cluster.at(1, "rename", "turn", "turn-old"));
		await ok(run("turn", ...by, "ARPANET_DEPLOYMENT=xyz"));
		await ok(cluster.at(1, "start", "turn-old"));
		await cluster.removeAll(t, "turn");
		await ok(cluster.at(1, "network", "rm", "turns"));
	},
);

test.serial(
	"creates at once through all gateways: even, and no fixed port twice",
	async (t) => {
		const places = await Promise.all(
			Array.from({ length: 30 }, (_, i) =>
				cluster.create(i, `many_web_${i + 1}`, {
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
			cluster.hosts.map(async (host) => {
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
			cluster.hosts.map(async (host) => {
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
		await cluster.removeAll(t, "many_web");
	},
);

test.serial(
	"arpanet plan says where all goes and why not elsewhere; up then does just that",
	async (t) => {
		const [host] = cluster.hosts;
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
					cluster.gateways[0].config,
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
			cluster.gateways[0],
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
			(await cluster.perContainer("plan_")).map(service).sort(),
		);
		t.regex((await plan()).stdout, /^plan_db_1 +h2 +\(is there already\)$/m);
		await cluster.removeAll(t, "plan_");
	},
);

test.serial(
	"other strategies: binpack fills one host, random takes any",
	async (t) => {
		await cluster.restart({ strategy: "binpack" }, { strategy: "random" });
		t.is(
			await cluster.place("first", "-e", "constraint:node==h3", "-m", "64m"),
			"h3",
		);
		for (let i = 0; i < 4; i++) t.is(await cluster.placeAt(2, `bin${i}`), "h3");
		const seen = new Set<string>();
		for (let i = 0; i < 30 && seen.size < 3; i++)
			seen.add(await cluster.placeAt(3, `ran${i}`));
		t.is(seen.size, 3);
	},
);

test.serial("all of it goes again, and nothing is left on record", (t) =>
	cluster.nothingIsLeft(t),
);
