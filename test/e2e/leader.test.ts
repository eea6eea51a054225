import { Resolver } from "node:dns/promises";
import { type EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { type Arpanet, arpanetProgram } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { startOpenCluster, startOpenMember } from "../lab/cluster.ts";
import { loadImages } from "../lab/images.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually } from "./stage.ts";

/** DNS forgets a lost host, and knows one that is back, within ten seconds (docs/faults.md); Consul's elections take longer on a busy machine. */
const LIMIT_S = 20;

let lab: Lab;
let arpanets: Map<Host, Arpanet>;
let starts = 0;

test.before(async () => {
	const { gateways, ...started } = await startOpenCluster();
	lab = started;
	arpanets = new Map(
		lab.hosts.map((host, i) => [host, gateways[i] as Arpanet]),
	);
	const others = lab.hosts.slice(1);
	await Promise.all(others.map((host) => loadImages(host, ["busybox"])));
});
showComplaints(() => arpanets?.values() ?? [], /"level":[45]0|lead/);
test.after.always(() => lab?.stop());

async function start(host: Host): Promise<void> {
	arpanets.set(host, await startOpenMember(host, `again${starts++}`));
}

function gateway(host = lab.hosts[0] as Host): Arpanet {
	return arpanets.get(host) as Arpanet;
}

async function command(host: Host, ...args: string[]) {
	return host.exec(process.execPath, [
		arpanetProgram,
		...args,
		"--config",
		gateway(host).config,
	]);
}

/** Consul lets a server that was lost vote again only after a while; until then it can lose no other. */
async function consulIsWhole(): Promise<void> {
	const [host] = lab.hosts as [Host];
	await eventually(
		async () => {
			const answer = await fetch(`${host.consul}/v1/operator/autopilot/health`);
			return (await answer.json()) as { FailureTolerance: number };
		},
		({ FailureTolerance }) => FailureTolerance === 1,
		60,
	);
}

/** Every agent has said that it lives. */
async function allAreHeard(): Promise<void> {
	await eventually(
		() => Promise.all(lab.hosts.map(({ name }) => value(hostKeys(name).alive))),
		(all) => all.every(Boolean),
		30,
	);
}

async function value<T>(key: string, from = lab.hosts): Promise<T | undefined> {
	for (const host of from) {
		const answer = await fetch(`${host.consul}/v1/kv/${key}?raw`, {
			signal: AbortSignal.timeout(2_000),
		}).catch(() => undefined);
		if (answer?.status === 404) return undefined;
		if (answer?.ok) return (await answer.json()) as T;
	}
	throw new Error("no Consul answers");
}

async function put(key: string, content: unknown): Promise<void> {
	const [host] = lab.hosts as [Host];
	await fetch(`${host.consul}/v1/kv/${key}`, {
		method: "PUT",
		body: JSON.stringify(content),
	});
}

/** The host whose agent leads, once one does that is not among `others`. */
async function leader(...others: (Host | undefined)[]): Promise<Host> {
	const names = others.map((host) => host?.name);
	const up = lab.hosts.filter((host) => !others.includes(host));
	const found = await eventually(
		() => value<{ host: string }>("arpanet/leader", up).catch(() => undefined),
		(seen) => seen !== undefined && !names.includes(seen.host),
		40,
	);
	return lab.hosts.find(({ name }) => name === found?.host) as Host;
}

/** A host other than this one that does not lead Consul either: without it nobody elects. */
async function follower(leads: Host): Promise<Host> {
	const answer = await fetch(`${leads.consul}/v1/status/leader`);
	const elected = String(await answer.json());
	return lab.hosts.find(
		(host) => host !== leads && !elected.startsWith(`${host.address}:`),
	) as Host;
}

async function copies(
	t: ExecutionContext,
	deployment: string,
	count: number,
): Promise<void> {
	for (let i = 1; i <= count; i++) {
		const { code, stderr } = await docker(gateway(), [
			...["run", "-d", "--name", `${deployment}_web_${i}`, "--init"],
			...[
				"-l",
				`arpanet.deployment=${deployment}`,
				"-l",
				"arpanet.service=web",
			],
			...["busybox", "sleep", "9999"],
		]);
		t.is(code, 0, stderr);
	}
}

/** What Consul's DNS on a host answers for a deployment's web, sorted. */
async function names(host: Host, deployment: string): Promise<string[]> {
	const resolver = new Resolver({ timeout: 1_000, tries: 1 });
	resolver.setServers([host.address]);
	for (let tries = 1; ; tries++) {
		try {
			return (
				await resolver.resolve4(`web.${deployment}.service.consul`)
			).sort();
		} catch (error) {
			// one packet that is late says nothing
			const isLate = (error as NodeJS.ErrnoException).code === "ETIMEOUT";
			if (!isLate || tries === 3) return [];
		}
	}
}

/** Addresses of the web copies that the engines of hosts have, sorted. */
async function addresses(hosts: Host[], deployment: string): Promise<string[]> {
	const found = await Promise.all(
		hosts.map(async (host) => {
			const { stdout } = await docker(host, [
				...["ps", "--filter", `name=${deployment}_web_`],
				...["--format", '{{.Label "arpanet.address"}}'],
			]);
			return stdout.split("\n").filter(Boolean);
		}),
	);
	return found.flat().sort();
}

/** Seconds until DNS on every one of these hosts answers with exactly these addresses. */
async function until(
	t: ExecutionContext,
	hosts: Host[],
	deployment: string,
	wanted: string[],
): Promise<number> {
	const began = performance.now();
	for (const host of hosts) {
		const seen = await eventually(
			() => names(host, deployment),
			(found) => String(found) === String(wanted),
			30,
		);
		t.deepEqual(seen, wanted, `as ${host.name} sees it`);
	}
	return (performance.now() - began) / 1000;
}

test.serial("one agent leads, and any host says which", async (t) => {
	const leads = await leader();
	for (const host of lab.hosts) {
		const { stdout, stderr, code } = await command(host, "leader");
		t.is(code, 0, stderr);
		t.regex(stdout, new RegExp(`^${leads.name} leads since 20`));
	}
});

/** Makes a container of the same name at the engine of another host, as though arpanet had. @returns that host */
async function twinOf(name: string): Promise<Host> {
	for (const host of lab.hosts) {
		const { stdout } = await docker(host, ["ps", "-qf", `name=^${name}$`]);
		if (stdout.trim()) continue;
		const labels = {
			...{ deployment: "abc", service: "web", network: "abc" },
			...{ host: host.name, address: "10.32.0.222" },
		};
		const { code, stderr } = await docker(host, [
			...["create", "--name", name],
			...Object.entries(labels).flatMap(([key, content]) => [
				"--label",
				`arpanet.${key}=${content}`,
			]),
			"busybox",
		]);
		if (code !== 0) throw new Error(stderr);
		return host;
	}
	throw new Error(`every host has ${name}`);
}

test.serial(
	"what belongs to nobody goes back within a minute, with the reason; what lives keeps what it has",
	async (t) => {
		await copies(t, "abc", 3);
		const before = await addresses(lab.hosts, "abc");
		const host = lab.hosts[1]?.name;
		const orphans: Record<string, unknown> = {
			"arpanet/leases/abc/10.32.0.200": {
				host,
				deployment: "abc",
				container: "abc_gone_1",
			},
			"arpanet/aliases/abc/cache/10.32.0.200": {
				service: "web",
				container: "abc_gone_1",
			},
			"arpanet/subnets/10.44.0.0-24": "nowhere",
			"arpanet/gateways/nowhere/h2": "10.44.0.1",
			"arpanet/leases/nowhere/10.44.0.1": { host, deployment: "nowhere" },
			// of requests whose gateway died
			"arpanet/names/never_made": { host, at: Date.now() },
			[`arpanet/tagging/${host}/never-answered`]: { host, at: "" },
		};
		for (const [key, content] of Object.entries(orphans)) {
			await put(key, content);
		}
		const marked = () => value("arpanet/aliases/abc/");
		t.truthy(await eventually(marked, Boolean, 30)); // as that alias should have been
		const kept = await docker(gateway(), [
			...["network", "create", "empty_default"],
			...["--label", "com.docker.compose.project=empty"],
			...["--label", "com.docker.compose.network=default"],
		]);
		t.is(kept.code, 0, kept.stderr);
		const twin = await twinOf("abc_web_2");
		const [first] = lab.hosts as [Host];
		// a living container's record and its catalog entries go behind our back
		for (const path of [
			"kv/arpanet/containers/abc_web_1",
			"kv/arpanet/subnets?recurse",
		]) {
			await fetch(`${first.consul}/v1/${path}`, { method: "DELETE" });
		}
		await fetch(`${first.consul}/v1/catalog/deregister`, {
			method: "PUT",
			body: JSON.stringify({ Node: `arpanet-${lab.hosts[2]?.name}` }),
		});

		for (const key of Object.keys(orphans)) {
			t.is(
				await eventually(
					() => value(key),
					(seen) => seen === undefined,
					60,
				),
				undefined,
				key,
			);
		}
		t.deepEqual(await addresses(lab.hosts, "abc"), before);
		await until(t, lab.hosts, "abc", before);
		for (const key of [
			"arpanet/containers/abc_web_1",
			`arpanet/leases/abc/${before[0]}`,
			"arpanet/networks/empty",
		]) {
			t.truthy(await eventually(() => value(key), Boolean, 30), key);
		}
		const subnet = await value<{ subnet: string }>("arpanet/networks/abc");
		const key = `arpanet/subnets/${subnet?.subnet.replace("/", "-")}`;
		t.is(await eventually(() => value(key), Boolean, 30), "abc");
		const why = await command(first, "explain", "abc_web_2");
		t.regex(why.stdout, /^made: +20.* through h1$/m, why.stderr);
		t.regex(why.stdout, /^placement: +scores .*; h\d scores /m);
		t.regex(why.stdout, /^dhcp: +10\.32\.0\.\d+ in abc: free in 10\.32/m);
		const repaired = await command(first, "explain", "abc_web_1");
		t.regex(repaired.stdout, /put back on record.*it lives and was not/);
		const gone = await command(first, "explain", "abc_gone_1");
		t.regex(gone.stdout, /lease given back +no container is on record/);
		const aside = /^[0-9a-f]{12}_abc_web_2$/m;
		const names = await eventually(
			() => docker(twin, ["ps", "-a", "--format={{.Names}}"]),
			({ stdout }) => aside.test(stdout),
			30,
		);
		const [renamed = ""] = aside.exec(names.stdout) ?? [];
		const onRecord = await eventually(
			() => value(`arpanet/containers/${renamed}`),
			Boolean,
			30,
		);
		t.like(onRecord, { facts: { host: twin.name } });
		const record = await value<{ facts: { host: string } }>(
			"arpanet/containers/abc_web_2",
		);
		t.not(record?.facts.host, twin.name);
		t.is((await docker(twin, ["rm", renamed])).code, 0);
		const { stdout } = await command(first, "leader");
		t.regex(stdout, /^lease given back +2 /m);
		t.regex(stdout, /^subnet put back +\d /m);
		t.regex(stdout, /^container put back on record +2 /m);
	},
);

test.serial(
	"a host without power is out of DNS in ten seconds, also if its agent led; it comes back with its containers",
	async (t) => {
		const lost = await leader();
		const rest = lab.hosts.filter((host) => host !== lost);
		const all = await addresses(lab.hosts, "abc");
		const left = await addresses(rest, "abc");
		t.is(left.length, 2);
		await lost.crash();
		const seconds = await until(t, rest, "abc", left);
		t.log(`out of DNS after ${seconds.toFixed(1)} s`);
		t.true(seconds < LIMIT_S, `${seconds} s`);
		t.not(await leader(lost), lost);
		const { stdout } = await command(rest[0] as Host, "hosts");
		t.regex(stdout, new RegExp(`^${lost.name} .* lost `, "m"));
		const removal = await command(rest[0] as Host, "host", "rm", lost.name);
		t.regex(removal.stderr, /has 1 containers on record; .* --force/);

		await lost.boot();
		await start(lost);
		const { stdout: again } = await docker(lost, ["ps", "-aq"]);
		for (const id of again.split("\n").filter(Boolean)) {
			t.is((await docker(lost, ["start", id])).code, 0);
		}
		await until(t, lab.hosts, "abc", all);
	},
);

test.serial(
	"a host that is cut off is out of DNS in ten seconds, and back with all it had in ten more; the second time, too",
	async (t) => {
		await consulIsWhole();
		const leads = await leader();
		const cut = lab.hosts.find((host) => host !== leads) as Host;
		const rest = lab.hosts.filter((host) => host !== cut);
		const all = await addresses(lab.hosts, "abc");
		const left = await addresses(rest, "abc");
		for (const time of ["first", "second"]) {
			await cut.unplug();
			const out = await until(t, rest, "abc", left);
			await cut.plug();
			const back = await until(t, lab.hosts, "abc", all);
			t.log(
				`${time}: out after ${out.toFixed(1)} s, back after ${back.toFixed(1)} s`,
			);
			t.true(out < LIMIT_S, `${out} s`);
			t.true(back < LIMIT_S, `${back} s`);
			await consulIsWhole();
		}
		t.deepEqual(await addresses(lab.hosts, "abc"), all);
	},
);

test.serial(
	"without its arpanet a host is not lost: its containers run and DNS answers for them",
	async (t) => {
		const mark = () => value("arpanet/aliases/abc/");
		const unmarked = await eventually(mark, (seen) => seen === undefined, 60);
		t.is(unmarked, undefined, "its only alias went long ago");
		const all = await addresses(lab.hosts, "abc");
		const leads = await leader();
		const away = lab.hosts.find((host) => host !== leads) as Host;
		await gateway(away).stop("SIGKILL");
		const until = performance.now() + 12_000;
		while (performance.now() < until) {
			t.deepEqual(await names(leads, "abc"), all);
			await sleep(200);
		}
		await start(away);
	},
);

test.serial(
	"a leader that sleeps is replaced, and leads no more when it wakes",
	async (t) => {
		const sleeper = await leader();
		const { process: child, log } = gateway(sleeper);
		child.kill("SIGSTOP");
		const next = await leader(sleeper);
		child.kill("SIGCONT");
		const said = await eventually(
			async () => log(),
			(text) => text.includes("this agent leads no more"),
		);
		t.regex(said, /this agent leads no more/);
		t.is(await leader(), next);
	},
);

/** The host whose engine has a running container of that name; undefined while none has. */
async function hostWith(
	hosts: Host[],
	name: string,
): Promise<Host | undefined> {
	for (const host of hosts) {
		const { stdout } = await docker(host, [
			...["ps", "-q", "--filter", `name=^/${name}$`],
		]);
		if (stdout) return host;
	}
	return undefined;
}

/** What a copy's own web server says that it is: the start of its id. */
async function asked(from: Host, client: string, address: string) {
	const { stdout } = await docker(from, [
		...["exec", client, "timeout", "1", "wget", "-q", "-O", "-"],
		`http://${address}/hostname`,
	]);
	return stdout.trim();
}

test.serial(
	"a lost host's containers are started elsewhere if they ask for it, and what it still has of them is stopped before anybody hears of it",
	async (t) => {
		await consulIsWhole();
		await allAreHeard(); // one that slept is given nothing
		const leads = await leader();
		const cut = await follower(leads);
		const rest = lab.hosts.filter((host) => host !== cut);
		const client = gateway(leads);
		const run = async (...args: string[]) => {
			const { code, stderr } = await docker(client, ["run", "-d", ...args]);
			t.is(code, 0, stderr);
		};
		const label = ["-l", "arpanet.reschedule=on-host-failure"];
		const copy = (i: number) => [
			...["--name", `mv_web_${i}`, "--init", "--restart", "always", ...label],
			...["-e", "COLOUR=red", "--network-alias", "front"],
		];
		const httpd = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
		const made = await docker(client, ["network", "create", "mv_back"]);
		t.is(made.code, 0, made.stderr);
		const own = await docker(client, [
			...["network", "create", "mv_default"],
			...["--label", "com.docker.compose.project=mv"],
			...["--label", "com.docker.compose.network=default"],
		]);
		t.is(own.code, 0, own.stderr);
		for (const i of [1, 2, 3]) {
			await run(...copy(i), "--network", "mv_default", ...httpd);
		}
		await run(
			...["--name", "mv_db_1", "--init", "-v", "mv_data:/data", ...label],
			...["-e", `constraint:node==~${cut.name}`, "--network", "mv_default"],
			...["busybox", "sleep", "9999"],
		);
		const names = ["mv_web_1", "mv_web_2", "mv_web_3"];
		let moved = "";
		for (const name of names) {
			if ((await hostWith([cut], name)) === cut) moved = name;
		}
		t.regex(moved, /^mv_web/, "no copy is on the host that will be lost");
		const joined = await docker(client, [
			"network",
			"connect",
			"mv_back",
			moved,
		]);
		t.is(joined.code, 0, joined.stderr);
		const inspect = async (target: Host) =>
			JSON.parse((await docker(target, ["inspect", moved])).stdout)[0];
		const old = await inspect(cut);
		const address = old.Config.Labels["arpanet.address"];
		const all = await addresses(lab.hosts, "mv");
		t.is(all.length, 3);
		await until(t, lab.hosts, "mv", all);
		const [other] = names.filter((name) => name !== moved) as [string];
		const from = (await hostWith(rest, other)) as Host;
		const before = await eventually(
			() => asked(from, other, address),
			(id) => id !== "",
		);
		t.is(before, old.Id.slice(0, 12));

		t.teardown(() => cut.plug()); // also when this fails: the others need it
		await cut.unplug();
		const now = await eventually(
			() => hostWith(rest, moved),
			(host) => host !== undefined,
			60,
		);
		const fresh = await inspect(now as Host);
		t.not(fresh.Id, old.Id);
		t.like(fresh.Config, { Image: old.Config.Image, Cmd: old.Config.Cmd });
		t.true(fresh.Config.Env.includes("COLOUR=red"));
		t.deepEqual(fresh.HostConfig.RestartPolicy, old.HostConfig.RestartPolicy);
		const addressesOf = ({ NetworkSettings }: typeof old) =>
			Object.entries(
				NetworkSettings.Networks as Record<string, { IPAddress: string }>,
			)
				.map(([name, { IPAddress }]) => `${name} ${IPAddress}`)
				.sort();
		t.deepEqual(addressesOf(fresh), addressesOf(old));
		await until(t, rest, "mv", all);
		const reached = await eventually(
			() => asked(from, other, address),
			(id) => id === fresh.Id.slice(0, 12),
		);
		t.is(reached, fresh.Id.slice(0, 12));
		const why = await command(leads, "explain", moved);
		t.regex(why.stdout, new RegExp(`^reschedule: +${cut.name}, .*lost`, "m"));
		const stays = await eventually(
			() => command(leads, "explain", "mv_db_1"),
			({ stdout }) => stdout.includes("stayed"),
		);
		const reason = `volume mv_data is on ${cut.name}`;
		t.true(stays.stdout.includes(reason), stays.stdout);
		t.true((await command(leads, "ps")).stdout.includes(reason));
		t.true(gateway(leads).log().includes(reason));
		const { stdout: listed } = await docker(client, [
			...["ps", "-a", "--filter", `name=${moved}`, "--format", "{{.Names}}"],
		]);
		const rows = listed.split("\n").filter((name) => name === moved);
		t.is(rows.length, 1, listed);

		await cut.plug();
		const aside = `${moved}.superseded-${old.Id.slice(0, 12)}`;
		const heard = new Set<string>();
		const settled = await eventually(
			async () => {
				heard.add(await asked(from, other, address));
				const { stdout } = await docker(cut, [
					...["inspect", "--format"],
					"{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}",
					aside,
				]);
				return stdout.trim();
			},
			(text) => text === "false no",
			60,
		);
		t.is(settled, "false no");
		t.false(heard.has(old.Id.slice(0, 12)), [...heard].join());
		await until(t, lab.hosts, "mv", all);
		// the host is heard again in the network, and its own containers reach the new copy
		const near = await eventually(
			() => asked(cut, "mv_db_1", address),
			(id) => id === fresh.Id.slice(0, 12),
			30,
		);
		t.is(near, fresh.Id.slice(0, 12));
		const again = await docker(client, ["start", aside]);
		t.regex(again.stderr, /was started elsewhere/);
		// past that, once the host is known to be back: it is stopped again
		const started = await eventually(
			() => docker(client, ["start", old.Id]),
			({ code }) => code === 0,
			10,
		);
		t.is(started.code, 0, started.stderr);
		await eventually(
			() => hostWith([cut], aside),
			(host) => host === undefined,
		);
		t.is((await docker(client, ["rm", "-f", aside])).code, 0);
		t.is((await docker(client, ["rm", "-f", "mv_db_1"])).code, 0);
		t.truthy(await value(`arpanet/containers/${moved}`));
		await until(t, lab.hosts, "mv", all);
		t.is((await docker(client, ["rm", "-f", ...names])).code, 0);
	},
);

/** Answers each packet with itself. */
const ECHO = `const s = require("dgram").createSocket("udp4");
s.on("message", (m, { port, address }) => s.send(m, port, address));
s.bind(7, () => console.log("ready"));
process.stdin.on("end", () => process.exit()).resume();`;
/** Sends a packet every 20 ms until its input ends, and then says how many came back. */
const PINGS = `const s = require("dgram").createSocket("udp4");
let sent = 0, received = 0; s.on("message", () => received++);
const timer = setInterval(() => { sent++; s.send("x", 7, process.argv[1]); }, 20);
process.stdin.on("end", () => { clearInterval(timer); setTimeout(() => {
console.log(sent + " sent, " + received + " received"); process.exit(); }, 2000); }).resume();`;

/** Runs a script of Node's in the network of a container. */
async function inside(host: Host, name: string, ...script: string[]) {
	const { stdout } = await docker(host, [
		...["inspect", "-f", "{{.State.Pid}}", name],
	]);
	return host.spawn(
		"nsenter",
		["--target", stdout.trim(), "--net", process.execPath, "-e", ...script],
		{ stdio: ["pipe", "pipe", "inherit"] },
	);
}

test.serial(
	"arpanet is started again on one host after the other: what clients do goes on, and no packet is lost",
	async (t) => {
		const [first, , third] = lab.hosts as [Host, Host, Host];
		const ends = await Promise.all(
			(["ru_a_1", "ru_b_1"] as const).map(async (name, i) => {
				const run = [
					...["run", "-d", "--name", name, "--init", "-e"],
					`constraint:node==${(i === 0 ? first : third).name}`,
					...["busybox", "sleep", "9999"],
				];
				const { code, stderr } = await eventually(
					() => docker(gateway(), run), // the host that slept in the last test may not be back yet
					({ code }) => code === 0,
					60,
				);
				t.is(code, 0, stderr);
				const { stdout } = await docker(gateway(), ["inspect", name]);
				return JSON.parse(stdout)[0].Config.Labels["arpanet.address"] as string;
			}),
		);
		const to = ends[1] as string;
		await eventually(
			() => docker(first, ["exec", "ru_a_1", "ping", "-c", "1", to]),
			({ code }) => code === 0,
			30,
		);
		const echo = await inside(third, "ru_b_1", ECHO);
		t.teardown(() => echo.kill());
		await once(echo.stdout as EventEmitter, "data");
		const pings = await inside(first, "ru_a_1", PINGS, to);
		t.teardown(() => pings.kill());
		let counted = "";
		pings.stdout?.on("data", (chunk) => (counted += chunk));

		let over = false;
		t.teardown(() => {
			over = true;
		});
		const wrong: string[] = [];
		let done = 0;
		/** What a stock client does, and does again where nobody listens; anything else must not fail twice for long. */
		const insist = async (host: Host, args: string[]): Promise<void> => {
			const target = `tcp://${host.address}:2375`;
			const end = performance.now() + 60_000;
			for (;;) {
				const { code, stderr } = await docker(target, args);
				if (code === 0) {
					done++;
					return;
				}
				const isAway = stderr === "" || /Cannot connect/i.test(stderr);
				if (!isAway) t.log(`${host.name}: ${args.join(" ")}: ${stderr}`);
				if (performance.now() > end) {
					wrong.push(`${host.name}: ${args.join(" ")}: ${stderr}`);
					return;
				}
				await sleep(200);
			}
		};
		const clients = lab.hosts.map(async (host, i) => {
			for (let round = 1; !over; round++) {
				const name = `ru_c${i}_${round}`;
				await insist(host, [
					...["create", "--name", name, "--init"],
					...["busybox", "sleep", "9999"],
				]);
				await insist(host, ["start", name]);
				await insist(host, ["exec", name, "true"]);
				await insist(host, ["stop", "-t", "1", name]);
				await insist(host, ["rm", name]);
			}
		});
		for (const host of lab.hosts) {
			// without an init it does not heed the signal: its stop is under way when arpanet is told to
			const slow = await docker(gateway(host), [
				...["run", "-d", "--name", `ru_${host.name}_1`],
				...["busybox", "sleep", "9999"],
			]);
			t.is(slow.code, 0, slow.stderr);
			const id = slow.stdout.trim();
			const url = `http://${host.address}:2375/containers/${id}/stop?t=2`;
			const stopping = fetch(url, { method: "POST" });
			await sleep(500);
			t.is(await gateway(host).stop(), 0);
			t.is((await stopping).status, 204);
			await start(host);
		}
		over = true;
		await Promise.all(clients);
		t.deepEqual(wrong, []);
		t.true(done > 12, `${done}`);
		pings.stdin?.end();
		const text = await eventually(
			async () => counted,
			(said) => said.includes("received"),
		);
		const [, sent, received] = /(\d+) sent, (\d+) received/.exec(text) ?? [];
		t.is(received, sent);
		t.true(Number(sent) > 100, text);
		const all = ["ru_a_1", "ru_b_1", "ru_h1_1", "ru_h2_1", "ru_h3_1"];
		t.is((await docker(gateway(), ["rm", "-f", ...all])).code, 0);
	},
);

test.serial(
	"what a host had that is removed for good is given back",
	async (t) => {
		const leads = await leader();
		const gone = lab.hosts.find((host) => host !== leads) as Host;
		const living = await command(leads, "host", "rm", "--force", gone.name);
		t.regex(living.stderr, new RegExp(`host ${gone.name} lives`));
		const rest = lab.hosts.filter((host) => host !== gone);
		const left = await addresses(rest, "abc");
		const kept = ["kg_web_1", "kg_web_2", "kg_web_3"];
		for (const name of kept) {
			const { code, stderr } = await docker(gateway(leads), [
				...["run", "-d", "--name", name, "--init"],
				...["-l", "arpanet.reschedule=on-host-failure"],
				...["busybox", "sleep", "9999"],
			]);
			t.is(code, 0, stderr);
		}
		const all = await addresses(lab.hosts, "kg");
		await until(t, lab.hosts, "kg", all);
		await gone.crash();
		await until(t, rest, "abc", left);
		// one of these was there: it is not among what is given back
		const moved = await eventually(
			() => addresses(rest, "kg"),
			(found) => found.length === all.length,
			60,
		);
		t.deepEqual(moved, all);
		await until(t, rest, "kg", all);
		t.is((await docker(gateway(leads), ["rm", "-f", ...kept])).code, 0);
		const removed = await eventually(
			() => command(leads, "host", "rm", "--force", gone.name),
			({ code }) => code === 0,
			30,
		);
		t.regex(removed.stdout, /is forgotten, and 1 containers/, removed.stderr);
		const answer = await fetch(`${leads.consul}/v1/kv/arpanet/?recurse`);
		const rows = (await answer.json()) as { Key: string; Value: string }[];
		const traces = rows
			.filter(({ Key }) => !/^arpanet\/(repairs|reasons|copies)\//.test(Key)) // reasons tell of it as it was; a copy that was adopted leaves its old mark to the sweep
			.map(({ Key, Value }) => `${Key} ${Buffer.from(Value ?? "", "base64")}`)
			.filter((text) => new RegExp(`\\b${gone.name}\\b`).test(text));
		t.deepEqual(traces, []);
		const leases = rows.filter(({ Key }) =>
			Key.startsWith("arpanet/leases/abc/"),
		);
		t.is(leases.length, 2 * rest.length); // a copy and a bridge on each
		const node = await fetch(
			`${leads.consul}/v1/catalog/node/arpanet-${gone.name}`,
		);
		t.is(await node.json(), null);
	},
);
