import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import type { Result } from "../../examples/images/tools.ts";
import { docker } from "../lab/clients.ts";
import type { HostOptions } from "../lab/host.ts";
import { addressIn, eventually, Stage } from "./stage.ts";

/** What the site's own name server knows. */
const OUTSIDE = "printer.example.org";
const PRINTER = "192.0.2.7";

let stage: Stage;
let server: Socket;
/** Names that the site's name server was asked for. */
const asked: string[] = [];
const recursors: string[] = [];

test.before(async () => {
	const options: HostOptions = { recursors };
	stage = await Stage.start(options);
	server = await nameServer(stage.lab.gateway);
	await writeFile(
		join(stage.host.dataDir, "resolv.conf"),
		`nameserver ${stage.lab.gateway}\n`,
	);
	recursors.push(stage.lab.gateway);
	await stage.host.stopConsul();
	await stage.host.startConsul();
});
test.after.always(async () => {
	await stage?.stop();
	server?.close();
});

function through(...args: string[]): Promise<Result> {
	return docker(stage.arpanet, args);
}

async function ok(
	t: ExecutionContext,
	result: Promise<Result>,
): Promise<string> {
	const { code, stdout, stderr } = await result;
	t.is(code, 0, stderr);
	return stdout + stderr;
}

/** Starts a container under fig's name for it and gives its address. */
async function run(
	t: ExecutionContext,
	name: string,
	...options: string[]
): Promise<string> {
	const image = options.includes("busybox") ? [] : ["busybox", "sleep", "9999"];
	await ok(t, through("run", "-d", "--name", name, ...options, ...image));
	return address(name);
}

async function address(name: string): Promise<string> {
	const container = await stage.engine.inspectContainer(name);
	return container ? addressIn(container, `${name.split("_")[0]}_default`) : "";
}

/** Asserts that DNS comes to answer with exactly these. */
async function resolves(
	t: ExecutionContext,
	name: string,
	expected: string[],
): Promise<void> {
	const sorted = [...expected].sort();
	const seen = await eventually(
		() => stage.dns(name),
		(found) => found.join() === sorted.join(),
		10,
	);
	t.deepEqual(seen, sorted, name);
}

/** As `resolves`, from inside a container and under the name that it would use. */
async function resolvesInside(
	t: ExecutionContext,
	container: string,
	name: string,
	expected: string[],
): Promise<void> {
	const sorted = [...expected].sort();
	const seen = await eventually(
		() => stage.dnsInside(container, name),
		(found) => found.join() === sorted.join(),
		10,
	);
	t.deepEqual(seen, sorted, `${name} in ${container}`);
}

let pricing: string[];

test.serial(
	"every name of a service answers with exactly its running copies",
	async (t) => {
		pricing = [
			await run(t, "abc_pricing_1"),
			await run(t, "abc_pricing_2"),
			await run(t, "abc_pricing_3"),
		];
		await run(t, "abc_web_1", "--link", "abc_pricing_1:cost");
		await resolves(t, "pricing.abc", pricing);
		await resolvesInside(t, "abc_web_1", "pricing", pricing);
		await resolvesInside(t, "abc_web_1", "pricing.abc.service.consul", pricing);
		await resolvesInside(t, "abc_web_1", "cost", pricing);
		await resolvesInside(t, "abc_pricing_2", "pricing", pricing);
	},
);

test.serial("one copy answers to its own names", async (t) => {
	await resolvesInside(t, "abc_web_1", "pricing_2", [pricing[1] as string]);
	await resolvesInside(t, "abc_web_1", "abc_pricing_3", [pricing[2] as string]);
});

test.serial("the catalog lists service and copy by name", async (t) => {
	const answer = await fetch(
		`${stage.host.consul}/v1/catalog/service/pricing.abc`,
	);
	const rows = (await answer.json()) as {
		ServiceID: string;
		ServiceName: string;
		ServiceAddress: string;
		Node: string;
		NodeMeta: object;
	}[];
	const ids = rows.map(({ ServiceID, ServiceName, ServiceAddress, Node }) => [
		ServiceID,
		ServiceName,
		ServiceAddress,
		Node,
	]);
	t.deepEqual(
		ids.sort(),
		pricing.map((each, i) => [
			`${i + 1}.pricing.abc`,
			"pricing.abc",
			each,
			`arpanet-${stage.host.name}`,
		]),
	);
	t.like(rows[0]?.NodeMeta, { "external-node": "true" });
});

