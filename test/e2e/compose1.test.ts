import { once } from "node:events";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Netmask } from "netmask";
import {
	findBinary,
	projectRoot,
	type Result,
	type RunOptions,
} from "../../examples/images/tools.ts";
import { compose1, docker } from "../lab/clients.ts";
import { addressIn, eventually, Stage, thorough, within } from "./stage.ts";

let stage: Stage;
const SHOP = join(projectRoot, "examples/shop/fig.yml");
const SERVICES = ["auth", "catalogue", "pricing", "redis", "web"];

test.before(async () => {
	stage = await Stage.start();
});
test.afterEach.always((t) => {
	if (!t.passed) t.log(stage?.complaints());
});
test.after.always(async () => {
	await stage?.stop();
});

/** docker-compose 1.29 through the gateway; whatever it answers. */
function ask(
	file: string,
	project: string,
	args: string[],
	options?: RunOptions,
): Promise<Result> {
	return compose1(stage.arpanet, ["-f", file, "-p", project, ...args], options);
}

/** The same where it must succeed; gives what it printed. */
async function fig(
	t: ExecutionContext,
	file: string,
	project: string,
	...args: string[]
): Promise<string> {
	const { code, stdout, stderr } = await ask(file, project, args);
	t.is(code, 0, `docker-compose ${args.join(" ")}\n${stderr}${stdout}`);
	return stdout;
}

const shop = (t: ExecutionContext, ...args: string[]) =>
	fig(t, SHOP, "abc", ...args);

/** DNS, from outside and from inside a container, answers with exactly the running copies of a service. */
async function exact(
	t: ExecutionContext,
	project: string,
	service: string,
	copies: number,
	asker = `${project}_web_1`,
): Promise<string[]> {
	const [running, outside, inside] = await Promise.all([
		stage.running(project, service),
		stage.dns(`${service}.${project}`),
		stage.dnsInside(asker, service),
	]);
	t.is(running.length, copies);
	t.deepEqual(outside, running);
	t.deepEqual(inside, running);
	return running;
}

/** What is leased in a network is what its containers hold, and nothing more. */
async function leasedExactly(
	t: ExecutionContext,
	project: string,
): Promise<void> {
	const containers = await stage.containers(project);
	const held = containers.map((container) => [
		container.Config.Labels?.["arpanet.address"],
		container.Name.slice(1),
	]);
	t.deepEqual(await stage.leases(project), Object.fromEntries(held));
}

/** Nothing in Docker or Consul speaks of a project any more; its network goes a moment after its last container. */
async function gone(t: ExecutionContext, project: string): Promise<void> {
	const left = await eventually(
		() => stage.traces(project),
		(traces) => traces.length === 0,
	);
	t.deepEqual(left, []);
}

/** Id and address of every container of a project, by name. */
async function identities(project: string) {
	const containers = await stage.containers(project);
	return Object.fromEntries(
		containers.map(({ Name, Id, Config }) => [
			Name.slice(1),
			{ id: Id, address: Config.Labels?.["arpanet.address"] },
		]),
	);
}

async function addresses(project: string) {
	const all = Object.entries(await identities(project));
	return Object.fromEntries(all.map(([name, { address }]) => [name, address]));
}

async function page(t: ExecutionContext, project: string) {
	const address = await fig(t, SHOP, project, "port", "web", "80");
	return within(20, async () => {
		const answer = await fetch(stage.url(address));
		const text = await answer.text();
		if (!answer.ok) throw new Error(text);
		return text;
	});
}

test.serial(
	"the shop comes up unchanged, and each service answers through web",
	async (t) => {
		await shop(t, "up", "-d");
		const [web] = await exact(t, "abc", "web", 1);
		const [auth] = await exact(t, "abc", "auth", 1);
		const [catalogue] = await exact(t, "abc", "catalogue", 1);
		const [pricing] = await exact(t, "abc", "pricing", 1);
		const [redis] = await exact(t, "abc", "redis", 1);
		t.is(await stage.spread("abc"), stage.lab.hosts.length);
		const lines = (await page(t, "abc")).replaceAll(/ [0-9a-f]{12} /g, " ");
		t.deepEqual(
			lines
				.split("\n")
				.filter((line) => / \d+\.\d+\.\d+\.\d+$/.test(line))
				.sort(),
			[
				`auth-redis: ${redis}`,
				`auth: ${auth}`,
				`catalogue-redis: ${redis}`,
				`catalogue: ${catalogue}`,
				`pricing: ${pricing}`,
				`web: ${web}`,
			],
		);
		const network = await stage.network("abc_default");
		const subnet = new Netmask(network?.IPAM?.Config?.[0]?.Subnet ?? "");
		t.true(new Netmask("10.32.0.0/12").contains(subnet.base));
		t.true(subnet.contains(web as string));
		await leasedExactly(t, "abc");
	},
);

