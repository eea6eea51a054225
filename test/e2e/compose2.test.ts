import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";
import test, { type ExecutionContext } from "ava";
import { Netmask } from "netmask";
import { projectRoot, type Result } from "../../examples/images/tools.ts";
import { LASTING } from "../lab/arpanet.ts";
import { compose2, docker } from "../lab/clients.ts";
import { addressIn, eventually, Stage, thorough, within } from "./stage.ts";

let stage: Stage;
const SHOP = join(projectRoot, "examples/shop/compose.yaml");
const SERVICES = ["auth", "catalogue", "pricing", "redis", "web"];
/** Does nothing for long, and ends at once. */
const QUIET = "image: busybox, command: sleep 999, stop_signal: KILL";

test.before(async () => {
	stage = await Stage.start();
});
test.afterEach.always((t) => {
	if (!t.passed) t.log(stage?.complaints());
});
test.after.always(async () => {
	await stage?.stop();
});

/** Compose v2 through the gateway; whatever it answers. */
function ask(file: string, project: string, args: string[]): Promise<Result> {
	const options = ["--ansi", "never", "--progress", "plain"];
	return compose2(stage.arpanet, [
		...options,
		...["-f", file, "-p", project, ...args],
	]);
}

/** The same where it must succeed; gives what it printed. */
async function compose(
	t: ExecutionContext,
	file: string,
	project: string,
	...args: string[]
): Promise<string> {
	const { code, stdout, stderr } = await ask(file, project, args);
	t.is(code, 0, `compose ${args.join(" ")}\n${stderr}${stdout}`);
	return stdout;
}