test.serial(
	"a container on Docker's own bridge finds no deployment's names",
	async (t) => {
		await run(t, "plain", "--dns", stage.host.address);
		const none = await eventually(
			() => stage.dnsInside("plain", "pricing.abc.service.consul"),
			(found) => found.length === 0,
		);
		t.deepEqual(none, []);
		const other = await stage.dnsInside("plain", "consul.service.consul");
		t.is(other.length, 1, "what is no deployment's it may ask for");
		await ok(t, through("rm", "-f", "plain"));
	},
);

test.serial(
	"a container that is in a network of the engine's own, too, finds its deployment's names",
	async (t) => {
		await ok(t, through("network", "create", "aaa"));
		await run(t, "abc_both_1");
		await ok(t, through("network", "connect", "aaa", "abc_both_1"));
		const { stdout } = await stage.inside("abc_both_1", "ip", "route");
		const way = await stage.engine.inspectNetwork("aaa");
		const gateway = way?.IPAM?.Config?.[0]?.Gateway ?? "";
		t.true(stdout.includes(`default via ${gateway} `), stdout);
		await resolvesInside(t, "abc_both_1", "pricing", pricing);
		await ok(t, through("rm", "-f", "abc_both_1"));
		await ok(t, through("network", "rm", "aaa"));
	},
);

test.serial(
	"a container is no copy of a service because its image says so",
	async (t) => {
		const labels = `arpanet.host=${stage.host.name} arpanet.deployment=abc arpanet.network=abc arpanet.service=pricing arpanet.address=203.0.113.66`;
		const file = await stage.file(
			"pretender/Dockerfile",
			`FROM busybox\nLABEL ${labels}\nENV WEAVE_CIDR=203.0.113.66/24\n`,
		);
		const built = ["build", "-q", "-t", "pretender", dirname(file)];
		await ok(t, docker(stage.host, built));
		const sleeps = ["pretender", "sleep", "9999"];
		await ok(t, through("run", "-d", "--name", "pretender", ...sleeps));
		await sleep(2_000); // the agent looks at what is new after half a second
		await resolvesInside(t, "abc_web_1", "pricing", pricing);
		const leases = Object.values(await stage.leases("abc"));
		t.false(leases.includes("pretender"));
		await ok(t, through("rm", "-f", "pretender"));
	},
);

test.serial(
	"another deployment neither finds nor reaches what has the same names here",
	async (t) => {
		await run(t, "xyz_web_1");
		const short = ["pricing", "cost", "pricing_2", "abc_pricing_1"];
		const whole = ["pricing.abc.service.consul", "PRICING.Abc.Service.Consul"];
		for (const name of [...short, ...whole]) {
			const none = await eventually(
				() => stage.dnsInside("xyz_web_1", name),
				(found) => found.length === 0,
			);
			t.deepEqual(none, [], name);
		}
		for (const name of whole) {
			await resolvesInside(t, "abc_web_1", name, pricing);
		}
		const own = await run(t, "xyz_pricing_1");
		await resolvesInside(t, "xyz_web_1", "pricing", [own]);
		await resolvesInside(t, "abc_web_1", "pricing", pricing);

		const ping = (from: string, to: string) =>
			stage.inside(from, "ping", "-c", "1", "-W", "2", to);
		t.not((await ping("xyz_web_1", pricing[0] as string)).code, 0);
		t.is((await ping("abc_web_1", pricing[0] as string)).code, 0);
		await ok(t, through("rm", "-f", "xyz_pricing_1", "xyz_web_1"));
	},
);

test.serial("another deployment is not reached by IPv6 either", async (t) => {
	const made: string[] = [];
	for (const [id, subnet] of Object.entries({
		v6a: "fd00:a::/64",
		v6b: "fd00:b::/64",
	})) {
		const labels = [`project=${id}`, "network=default"].flatMap((label) => [
			"--label",
			`com.docker.compose.${label}`,
		]);
		const ranges = ["--ipv6", "--subnet", subnet];
		const network = `${id}_default`;
		await ok(t, through("network", "create", ...ranges, ...labels, network));
		for (const copy of [1, 2]) {
			await run(t, `${id}_web_${copy}`);
			made.push(`${id}_web_${copy}`);
		}
	}
	const reaches = async (from: string, to: string) => {
		const all = (await stage.engine.inspectContainer(to))?.NetworkSettings;
		const [endpoint] = Object.values(all?.Networks ?? {});
		const address = `${endpoint?.GlobalIPv6Address}`;
		const ping = ["ping", "-6", "-c", "3", "-W", "1", address]; // bridges' own addresses are of no use at first
		return (await stage.inside(from, ...ping)).code === 0;
	};
	for (const id of ["v6a", "v6b"]) {
		const own = () => reaches(`${id}_web_2`, `${id}_web_1`);
		t.true(await eventually(own, Boolean), "its own");
	}
	const reached = await eventually(
		() => reaches("v6a_web_1", "v6b_web_1"),
		(reached) => !reached,
	);
	t.false(reached, "another's");
	await ok(t, through("rm", "-f", ...made));
	await ok(t, through("network", "rm", "v6a_default", "v6b_default"));
	const rules = await eventually(
		async () => (await stage.host.exec("ip6tables-save")).stdout,
		(text) => !text.includes("ARPANET"),
	);
	t.notRegex(rules, /ARPANET/);
});