test.serial("each copy stands in the catalog by its names", async (t) => {
	const registered = await stage.registered();
	for (const service of SERVICES) {
		const [address] = await stage.running("abc", service);
		t.deepEqual(
			registered.filter(({ id }) => id === `1.${service}.abc`),
			[{ id: `1.${service}.abc`, name: `${service}.abc`, address }],
		);
	}
	t.is(registered.length, 2 * SERVICES.length);
});

test.serial("up again recreates nothing", async (t) => {
	const before = await identities("abc");
	await shop(t, "up", "-d");
	t.deepEqual(await identities("abc"), before);
});

test.serial(
	"scale gives each copy an address, and takes it back",
	async (t) => {
		await shop(t, "scale", "pricing=3");
		const three = await exact(t, "abc", "pricing", 3);
		t.is(new Set(three).size, 3);
		await leasedExactly(t, "abc");
		const ids = (await stage.registered()).map(({ id }) => id);
		for (const number of [1, 2, 3]) {
			t.true(ids.includes(`${number}.pricing.abc`), ids.join());
		}

		await shop(t, "scale", "pricing=1");
		await exact(t, "abc", "pricing", 1);
		await leasedExactly(t, "abc");
		t.is((await stage.registered()).length, 2 * SERVICES.length);
	},
);

test.serial("ps, port and exec see the containers", async (t) => {
	const rows = (await shop(t, "ps")).trim().split("\n").slice(2);
	t.deepEqual(
		rows.map((row) => row.split(/\s+/)[0]),
		SERVICES.map((service) => `abc_${service}_1`),
	);
	for (const row of rows) t.regex(row, / Up /);
	const port = await shop(t, "port", "pricing", "80");
	if (stage.lab.hosts.length === 1) t.regex(port, /^0\.0\.0\.0:\d+\n$/);
	else {
		const { address } = await stage.hostOf("abc_pricing_1");
		t.true(port.startsWith(`${address}:`), port);
	}
	const price = ["wget", "-q", "-O-", "http://pricing/"];
	t.regex(
		await shop(t, "exec", "-T", "catalogue", ...price),
		/^pricing: .*\nprice: 42\n$/,
	);
	const failed = await ask(SHOP, "abc", [
		...["exec", "-T", "web", "sh", "-c", "echo no >&2; exit 7"],
	]);
	t.deepEqual([failed.code, failed.stderr], [7, "no\n"]);
});

test.serial(
	"stop, start and restart keep the addresses, and DNS follows",
	async (t) => {
		const before = await identities("abc");

		await shop(t, "stop", "pricing", "redis");
		await exact(t, "abc", "pricing", 0);
		await exact(t, "abc", "redis", 0);
		t.deepEqual(await identities("abc"), before);
		await leasedExactly(t, "abc");

		await shop(t, "start", "pricing", "redis");
		await exact(t, "abc", "pricing", 1);
		await exact(t, "abc", "redis", 1);

		await shop(t, "restart", "auth", "pricing");
		await exact(t, "abc", "auth", 1);
		await exact(t, "abc", "pricing", 1);
		t.deepEqual(await identities("abc"), before);
		t.regex(await page(t, "abc"), /^price: 42$/m);
		t.is((await stage.registered()).length, 2 * SERVICES.length);
	},
);

thorough("what was killed is out of DNS, and rm gives back", async (t) => {
	const before = await addresses("abc");
	await shop(t, "kill", "pricing");
	await exact(t, "abc", "pricing", 0);
	t.deepEqual(await addresses("abc"), before);

	await shop(t, "rm", "-f", "pricing");
	t.false("abc_pricing_1" in (await addresses("abc")));
	await leasedExactly(t, "abc");

	await shop(t, "up", "-d");
	await exact(t, "abc", "pricing", 1);
	t.is(Object.keys(await addresses("abc")).length, SERVICES.length);
	t.regex(await page(t, "abc"), /^price: 42$/m);
});