/** DNS, from outside and from inside a container, answers with exactly the running copies of a service. */
async function exact(
	t: ExecutionContext,
	project: string,
	service: string,
	copies: number,
	asker = `${project}-web-1`,
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

async function page(t: ExecutionContext, project: string): Promise<string> {
	const address = await compose(t, SHOP, project, "port", "web", "80");
	return within(20, async () => {
		const answer = await fetch(stage.url(address));
		const text = await answer.text();
		if (!answer.ok) throw new Error(text);
		return text;
	});
}

test.serial(
	"the shop is built and comes up, and each service answers through web",
	async (t) => {
		await compose(t, SHOP, "shop", "up", "-d", "--build");
		const found = await Promise.all(
			SERVICES.map(async (service) => {
				const [address] = await exact(t, "shop", service, 1, "shop-web-1");
				return [service, address] as const;
			}),
		);
		t.is(await stage.spread("shop"), stage.lab.hosts.length);
		const addresses = Object.fromEntries(found);
		const lines = (await page(t, "shop")).replaceAll(/ [0-9a-f]{12} /g, " ");
		for (const service of ["web", "auth", "catalogue", "pricing"]) {
			t.true(lines.includes(`${service}: ${addresses[service]}\n`), lines);
		}
		t.true(lines.includes(`auth-redis: ${addresses.redis}\n`), lines);
		t.true(lines.includes(`catalogue-redis: ${addresses.redis}\n`), lines);

		const network = await stage.network("shop_default");
		const subnet = new Netmask(network?.IPAM?.Config?.[0]?.Subnet ?? "");
		t.true(new Netmask("10.32.0.0/12").contains(subnet.base));
		for (const address of Object.values(addresses)) {
			t.true(subnet.contains(address as string));
		}
		t.deepEqual(
			Object.keys(await stage.leases("shop")).sort(),
			Object.values(addresses).sort(),
		);
	},
);

test.serial("up again recreates nothing", async (t) => {
	const ids = async () =>
		(await stage.containers("shop")).map(({ Id, State }) => [
			Id,
			State.StartedAt,
		]);
	const before = await ids();
	await compose(t, SHOP, "shop", "up", "-d");
	t.deepEqual(await ids(), before);
});

test.serial("ps, logs and exec see the containers", async (t) => {
	const rows = (await compose(t, SHOP, "shop", "ps", "--format", "json"))
		.trim()
		.split("\n")
		.map((line) => JSON.parse(line));
	t.deepEqual(
		rows.map(({ Name, State }) => [Name, State]).sort(),
		SERVICES.map((service) => [`shop-${service}-1`, "running"]),
	);
	t.regex(
		await compose(t, SHOP, "shop", "logs", "redis"),
		/redis-1 +\| .*Ready to accept connections/,
	);
	const price = ["wget", "-q", "-O-", "http://pricing/"];
	t.regex(
		await compose(t, SHOP, "shop", "exec", "-T", "catalogue", ...price),
		/^pricing: .*\nprice: 42\n$/,
	);
	const failed = await ask(SHOP, "shop", [
		...["exec", "-T", "web", "sh", "-c", "exit 7"],
	]);
	t.is(failed.code, 7);
});

test.serial(
	"up --scale gives each copy an address, and takes it back",
	async (t) => {
		const scale = (count: number) =>
			compose(t, SHOP, "shop", "up", "-d", "--scale", `pricing=${count}`);
		await scale(3);
		const three = await exact(t, "shop", "pricing", 3);
		t.is(new Set(three).size, 3);
		t.is(Object.keys(await stage.leases("shop")).length, 7);
		const ids = (await stage.registered()).map(({ id }) => id);
		for (const number of [1, 2, 3]) {
			t.true(ids.includes(`${number}.pricing.shop`), ids.join());
		}
		await scale(1);
		await exact(t, "shop", "pricing", 1);
		t.is(Object.keys(await stage.leases("shop")).length, 5);
		t.is((await stage.registered()).length, 2 * SERVICES.length);
	},
);

test.serial(
	"a one-off calls the others by name and leaves nothing",
	async (t) => {
		const before = await stage.leases("shop");
		const price = ["wget", "-q", "-O-", "http://pricing/"];
		t.regex(
			await compose(t, SHOP, "shop", "run", "--rm", "-T", "web", ...price),
			/^pricing: .*\nprice: 42\n$/,
		);
		await exact(t, "shop", "web", 1);
		// v2 leaves --rm to the engine (AutoRemove): its event, not an answer that v2 waits for, gives the lease back
		const after = await eventually(
			() => stage.leases("shop"),
			(leases) => isDeepStrictEqual(leases, before),
			5,
		);
		t.deepEqual(after, before);
	},
);

thorough(
	"a second network has its own subnet and names, and who is in both knows all",
	async (t) => {
		const file = await stage.file(
			"nets.yaml",
			`
services:
  web: {${QUIET}, networks: [default, back]}
  side: {${QUIET}}
  store: {${QUIET}, networks: {back: {aliases: [vault]}}, scale: 2}
  other: {${QUIET}, networks: {back: {aliases: [vault]}}}
networks:
  back: {}
`,
		);
		await compose(t, file, "nets", "up", "-d");
		const side = await stage.running("nets", "side");
		const web = await stage.running("nets", "web");
		const behind = await stage.running("nets", "web", "nets_back");
		const store = await stage.running("nets", "store", "nets_back");
		const other = await stage.running("nets", "other", "nets_back");
		for (const [scope, members] of [
			["nets", [...side, ...web]],
			["nets-back", [...behind, ...store, ...other]],
		] as const) {
			const name = scope === "nets" ? "nets_default" : "nets_back";
			const network = await stage.network(name);
			const subnet = new Netmask(network?.IPAM?.Config?.[0]?.Subnet ?? "");
			t.true(members.every((address) => subnet.contains(address)));
			t.deepEqual(
				Object.keys(await stage.leases(scope)).sort(),
				[...members].sort(),
			);
		}
		for (const [name, expected] of [
			["side.nets", side],
			["web.nets", web],
			["web.nets-back", behind],
			["store.nets-back", store],
			["vault.nets-back", [...store, ...other].sort()],
			["store.nets", []],
			["vault.nets", []],
			["side.nets-back", []],
		] as const) {
			t.deepEqual(await stage.dns(name), expected, name);
		}
		for (const [name, expected] of [
			["side", side],
			["store", store],
			["vault", [...store, ...other].sort()],
		] as const) {
			t.deepEqual(await stage.dnsInside("nets-web-1", name), expected, name);
		}
		for (const asker of ["nets-side-1", "nets-store-1"]) {
			const ping = await stage.inside(asker, "ping", "-c1", "web");
			t.is(ping.code, 0, ping.stderr);
		}
		const [unreachable] = store;
		const ping = ["ping", "-c1", "-W2", unreachable as string];
		t.not((await stage.inside("nets-side-1", ...ping)).code, 0);

		await compose(t, file, "nets", "down", "-t", "1");
		await gone(t, "nets");
	},
);

const FIXED = (address: string, price = 1) => `
services:
  web: {${QUIET}, environment: ["PRICE=${price}"], networks: {default: {ipv4_address: 172.28.5.10, aliases: [front]}}}
  other: {${QUIET}, networks: {default: {ipv4_address: ${address}}}}
  any: {${QUIET}, scale: 5}
networks:
  default:
    ipam:
      config: [{subnet: 172.28.5.0/28, gateway: 172.28.5.14}]
`;

thorough(
	"a subnet and an address that the user asks for are leased as they are",
	async (t) => {
		const file = await stage.file("fixed.yaml", FIXED("172.28.5.11"));
		await compose(t, file, "fixed", "up", "-d");
		t.deepEqual(await exact(t, "fixed", "web", 1), ["172.28.5.10"]);
		t.deepEqual(await exact(t, "fixed", "other", 1), ["172.28.5.11"]);
		await exact(t, "fixed", "any", 5);
		const leases = await stage.leases("fixed");
		t.is(leases["172.28.5.10"], "fixed-web-1");
		t.is(leases["172.28.5.11"], "fixed-other-1");
		t.is(Object.keys(leases).length, 7);
		const network = await stage.network("fixed_default");
		t.like(network?.IPAM?.Config?.[0], {
			Subnet: "172.28.5.0/28",
			Gateway: "172.28.5.14",
		});

		const byId = await docker(stage.arpanet, [
			...["create", "--name", "by-id", "--network", network?.Id ?? ""],
			...["--label", "com.docker.compose.project=fixed", "busybox"],
		]);
		t.is(byId.code, 0, byId.stderr);
		t.true(Object.values(await stage.leases("fixed")).includes("by-id"));
		t.is((await docker(stage.arpanet, ["rm", "by-id"])).code, 0);
		t.is(Object.keys(await stage.leases("fixed")).length, 7);
	},
);

thorough(
	"a container with a fixed address is made anew with the same address",
	async (t) => {
		const file = await stage.file("fixed.yaml", FIXED("172.28.5.11", 2));
		const [before] = await stage.containers("fixed", "web");
		await compose(t, file, "fixed", "up", "-d");
		const [after, ...rest] = await stage.containers("fixed", "web");
		t.deepEqual(rest, []);
		t.not(after?.Id, before?.Id);
		t.is(after?.Name, "/fixed-web-1");
		t.deepEqual(await exact(t, "fixed", "web", 1), ["172.28.5.10"]);
		t.deepEqual(await stage.dns("front.fixed"), ["172.28.5.10"]);
		const leases = await stage.leases("fixed");
		t.is(leases["172.28.5.10"], "fixed-web-1");
		t.is(Object.keys(leases).length, 7);
	},
);

thorough(
	"an address that is taken or not in the subnet is refused, and nothing stays",
	async (t) => {
		for (const [address, why] of [
			["172.28.5.10", /dhcp: 172\.28\.5\.10 is leased to fixed-web-1/],
			["172.28.5.14", /dhcp: 172\.28\.5\.14 is leased to host h\d/],
			["172.28.6.10", /dhcp: 172\.28\.6\.10 is not in 172\.28\.5\.0\/28/],
		] as const) {
			const wanted = ["--ip", address, "--network", "fixed_default"];
			const labels = [
				...["--label", "com.docker.compose.project=fixed"],
				...["--label", "com.docker.compose.service=extra"],
			];
			const { code, stderr } = await docker(stage.arpanet, [
				...["create", "--name", "extra", ...wanted, ...labels, "busybox"],
			]);
			t.not(code, 0);
			t.regex(stderr, why);
		}
		t.is(Object.keys(await stage.leases("fixed")).length, 7);
		t.false((await stage.keys()).includes("arpanet/containers/extra"));

		const file = await stage.file("overlap.yaml", FIXED("172.28.5.11"));
		const overlap = await ask(file, "overlap", ["up", "-d"]);
		t.not(overlap.code, 0);
		t.regex(
			overlap.stderr,
			/dhcp: subnet 172\.28\.5\.0\/28 overlaps 172\.28\.5\.0\/28/,
		);
		await gone(t, "overlap");
		await compose(t, file, "fixed", "down");
		await gone(t, "fixed");
	},
);

thorough(
	"what a restart policy brings back has its address and is in DNS again",
	async (t) => {
		const file = await stage.file(
			"restart.yaml",
			`
services:
  web: {${QUIET}}
  always: {${QUIET}, restart: always}
  failing: {${QUIET}, restart: on-failure}
  once: {${QUIET}, restart: "no"}
`,
		);
		await compose(t, file, "restart", "up", "-d");
		const before = await stage.containers("restart");
		const crashed = before.filter(({ Name }) => Name !== "/restart-web-1");
		for (const { State } of crashed) {
			await stage.host.exec("kill", ["-9", String(State.Pid)]);
		}
		const after = await eventually(
			() => stage.containers("restart"),
			(all) =>
				all.every(({ State }, index) =>
					/once/.test(all[index]?.Name ?? "")
						? !State.Running
						: State.Running &&
							(/web/.test(all[index]?.Name ?? "") ||
								State.StartedAt !== before[index]?.State.StartedAt),
				),
		);
		t.deepEqual(
			after.map(({ Name, State }) => [Name, State.Running]),
			[
				["/restart-always-1", true],
				["/restart-failing-1", true],
				["/restart-once-1", false],
				["/restart-web-1", true],
			],
		);
		for (const [index, service, copies] of [
			[0, "always", 1],
			[1, "failing", 1],
			[2, "once", 0],
		] as const) {
			const old = addressIn(before[index] as never, "restart_default");
			const expected = copies ? [old] : [];
			t.deepEqual(
				await eventually(
					() => stage.dns(`${service}.restart`),
					(found) => found.length === copies,
				),
				expected,
			);
			t.true(old in (await stage.leases("restart")));
			await exact(t, "restart", service, copies);
		}
		await compose(t, file, "restart", "down");
		await gone(t, "restart");
	},
);

thorough(
	"a copy whose health check fails is not answered, and is back when healthy",
	async (t) => {
		const file = await stage.file(
			"health.yaml",
			`
services:
  web: {${QUIET}}
  sick:
    image: busybox
    command: sh -c "touch /well; exec sleep 999"
    stop_signal: KILL
    scale: 2
    healthcheck: {test: "test -f /well", interval: 500ms, timeout: 20s, retries: 1}
`,
		);
		await compose(t, file, "health", "up", "-d", "--wait");
		const both = await stage.running("health", "sick");
		t.is(both.length, 2);
		const answers = (expected: string[]) =>
			eventually(
				() => stage.dns("sick.health"),
				(found) => found.join() === expected.join(),
			);
		t.deepEqual(await answers(both), both);

		const [one] = await stage.containers("health", "sick");
		const own = addressIn(one as never, "health_default");
		const other = both.filter((address) => address !== own);
		await stage.inside("health-sick-1", "rm", "/well");
		t.deepEqual(await answers(other), other);
		t.deepEqual(await stage.dnsInside("health-web-1", "sick"), other);
		await stage.inside("health-sick-1", "touch", "/well");
		t.deepEqual(await answers(both), both);
		t.deepEqual(await stage.dnsInside("health-web-1", "sick"), both);

		await compose(t, file, "health", "down");
		await gone(t, "health");
	},
);

thorough("down -v leaves nothing behind at all", async (t) => {
	const file = await stage.file(
		"volume.yaml",
		`
services:
  web: {${QUIET}, volumes: ["data:/data"]}
volumes:
  data: {}
`,
	);
	await compose(t, file, "volume", "up", "-d");
	// on several hosts it may be made where the gateway is, and taken away when its container has gone elsewhere
	const made = await eventually(
		() => stage.volumes(),
		({ length }) => length === 1,
		30,
	);
	t.deepEqual(made, ["volume_data"]);
	await compose(t, file, "volume", "down", "-v");
	t.deepEqual(await stage.volumes(), []);
	await gone(t, "volume");

	await compose(t, SHOP, "shop", "down", "-v");
	await gone(t, "shop");
	const keys = await eventually(
		async () => (await stage.keys()).filter((key) => !LASTING.test(key)),
		(found) => found.length === 0,
	);
	t.deepEqual(keys, []);
	t.deepEqual(await stage.registered(), []);
	t.deepEqual(await stage.engine.listNetworks("arpanet.network"), []);
});

/** Nothing in Docker or Consul speaks of a project any more; its network goes a moment after its last container. */
async function gone(t: ExecutionContext, project: string): Promise<void> {
	const left = await eventually(
		() => stage.traces(project),
		(traces) => traces.length === 0,
	);
	t.deepEqual(left, []);
}