test.serial("a copy has left DNS when docker stop signals it", async (t) => {
	const script =
		"trap 'echo TERM; nslookup leaver; exit 0' TERM; while :; do sleep 0.1; done";
	const own = await run(t, "abc_leaver_1", "busybox", "sh", "-c", script);
	const other = await run(t, "abc_leaver_2");
	await resolves(t, "leaver.abc", [own, other]);
	await ok(t, through("stop", "-t", "20", "abc_leaver_1"));
	const said = await ok(t, through("logs", "abc_leaver_1"));
	t.regex(said, /TERM/);
	t.true(said.includes(other), said);
	t.false(said.includes(own), said);
	await ok(t, through("rm", "-f", "abc_leaver_1", "abc_leaver_2"));
});

test.serial(
	"a copy that lingers after its signal stays out of DNS all the while",
	async (t) => {
		const script = "trap 'sleep 8; exit 0' TERM; while :; do sleep 0.1; done";
		const own = await run(t, "abc_slow_1", "busybox", "sh", "-c", script);
		await resolves(t, "slow.abc", [own]);
		const stopping = through("stop", "-t", "20", "abc_slow_1");
		await resolves(t, "slow.abc", []);
		const seen: string[] = [];
		let lingers = 0;
		while ((await stage.engine.inspectContainer("abc_slow_1"))?.State.Running) {
			seen.push(...(await stage.dns("slow.abc")));
			lingers++;
			await sleep(100);
		}
		t.true(lingers > 5);
		t.deepEqual(seen, []);
		await ok(t, stopping);
		await resolves(t, "slow.abc", []);
		await ok(t, through("start", "abc_slow_1"));
		await resolves(t, "slow.abc", [own]);
		await ok(t, through("kill", "abc_slow_1"));
		await resolves(t, "slow.abc", []);
		await ok(t, through("rm", "abc_slow_1"));
	},
);

test.serial(
	"a crash takes a copy out of DNS, a restart brings it back",
	async (t) => {
		const own = await run(t, "abc_shaky_1", "--init");
		await resolves(t, "shaky.abc", [own]);
		const pid = (await stage.engine.inspectContainer("abc_shaky_1"))?.State.Pid;
		process.kill(Number(pid), "SIGKILL");
		await resolves(t, "shaky.abc", []);
		await ok(t, through("start", "abc_shaky_1"));
		await resolves(t, "shaky.abc", [own]);
		await ok(t, through("restart", "-t", "1", "abc_shaky_1"));
		await resolves(t, "shaky.abc", [own]);
		await ok(t, docker(stage.host, ["restart", "-t", "1", "abc_shaky_1"])); // nobody told us
		await resolves(t, "shaky.abc", [own]);
		await ok(t, docker(stage.host, ["rm", "-f", "abc_shaky_1"]));
		await resolves(t, "shaky.abc", []);
	},
);

test.serial("a paused copy does not answer", async (t) => {
	await ok(t, through("pause", "abc_pricing_3"));
	await resolves(t, "pricing.abc", pricing.slice(0, 2));
	await ok(t, through("unpause", "abc_pricing_3"));
	await resolves(t, "pricing.abc", pricing);
});

test.serial("a stop that Docker refuses leaves the copy in DNS", async (t) => {
	const { code } = await through("kill", "-s", "NOSIGNAL", "abc_pricing_1");
	t.not(code, 0);
	await resolves(t, "pricing.abc", pricing);
	await ok(t, through("kill", "-s", "WINCH", "abc_pricing_1"));
	await resolves(t, "pricing.abc", pricing);
});