test.serial(
	"a one-off calls the others by name, is no copy, and gives its address back",
	async (t) => {
		const price = ["wget", "-q", "-O-", "http://pricing/"];
		t.regex(
			await shop(t, "run", "--rm", "--no-deps", "-T", "web", ...price),
			/^pricing: .*\nprice: 42\n$/,
		);
		await leasedExactly(t, "abc");
		t.is((await stage.containers("abc")).length, SERVICES.length);

		await shop(t, "run", "-d", "--no-deps", "--name", "once", "web", "serve");
		t.is((await stage.containers("abc", "web")).length, 2);
		await exact(t, "abc", "web", 1);
		await exact(t, "abc", "pricing", 1, "once");
		t.is((await stage.registered()).length, 2 * SERVICES.length);
		await leasedExactly(t, "abc");
		t.is((await docker(stage.arpanet, ["rm", "-f", "once"])).code, 0);
		await leasedExactly(t, "abc");
	},
);

const TALK = `
talk:
  image: busybox
  command: sh -c "trap exit TERM; for i in 1 2 3 4 5 6 7 8 9; do echo said $$i; sleep 0.5 & wait; done; sleep 999 & wait"
`;

test.serial(
	"logs -f gives new lines as they come and ends when all stops; events tells",
	async (t) => {
		const file = await stage.file("talk.yml", TALK);
		const watch = follow(t, file, ["events"]);
		const labels = ["project=talk", "service=talk", "oneoff=False"].flatMap(
			(label) => ["--label", `com.docker.compose.${label}`],
		);
		await within(60, async () => {
			// nothing but an event shows that it listens
			await docker(stage.arpanet, [
				...["run", "--rm", "--name", "probe", ...labels, "busybox", "true"],
			]);
			if (!watch.text().includes("name=probe")) throw new Error("no event yet");
		});
		await fig(t, file, "talk", "up", "-d");
		const logs = follow(t, file, ["logs", "-f", "--no-color"]);
		const second = await eventually(
			async () => logs.text(),
			(text) => /said 9/.test(text),
		);
		t.regex(second, /^talk_1 +\| said 1\n.*said 9\n/ms);
		t.true(logs.alive());
		await fig(t, file, "talk", "stop");
		t.true(await eventually(async () => !logs.alive(), Boolean));
		// Compose leaves its last line out when Docker ends the `wait` later than 100 ms after it told of `die`
		t.regex(logs.text(), /said 9\n(talk_talk_1 exited with code \d+\n)?$/);
		t.regex(
			await fig(t, file, "talk", "logs", "--no-color", "--tail=2"),
			/\| said 8\ntalk_1 +\| said 9\n$/,
		);
		await fig(t, file, "talk", "rm", "-f");
		const events = await eventually(
			async () => watch.text(),
			(text) => / destroy .*name=talk_talk_1/.test(text),
		);
		for (const action of ["create", "start", "die", "destroy"]) {
			t.regex(events, new RegExp(` container ${action} .*name=talk_talk_1`));
		}
	},
);

/** A docker-compose that runs on, and what it has said. */
function follow(t: ExecutionContext, file: string, args: string[]) {
	const child = stage.host.spawn(
		findBinary("docker-compose"),
		["-f", file, "-p", "talk", ...args],
		{
			env: {
				PATH: process.env.PATH,
				PYTHONUNBUFFERED: "1",
				DOCKER_HOST: stage.arpanet.docker,
			},
			stdio: ["ignore", "pipe", "inherit"],
		},
	);
	let text = "";
	child.stdout?.on("data", (chunk) => (text += chunk));
	t.teardown(async () => {
		if (child.exitCode !== null || child.signalCode !== null) return;
		const ended = once(child, "exit");
		child.kill("SIGKILL");
		await ended;
	});
	return {
		text: () => text,
		alive: () => child.exitCode === null,
	};
}

