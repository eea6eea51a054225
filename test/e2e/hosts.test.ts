import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { projectRoot } from "../../examples/images/tools.ts";
import { type Arpanet, arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { compose1, compose2, docker } from "../lab/clients.ts";
import { type LabCluster, startCluster, startMember } from "../lab/cluster.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually, until } from "./stage.ts";

const SHOP = join(projectRoot, "examples/shop/fig.yml");
let lab: LabCluster;
let gateways: Arpanet[];
/** Environment for a client that shows a certificate. */
let certified: Record<string, string>;
let turn = 0;

test.before(async () => {
	lab = await startCluster({ hosts: 3 });
	gateways = lab.gateways;
	certified = lab.certificates.client;
});
showComplaints(() => gateways ?? []);
test.after.always(async () => {
	await lab?.stop();
});

/** Any of the three gateways, in turn: each is the whole cluster. */
function any(): Arpanet {
	return gateways[turn++ % gateways.length] as Arpanet;
}

async function fig(
	t: ExecutionContext,
	project: string,
	...args: string[]
): Promise<string> {
	const { code, stdout, stderr } = await compose1(
		any(),
		["-f", SHOP, "-p", project, ...args],
		{ env: certified, timeout: 240_000 },
	);
	t.is(code, 0, `docker-compose ${args.join(" ")}\n${stderr}${stdout}`);
	return stdout;
}

/** Names of a service's containers, host by host, as the engines have them. */
async function perHost(name: string): Promise<string[][]> {
	return Promise.all(
		lab.hosts.map(async (host) => {
			const format = ["--format", "{{.Names}}", "--filter", `name=${name}`];
			const { stdout } = await docker(host, ["ps", "-a", ...format]);
			return stdout.split("\n").filter(Boolean).sort();
		}),
	);
}

/** What the web of a project answers, through any gateway. */
async function ask(project: string): Promise<string> {
	const { stdout } = await docker(
		any(),
		[
			"exec",
			`${project}_web_1`,
			"timeout",
			"20",
			"wget",
			"-qO-",
			"http://127.0.0.1/",
		],
		{ env: certified },
	);
	return stdout;
}

test.serial(
	"the unchanged file comes up over three hosts, two copies of six on each",
	async (t) => {
		await fig(t, "abc", "up", "-d");
		await fig(t, "abc", "up", "-d", "--scale", "pricing=6");
		const spread = await perHost("abc_pricing_");
		t.deepEqual(
			spread.map(({ length }) => length),
			[2, 2, 2],
		);
		const all = (await perHost("abc_")).flat();
		t.is(all.length, 10);
		const listed = await fig(t, "abc", "ps", "-q");
		t.is(listed.trim().split("\n").length, 10);
	},
);

test.serial(
	"web reaches every copy by its bare name, on whatever host it is",
	async (t) => {
		const seen = new Set<string>();
		for (let i = 0; i < 60 && seen.size < 6; i++) {
			const answer = await ask("abc");
			t.notRegex(answer, /error/);
			const copy = /^pricing: (\S+)/m.exec(answer)?.[1];
			if (copy) seen.add(copy);
		}
		t.is(seen.size, 6);
	},
);

test.serial("ps and check look at all hosts", async (t) => {
	const [host] = lab.hosts as [Host];
	const arpanet = async (verb: string) =>
		host.exec(process.execPath, [
			...[arpanetProgram, verb, "-c", gateways[0]?.config ?? ""],
		]);
	const { stdout } = await arpanet("ps");
	for (const { name } of lab.hosts) {
		t.regex(stdout, new RegExp(`abc_pricing_\\d +${name} +\\S+ +Up `));
	}
	t.notRegex(stdout, /unknown|no states/);
	const checked = (await arpanet("check")).stdout;
	for (const name of ["h2", "h3"]) {
		t.regex(
			checked,
			new RegExp(`ok +host ${name}: its engine answers at tcp:`),
		);
	}
});

test.serial(
	"events of all hosts are one stream, in the order of their times",
	async (t) => {
		const until = String(Math.floor(Date.now() / 1000));
		const args = [
			...["events", "--since", "0", "--until", until],
			...["--filter", "event=start"],
			...["--filter", "label=arpanet.deployment=abc"],
			...["--format", "{{.TimeNano}} {{.Actor.Attributes.name}}"],
		];
		const { stdout } = await docker(any(), args, { env: certified });
		const rows = stdout
			.trim()
			.split("\n")
			.map((row) => row.split(" "));
		// each engine keeps its last 256 events
		const own = await Promise.all(lab.hosts.map((host) => docker(host, args)));
		const kept = own.flatMap((each) => each.stdout.split("\n")).filter(Boolean);
		t.true(kept.length > 0);
		t.deepEqual(rows.map((row) => row.join(" ")).sort(), kept.sort());
		const times = rows.map(([time]) => BigInt(time ?? 0));
		t.true(
			times.every((time, i) => i === 0 || time >= (times[i - 1] as bigint)),
		);
	},
);

test.serial("Compose v2 and its network do the same", async (t) => {
	const compose = async (...args: string[]) => {
		const file = join(projectRoot, "examples/shop/compose.yaml");
		const { code, stdout, stderr } = await compose2(
			any(),
			["-f", file, "-p", "two", ...args],
			{ env: certified, timeout: 240_000 },
		);
		t.is(code, 0, `docker compose ${args.join(" ")}\n${stderr}${stdout}`);
		return stdout;
	};
	await compose("up", "-d", "--scale", "pricing=3");
	t.deepEqual(
		(await perHost("two-pricing")).map(({ length }) => length),
		[1, 1, 1],
	);
	const seen = new Set<string>();
	for (let i = 0; i < 40 && seen.size < 3; i++) {
		const { stdout } = await docker(
			any(),
			[
				"exec",
				"two-web-1",
				"timeout",
				"20",
				"wget",
				"-qO-",
				"http://127.0.0.1/",
			],
			{ env: certified },
		);
		const copy = /^pricing: (\S+)/m.exec(stdout)?.[1];
		if (copy) seen.add(copy);
	}
	t.is(seen.size, 3);
	await compose("down", "-t", "2");
	t.deepEqual((await perHost("two-")).flat(), []);
	for (const host of lab.hosts) {
		const { stdout } = await docker(host, [
			"network",
			"ls",
			"-q",
			"--filter",
			"name=two_",
		]);
		t.is(stdout, "");
	}
});

test.serial(
	"two deployments at once share no name and no packet",
	async (t) => {
		await fig(t, "xyz", "up", "-d");
		const inspect = async (name: string) => {
			const { stdout } = await docker(any(), ["inspect", name], {
				env: certified,
			});
			const [container] = JSON.parse(stdout);
			const [network] = Object.values(container.NetworkSettings.Networks);
			return (network as { IPAddress: string }).IPAddress;
		};
		const other = await inspect("xyz_pricing_1");
		const names = await docker(
			any(),
			["exec", "abc_web_1", "nslookup", "pricing.abc.service.consul"],
			{ env: certified },
		);
		t.false(names.stdout.includes(other));
		const ping = (address: string) =>
			docker(
				any(),
				["exec", "abc_web_1", "ping", "-c", "1", "-W", "2", address],
				{ env: certified },
			);
		t.not((await ping(other)).code, 0);
		t.is((await ping(await inspect("abc_pricing_6"))).code, 0);
		await fig(t, "xyz", "rm", "-sf");
	},
);

test.serial(
	"containers go on talking across hosts while every arpanet process is dead",
	async (t) => {
		const address = await docker(
			any(),
			[
				"inspect",
				"-f",
				"{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
				"abc_redis_1",
			],
			{ env: certified },
		);
		await Promise.all(gateways.map((gateway) => gateway.stop("SIGKILL")));
		for (const host of lab.hosts) {
			const { stdout } = await docker(host, [
				"ps",
				"-q",
				"--filter",
				"name=abc_pricing",
			]);
			const [asker = ""] = stdout.split("\n");
			const ping = await docker(host, [
				"exec",
				asker,
				"ping",
				"-c",
				"1",
				"-W",
				"2",
				address.stdout.trim(),
			]);
			t.is(ping.code, 0, `${host.name}: ${ping.stdout}${ping.stderr}`);
		}
		gateways = await Promise.all(
			lab.hosts.map((host, i) =>
				startMember(host, lab.certificates, `again${i}`),
			),
		);
	},
);

test.serial(
	"a drained host gets nothing new, and keeps what it has",
	async (t) => {
		const [host, other] = lab.hosts as [Host, Host];
		const arpanet = (...args: string[]) =>
			host.exec(process.execPath, [
				arpanetProgram,
				...args,
				"-c",
				gateways[0]?.config ?? "",
			]);
		const drained = await arpanet("host", "drain", other.name);
		t.is(drained.code, 0, drained.stderr);
		t.regex(
			(await arpanet("hosts")).stdout,
			new RegExp(`${other.name} .* drained`),
		);
		const before = (await perHost("abc_"))[1];
		await until(
			() => docker(any(), ["info"], { env: certified }),
			({ stdout }) => stdout.includes("Hosts: 3"),
			60,
		);
		await fig(t, "abc", "up", "-d", "--scale", "pricing=8");
		const after = await perHost("abc_");
		t.deepEqual(after[1], before);
		t.is(after.flat().length, 12);
		t.is((await arpanet("host", "undrain", other.name)).code, 0);
		t.regex((await arpanet("host", "rm", other.name)).stderr, /h2 lives/);
	},
);

test.serial(
	"all of it goes again through any gateway, and leaves nothing",
	async (t) => {
		await until(
			() => docker(any(), ["info"], { env: certified }),
			({ stdout }) => stdout.includes("Hosts: 3"),
			60,
		);
		await fig(t, "abc", "stop", "-t", "2");
		await fig(t, "abc", "rm", "-f");
		t.deepEqual((await perHost("abc_")).flat(), []);
		const [host] = lab.hosts as [Host];
		const keys = await eventually(
			async () => {
				const answer = await fetch(`${host.consul}/v1/kv/arpanet/?keys`);
				const all = (await answer.json()) as string[];
				return all.filter(
					(key) =>
						!/^arpanet\/(hosts\/|beats\/|images\/|repairs\/|leader$|format$|subnets-serial)/.test(
							key,
						),
				);
			},
			(left) => left.length === 0,
			60,
		);
		t.deepEqual(keys, []);
		for (const each of lab.hosts) {
			const devices = await eventually(
				async () =>
					(await each.exec("ip", ["-br", "link", "show", "type", "vxlan"]))
						.stdout,
				(left) => left.trim() === "",
				30,
			);
			t.is(devices.trim(), "");
		}
	},
);

test.serial(
	"who shows no certificate is let in nowhere, and a client's opens no engine",
	async (t) => {
		const [host] = lab.hosts as [Host];
		for (const port of [2375, 2377]) {
			const { code, stderr } = await docker(`tcp://${host.address}:${port}`, [
				"ps",
			]);
			t.not(code, 0);
			t.regex(stderr, /this port speaks TLS.*set DOCKER_TLS_VERIFY=1/);
		}
		const engine = await docker(`tcp://${host.address}:2377`, ["ps"], {
			env: certified,
		});
		t.not(engine.code, 0);
		t.regex(engine.stderr, /is a client's, and only hosts come in here/);
	},
);

test.serial(
	"without certificates the gateway does not listen for others, unless told to in so many words",
	async (t) => {
		const [host] = lab.hosts as [Host];
		for (const role of ["gateway", "adapter"]) {
			const error = await t.throwsAsync(
				startArpanet(host, {
					name: "unsafe",
					role,
					configure: ({ arpanet }) => {
						const listen = `tcp://${host.address}:3375`;
						arpanet.insecure = false;
						if (role === "gateway") arpanet.gateway.listen = [listen];
						else arpanet.adapter.listen = listen;
					},
				}),
			);
			t.regex(
				error?.message ?? "",
				/tcp:\/\/\S+:3375 can be reached by others.*insecure: true/,
			);
		}
	},
);