test.serial(
	"a copy answers while its HEALTHCHECK says that it is well",
	async (t) => {
		const own = await run(
			t,
			"abc_frail_1",
			...[
				"--health-cmd",
				"test -e /well",
				"--health-interval",
				"1s",
				"--health-retries",
				"1",
			],
		);
		t.deepEqual(await stage.dns("frail.abc"), []);
		await ok(t, through("exec", "abc_frail_1", "touch", "/well"));
		await resolves(t, "frail.abc", [own]);
		await resolvesInside(t, "abc_web_1", "frail", [own]);
		await ok(t, through("exec", "abc_frail_1", "rm", "/well"));
		await resolves(t, "frail.abc", []);
		await ok(t, through("rm", "-f", "abc_frail_1"));
	},
);

test.serial("a one-off is no copy of its service", async (t) => {
	await run(
		t,
		"abc_pricing_run_1",
		...[
			"--label",
			"com.docker.compose.project=abc",
			"--label",
			"com.docker.compose.service=pricing",
		],
		...["--label", "com.docker.compose.oneoff=True"],
	);
	await resolvesInside(t, "abc_pricing_run_1", "pricing", pricing);
	await resolves(t, "pricing.abc", pricing);
	await ok(t, through("rm", "-f", "abc_pricing_run_1"));
});

test.serial(
	"names of the world outside resolve as they do on the host",
	async (t) => {
		await resolvesInside(t, "abc_web_1", OUTSIDE, [PRINTER]);
		t.deepEqual(await stage.dnsInside("abc_web_1", "nowhere.example.org"), []);
	},
);

test.serial(
	"a container that is started by hand is found by the names that it has now",
	async (t) => {
		const by = ["-l", "arpanet.deployment=hand"];
		const at = async (name: string) => {
			const container = await stage.engine.inspectContainer(name);
			return container ? addressIn(container, "hand_default") : "";
		};
		const dns = (name: string, ...addresses: string[]) =>
			resolves(t, `${name}.hand`, addresses);
		await run(t, "app", ...by);
		await run(t, "my_db", ...by);
		await dns("my_db", await at("my_db"));
		await ok(t, through("rename", "app", "app-old"));
		await dns("app-old", await at("app-old"));
		await dns("app");
		await run(t, "app", ...by);
		await dns("app", await at("app"));
		await dns("app-old", await at("app-old"));

		const network = (verb: string, ...args: string[]) =>
			ok(t, through("network", verb, ...args));
		await network("disconnect", "hand_default", "app-old");
		await network("connect", "--alias", "live", "hand_default", "app-old");
		await dns("live", await at("app-old"));
		await network("disconnect", "hand_default", "app-old");
		await network("connect", "hand_default", "app-old");
		await network("disconnect", "hand_default", "app");
		await network("connect", "--alias", "live", "hand_default", "app");
		await dns("live", await at("app"));

		const nameless = [...by, "--network", "hand_default", "--network-alias"];
		const id = await ok(
			t,
			through("run", "-d", ...nameless, "foo", "busybox", "sleep", "9999"),
		);
		await dns("foo", await at(id.trim()));
		const format = ["inspect", "-f", "{{.Name}}", id.trim()];
		const made = (await ok(t, through(...format))).trim().slice(1);
		await run(t, "user", ...by, "--link", `${made}:store`);
		await dns("store", await at(id.trim()));
		const all = ["app", "app-old", "my_db", "user", id.trim()];
		await ok(t, through("rm", "-f", ...all));
	},
);

test.serial(
	"of several networks of a deployment a name means first what is where the container can get",
	async (t) => {
		const names = ["edge", "backend", "web"];
		for (const name of names) {
			const labels = [`project=net`, `network=${name}`].flatMap((label) => [
				...["--label", `com.docker.compose.${label}`],
			]);
			await ok(t, through("network", "create", ...labels, `net_${name}`));
		}
		/** As Compose does it: connected to the others before its start. */
		const make = async (name: string, first: string, ...others: string[]) => {
			const how = ["--name", name, "--network", `net_${first}`];
			const forMusl = ["--dns-search", "elsewhere.example.org"];
			const waits = ["busybox", "sleep", "9999"];
			await ok(t, through("create", ...how, ...forMusl, ...waits));
			for (const each of others)
				await ok(t, through("network", "connect", `net_${each}`, name));
			await ok(t, through("start", name));
		};
		await make("app", "backend", "web");
		await make("proxy", "edge", "web");
		await make("late", "edge");
		const app = await stage.engine.inspectContainer("app");
		const there = app ? addressIn(app, "net_web") : "";
		const reaches = async (from: string) => {
			const ping = ["ping", "-c1", "-W1", "app"];
			const { code, stdout } = await stage.inside(from, ...ping);
			return code === 0 && stdout.includes(`(${there})`);
		};
		t.true(await eventually(() => reaches("proxy"), Boolean));
		const list = await stage.inside("proxy", "cat", "/etc/resolv.conf");
		const of = (name: string) => `net-${name}.service.consul`;
		const search = `${of("edge")} ${of("web")} elsewhere.example.org ${of("backend")}`;
		t.regex(list.stdout, new RegExp(`^search ${search}$`, "m"));
		t.regex(list.stdout, /^nameserver 127\.0\.0\.11$/m);
		t.false(await reaches("late"));
		await ok(t, through("network", "connect", "net_web", "late"));
		t.true(await eventually(() => reaches("late"), Boolean));
		await ok(t, through("restart", "-t", "0", "proxy"));
		t.true(await eventually(() => reaches("proxy"), Boolean));
		await ok(t, through("rm", "-f", "app", "proxy", "late"));
		for (const name of names)
			await ok(t, through("network", "rm", `net_${name}`));
	},
);