thorough(
	"a changed service is made anew, and the old one's address goes back",
	async (t) => {
		const text = (price: number) => `
web: {image: busybox, command: sleep 999, stop_signal: KILL, links: [pricing]}
pricing: {image: busybox, command: sleep 999, stop_signal: KILL, environment: [PRICE=${price}]}
`;
		const file = await stage.file("change.yml", text(1));
		await fig(t, file, "change", "up", "-d");
		const before = await identities("change");
		await exact(t, "change", "pricing", 1);

		await stage.file("change.yml", text(2));
		await fig(t, file, "change", "up", "-d");
		const after = await identities("change");
		t.deepEqual(Object.keys(after), Object.keys(before));
		t.not(after.change_pricing_1?.id, before.change_pricing_1?.id);
		await exact(t, "change", "pricing", 1);
		await leasedExactly(t, "change");
		const [container] = await stage.containers("change", "pricing");
		t.true(container?.Config.Env?.includes("PRICE=2"));
		t.deepEqual(
			(await stage.registered())
				.filter(({ id }) => id.endsWith("pricing.change"))
				.map(({ id }) => id),
			["1.pricing.change"],
		);
		await fig(t, file, "change", "down");
		await gone(t, "change");
	},
);

thorough(
	"a service that cannot come up leaves the others up and nothing of itself",
	async (t) => {
		const text = `
web: {image: busybox, command: sleep 999, stop_signal: KILL}
pull: {image: "${stage.host.address}:1/no/such:image"}
create: {image: busybox, cpuset: "99"}
start: {image: busybox, command: /no/such/program}
`;
		const file = await stage.file("fail.yml", text);
		for (const [service, why] of [
			["pull", /connection refused|not found/],
			["create", /Requested CPUs are not available/],
			["start", /no such file or directory/],
		] as const) {
			const { code, stderr } = await ask(file, "fail", [
				...["up", "-d", "web", service],
			]);
			t.is(code, 1);
			t.regex(stderr, why);
		}
		t.deepEqual(
			Object.keys(await identities("fail")),
			["fail_start_1", "fail_web_1"], // Docker keeps what it could create but not start
		);
		await exact(t, "fail", "web", 1);
		t.deepEqual(await stage.dns("start.fail"), []);
		await leasedExactly(t, "fail");
		await fig(t, file, "fail", "rm", "-sf");
		await gone(t, "fail");
	},
);

thorough("build, push and pull go through a real registry", async (t) => {
	const { host, arpanet } = stage;
	const registry = `${host.address}:5000`;
	const config = await stage.file(
		"registry.yml",
		`version: 0.1
storage: {filesystem: {rootdirectory: ${join(host.dataDir, "registry")}}}
http: {addr: "${registry}"}
`,
	);
	host.spawn(findBinary("docker-registry"), ["serve", config], {
		stdio: "ignore",
	});
	await within(20, () => fetch(`http://${registry}/v2/`));

	await stage.file(
		"hello/Dockerfile",
		"FROM busybox\nARG WHO\nRUN echo hello $WHO > /hello\n",
	);
	const file = await stage.file(
		"hello.yml",
		`
version: "2.4"
services:
  hello:
    build: {context: hello, args: {WHO: you}}
    image: ${registry}/hello
`,
	);
	const id = async () =>
		(await docker(arpanet, ["images", "-q", `${registry}/hello`])).stdout;
	await fig(t, file, "hello", "build"); // by the docker CLI, each of which says something else
	const built = await id();
	t.regex(built, /^[0-9a-f]{12}$/m);
	await fig(t, file, "hello", "push");
	await docker(arpanet, ["rmi", `${registry}/hello`]);
	t.is(await id(), "");
	await fig(t, file, "hello", "pull");
	t.is(await id(), built);
	t.is(
		await fig(t, file, "hello", "run", "--rm", "-T", "hello", "cat", "/hello"),
		"hello you\n",
	);
	await fig(t, file, "hello", "down");
	await gone(t, "hello");
});

