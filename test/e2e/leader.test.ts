import { Resolver } from "node:dns/promises";
import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { type Arpanet, arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import { eventually } from "./stage.ts";

/** DNS forgets a lost host, and knows one that is back, within ten seconds (docs/faults.md); Consul's elections take longer on a busy machine. */
const LIMIT_S = 20;

let lab: Lab;
let arpanets: Map<Host, Arpanet>;
let starts = 0;

test.before(async () => {
	lab = await startLab({ hosts: 3 });
	await Promise.all(lab.hosts.map((host) => loadImages(host, ["busybox"])));
	arpanets = new Map();
	await Promise.all(lab.hosts.map(start));
	for (const gateway of arpanets.values()) {
		await eventually(
			() => docker(gateway, ["info"]),
			({ stdout }) => stdout.includes("Hosts: 3"),
			60,
		);
	}
});
test.afterEach.always((t) => {
	if (t.passed) return;
	for (const { log } of arpanets?.values() ?? []) {
		t.log(
			log()
				.split("\n")
				.filter((line) => /"level":[45]0|lead/.test(line))
				.map((line) => line.slice(0, 300))
				.slice(-8)
				.join("\n"),
		);
	}
});
test.after.always(() => lab?.stop());

async function start(host: Host): Promise<void> {
	const arpanet = await startArpanet(host, {
		name: `arpanet${starts++}`,
		configure: ({ arpanet }) => {
			arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
	arpanets.set(host, arpanet);
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
	const found = await resolver
		.resolve4(`web.${deployment}.service.consul`)
		.catch(() => []);
	return found.sort();
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
		const kept = await docker(gateway(), [
			...["network", "create", "empty_default"],
			...["--label", "com.docker.compose.project=empty"],
			...["--label", "com.docker.compose.network=default"],
		]);
		t.is(kept.code, 0, kept.stderr);
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
		const { stdout } = await command(first, "leader");
		t.regex(stdout, /^lease given back +2 /m);
		t.regex(stdout, /^subnet put back +\d /m);
		t.regex(stdout, /^container put back on record +1 /m);
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
	"a host that is cut off is out of DNS in ten seconds, and back with all it had in ten more",
	async (t) => {
		await consulIsWhole();
		const leads = await leader();
		const cut = lab.hosts.find((host) => host !== leads) as Host;
		const rest = lab.hosts.filter((host) => host !== cut);
		const all = await addresses(lab.hosts, "abc");
		const left = await addresses(rest, "abc");
		await cut.unplug();
		const out = await until(t, rest, "abc", left);
		await cut.plug();
		const back = await until(t, lab.hosts, "abc", all);
		t.log(`out after ${out.toFixed(1)} s, back after ${back.toFixed(1)} s`);
		t.true(out < LIMIT_S, `${out} s`);
		t.true(back < LIMIT_S, `${back} s`);
		t.deepEqual(await addresses(lab.hosts, "abc"), all);
	},
);

test.serial(
	"without its arpanet a host is not lost: its containers run and DNS answers for them",
	async (t) => {
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

test.serial(
	"what a host had that is removed for good is given back",
	async (t) => {
		const leads = await leader();
		const gone = lab.hosts.find((host) => host !== leads) as Host;
		const living = await command(leads, "host", "rm", "--force", gone.name);
		t.regex(living.stderr, new RegExp(`host ${gone.name} lives`));
		const rest = lab.hosts.filter((host) => host !== gone);
		const left = await addresses(rest, "abc");
		await gone.crash();
		await until(t, rest, "abc", left);
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