test.serial(
	"in an internal network its names resolve, and nothing of the world outside is asked for",
	async (t) => {
		await ok(
			t,
			through(
				...["network", "create", "--internal", "abc_vault"],
				...["--label", "com.docker.compose.project=abc"],
				...["--label", "com.docker.compose.network=vault"],
			),
		);
		const vault = ["--network", "abc_vault"];
		await run(t, "abc_keeper_1", ...vault, "--network-alias", "guard");
		await run(t, "abc_safe_1", ...vault);
		const keeper = await stage.engine.inspectContainer("abc_keeper_1");
		const expected = [keeper ? addressIn(keeper, "abc_vault") : ""];
		await resolvesInside(t, "abc_safe_1", "keeper", expected);
		await resolvesInside(t, "abc_safe_1", "guard", expected);
		const safe = await stage.engine.inspectContainer("abc_safe_1");
		// as newer engines do: no way leads to the host's own address
		await stage.host.exec("nsenter", [
			...["-t", String(safe?.State.Pid), "-n", "ip", "route", "del", "default"],
		]);
		const full = "keeper.abc-vault.service.consul";
		await resolvesInside(t, "abc_safe_1", full, expected);

		const before = asked.length;
		t.deepEqual(await stage.dnsInside("abc_safe_1", OUTSIDE), []);
		const out = ["ping", "-c1", "-W1", stage.lab.gateway];
		t.not((await stage.inside("abc_safe_1", ...out)).code, 0);
		t.deepEqual(asked.slice(before), []);
		await ok(t, through("rm", "-f", "abc_keeper_1", "abc_safe_1"));
		await ok(t, through("network", "rm", "abc_vault"));
	},
);

test.serial(
	"with Consul dead the world outside resolves still, and the copies talk on",
	async (t) => {
		await stage.host.stopConsul();
		t.teardown(() => stage.host.startConsul());
		await resolvesInside(t, "abc_web_1", OUTSIDE, [PRINTER]);
		const ping = await stage.inside(
			"abc_web_1",
			"ping",
			"-c",
			"1",
			"-W",
			"2",
			pricing[0] as string,
		);
		t.is(ping.code, 0, ping.stdout);
	},
);

test.serial("with Consul back the copies are found again", async (t) => {
	await resolvesInside(t, "abc_web_1", "pricing", pricing);
});

/** A name server that knows one name, on port 53 of an address of this machine. */
async function nameServer(host: string): Promise<Socket> {
	const socket = createSocket("udp4");
	socket.on("message", (query, from) => {
		let at = 12;
		const labels: string[] = [];
		while (query[at]) {
			const size = query[at] as number;
			labels.push(query.toString("latin1", at + 1, at + 1 + size));
			at += size + 1;
		}
		const question = query.subarray(12, at + 5);
		asked.push(labels.join(".").toLowerCase());
		const known = asked.at(-1) === OUTSIDE;
		const isA = query.readUInt16BE(at + 1) === 1;
		const head = Buffer.alloc(12);
		query.copy(head, 0, 0, 2);
		head.writeUInt16BE(known ? 0x8580 : 0x8583, 2);
		head.writeUInt16BE(1, 4);
		head.writeUInt16BE(known && isA ? 1 : 0, 6);
		const record = Buffer.from([
			0xc0,
			12,
			0,
			1,
			0,
			1,
			0,
			0,
			0,
			0,
			0,
			4,
			...PRINTER.split(".").map(Number),
		]);
		const answer = [head, question, ...(known && isA ? [record] : [])];
		socket.send(Buffer.concat(answer), from.port, from.address);
	});
	socket.bind(53, host);
	await once(socket, "listening");
	return socket;
}