thorough("a link's alias is a name for all copies", async (t) => {
	const quiet = "image: busybox, command: sleep 999, stop_signal: KILL";
	const web = `\nweb: {${quiet}, links: ["redis:cache"]}`;
	const redis = `\nredis: {${quiet}}`;
	const file = await stage.file("alias.yml", redis);
	const cache = () => stage.dnsInside("alias_web_1", "cache");

	await fig(t, file, "alias", "up", "-d", "--scale", "redis=2");
	t.deepEqual(await stage.dns("cache.alias"), []);
	await stage.file("alias.yml", redis + web);
	await fig(t, file, "alias", "up", "-d", "--scale", "redis=2");
	const two = await exact(t, "alias", "redis", 2);
	t.deepEqual(await cache(), two); // both started before anyone linked to them

	await fig(t, file, "alias", "scale", "redis=3");
	t.deepEqual(await cache(), await exact(t, "alias", "redis", 3));
	await fig(t, file, "alias", "scale", "redis=1");
	t.deepEqual(await cache(), await exact(t, "alias", "redis", 1));
	t.deepEqual(await stage.dns("cache.alias"), await cache());

	const others = `
other: {${quiet}}
wrong: {${quiet}, links: ["other:cache"]}`;
	await stage.file("alias.yml", redis + web + others);
	const refused = await ask(file, "alias", ["up", "-d", "wrong"]);
	t.is(refused.code, 1);
	t.regex(
		refused.stderr,
		/in deployment alias the name cache already means service redis \(a link of alias_web_1\), not other; use another alias/,
	);
	t.deepEqual(await cache(), await exact(t, "alias", "redis", 1));
	await leasedExactly(t, "alias");

	await fig(t, file, "alias", "up", "-d", "--force-recreate", "web");
	t.deepEqual(await cache(), await exact(t, "alias", "redis", 1));
	await stage.file(
		"alias.yml",
		redis + web.replace("redis:", "other:") + others,
	);
	await fig(t, file, "alias", "up", "-d", "web");
	t.deepEqual(await cache(), await exact(t, "alias", "other", 1)); // what the link means now

	await fig(t, file, "alias", "kill");
	await fig(t, file, "alias", "rm", "-f");
	await gone(t, "alias");
});

test.serial("Docker's own links work in its own network", async (t) => {
	const file = await stage.file(
		"bridge.yml",
		`
db: {image: busybox, command: sleep 1000, net: bridge}
web: {image: busybox, command: sleep 1000, net: bridge, links: ["db:other"]}
`,
	);
	await fig(t, file, "own", "up", "-d", "--scale", "web=2");
	for (const copy of ["1", "2"]) {
		const command = ["ping", "-c", "1", "other"];
		await fig(t, file, "own", "exec", "-T", "--index", copy, "web", ...command);
	}
	await fig(t, file, "own", "kill");
	await fig(t, file, "own", "rm", "-f");
});

thorough("two deployments of one file never see each other", async (t) => {
	await fig(t, SHOP, "xyz", "up", "-d", "--scale", "pricing=2");
	const [subnet, other] = await Promise.all(
		["abc", "xyz"].map(async (project) => {
			const network = await stage.network(`${project}_default`);
			return new Netmask(network?.IPAM?.Config?.[0]?.Subnet ?? "");
		}),
	);
	t.false(subnet?.contains(other?.base ?? ""));
	t.false(other?.contains(subnet?.base ?? ""));
	const copies = { abc: 1, xyz: 2 };
	for (const project of ["abc", "xyz"] as const) {
		const own = project === "abc" ? subnet : other;
		for (const service of SERVICES) {
			const count = service === "pricing" ? copies[project] : 1;
			for (const address of await exact(t, project, service, count)) {
				t.true(own?.contains(address));
			}
		}
		const lines = (await page(t, project)).matchAll(/ (\d+(\.\d+){3})$/gm);
		for (const [, address] of lines) {
			t.true(own?.contains(address as string));
		}
	}

	const reach = async (from: string, address: string | undefined) => {
		const wget = ["timeout", "3", "wget", "-q", "-O-", `http://${address}/`];
		return (await stage.inside(from, ...wget)).code === 0;
	};
	const [ours] = await stage.running("abc", "pricing");
	const [theirs] = await stage.running("xyz", "pricing");
	t.true(await reach("abc_web_1", ours));
	t.true(await reach("xyz_web_1", theirs));
	t.false(await reach("abc_web_1", theirs));
	t.false(await reach("xyz_web_1", ours));
});

thorough(
	"down leaves nothing of a deployment, and not a scratch on another",
	async (t) => {
		const before = await identities("xyz");
		await shop(t, "down");
		await gone(t, "abc");
		for (const service of SERVICES) {
			t.deepEqual(await stage.dns(`${service}.abc`), []);
		}
		t.deepEqual(await identities("xyz"), before);
		await exact(t, "xyz", "pricing", 2);

		await fig(t, SHOP, "xyz", "down");
		await gone(t, "xyz");
	},
);

thorough(
	"a version 2 file with networks: each network has its names, and who is in both knows all",
	async (t) => {
		const quiet = "image: busybox, command: sleep 999, stop_signal: KILL";
		const text = `
version: "2.4"
services:
  front: {${quiet}, networks: [default, back]}
  side: {${quiet}}
  store: {${quiet}, networks: {back: {aliases: [vault]}}, scale: 2}
networks:
  back: {}
`;
		const file = await stage.file("nets.yml", text);
		await fig(t, file, "nets", "up", "-d");
		const side = await stage.running("nets", "side", "nets_default");
		const store = await stage.running("nets", "store", "nets_back");
		const front = await stage.running("nets", "front", "nets_default");
		const behind = await stage.running("nets", "front", "nets_back");
		t.deepEqual(
			[side.length, store.length, front.length, behind.length],
			[1, 2, 1, 1],
		);
		for (const [scope, service, expected] of [
			["nets", "side", side],
			["nets", "front", front],
			["nets-back", "front", behind],
			["nets-back", "store", store],
			["nets", "store", []],
			["nets-back", "side", []],
		] as const) {
			t.deepEqual(
				await stage.dns(`${service}.${scope}`),
				expected,
				`${service}.${scope}`,
			);
		}
		for (const [asker, name, expected] of [
			["nets_front_1", "side", side],
			["nets_front_1", "store", store],
			["nets_front_1", "vault", store],
			["nets_store_1", "vault", store],
		] as const) {
			t.deepEqual(await stage.dnsInside(asker, name), expected, name);
		}
		// front has two addresses: each of its neighbours takes the one that it can reach
		for (const asker of ["nets_store_1", "nets_side_1"]) {
			const ping = await stage.inside(asker, "ping", "-c1", "front");
			t.is(ping.code, 0, ping.stderr);
		}
		t.deepEqual(
			Object.keys(await stage.leases("nets")).sort(),
			[...side, ...front].sort(),
		);
		t.deepEqual(
			Object.keys(await stage.leases("nets-back")).sort(),
			[...store, ...behind].sort(),
		);

		const before = await stage.containers("nets");
		await fig(t, file, "nets", "restart", "-t", "1");
		const after = await stage.containers("nets");
		for (const network of ["nets_default", "nets_back"]) {
			t.deepEqual(
				after.map((container) => addressIn(container, network)),
				before.map((container) => addressIn(container, network)),
			);
		}
		t.deepEqual(await stage.dns("store.nets-back"), store);

		const again = await ask(file, "nets", ["up", "-d"]);
		t.is(again.code, 0, again.stderr);
		t.notRegex(again.stderr, /has changed|recreat/i); // what is arpanet's own is no change

		await fig(t, file, "nets", "down");
		await gone(t, "nets");
	},
);

test.serial(
	"a container with a fixed address is made anew with the same address",
	async (t) => {
		const text = (price: number) => `
version: "2.4"
services:
  web:
    image: busybox
    command: sleep 999
    stop_signal: KILL
    environment: [PRICE=${price}]
    networks: {default: {ipv4_address: 172.28.6.10, aliases: [front]}}
networks:
  default: {ipam: {config: [{subnet: 172.28.6.0/24}]}}
`;
		const file = await stage.file("fixed.yml", text(1));
		await fig(t, file, "fixed", "up", "-d");
		const before = await identities("fixed");
		await stage.file("fixed.yml", text(2));
		await fig(t, file, "fixed", "up", "-d");
		const after = await identities("fixed");
		t.deepEqual(Object.keys(after), ["fixed_web_1"]);
		t.not(after.fixed_web_1?.id, before.fixed_web_1?.id);
		t.deepEqual(await exact(t, "fixed", "web", 1), ["172.28.6.10"]);
		t.deepEqual(await stage.dns("front.fixed"), ["172.28.6.10"]);
		await leasedExactly(t, "fixed");
		await fig(t, file, "fixed", "down");
		await gone(t, "fixed");
	},
);
