import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { findBinary, type Result } from "../../examples/images/tools.ts";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { gateways, refusals } from "./checker/gateways.ts";
import { judge } from "./checker/judge.ts";
import { type Container, look, type Picture } from "./checker/look.ts";
import { lookups } from "./checker/lookups.ts";
import { packets } from "./checker/packets.ts";
import { Traffic } from "./checker/traffic.ts";
import { fuzz } from "./fuzz.ts";
import { round } from "./rounds.ts";
import { LINK, SERVICES, Stage, WITNESS } from "./stage.ts";

let stage: Stage;

test.before(async () => {
	stage = await Stage.start();
});
test.after.always(() => stage?.lab.stop());

test.serial("a round of faults leaves nothing wrong", async (t) => {
	const { violations, faults, answered } = await round(stage, 2);
	t.log(faults.join(", "));
	t.true(answered > 0);
	t.deepEqual(violations, [], "npm run chaos -- --seed 2 --rounds 1");
});

/** Ways to break what must hold, with nobody there to put it right, and what the checker has to say. */
const MUTATIONS: [
	title: string,
	breaks: (picture: Picture) => Promise<unknown>,
	says: RegExp,
][] = [
	[
		"a host lets a deployment ask for another's names",
		() => firewall(stage.hosts[1] as Host, "-F ARPANET-DNS"),
		/^4: web.xyz.service.consul is 10.+ in abc_\w+ \(h2\), and should be $/m,
	],
	[
		"one deployment reaches another within one host alone",
		() => firewall(stage.hosts[1] as Host, "-I FORWARD -j ACCEPT"),
		/^4: abc_\w+ \(h2\) reaches xyz_\w+ \(h2\)$/m,
	],
	[
		"one host is not in the overlay of one network",
		(picture) => cutOff(stage.hosts[2] as Host, "xyz", picture),
		/^4: xyz_web_\d \(h3\) cannot reach xyz_web_\d \(h1\)$/m,
	],
	[
		"hosts do not reach each other's containers",
		() => cutOverlay(),
		/^4: abc_web_\d \(h\d\) cannot reach abc_\w+_\d/m,
	],
	[
		"containers on one host have no DNS",
		() =>
			firewall(
				stage.hosts[2] as Host,
				"-I INPUT -s 10.32.0.0/12 -p udp --dport 53 -j REJECT",
			),
		/^3: web is {2}in abc_\w+ \(h3\), and should be 10/m,
	],
	[
		"a lease is lost",
		(picture) => remove(`kv/arpanet/leases/abc/${of(picture, "abc").address}`),
		/^2: abc_web_\d lives, its lease is undefined$/m,
	],
	[
		"a lease is left over",
		() => put("kv/arpanet/leases/abc/10.32.0.222", { container: "abc_gone_1" }),
		/^2: arpanet\/leases\/abc\/10.32.0.222 belongs to abc_gone_1/m,
	],
	[
		"a record is lost",
		(picture) => remove(`kv/arpanet/containers/${of(picture, "abc").name}`),
		/^2: abc_web_\d lives and is not on record$/m,
	],
	[
		"a record is left over",
		() => put("kv/arpanet/containers/abc_gone_1", { facts: {}, holds: [] }),
		/^2: arpanet\/containers\/abc_gone_1 belongs to abc_gone_1, which/m,
	],
	[
		"a subnet's grant is lost",
		() => remove("kv/arpanet/subnets/?recurse"),
		/^2: xyz has no arpanet\/subnets\//m,
	],
	[
		"a subnet is left over",
		() => put("kv/arpanet/subnets/10.47.0.0-24", "nowhere"),
		/^2: arpanet\/subnets\/10.47.0.0-24 belongs to nowhere/m,
	],
	[
		"two networks have one VNI",
		async ({ keys }) => {
			const vniOf = (scope: string) =>
				keys.get(`arpanet/networks/${scope}`) as { vni: number };
			const both = { ...vniOf("xyz"), vni: vniOf("abc").vni };
			await put("kv/arpanet/networks/xyz", both);
		},
		/^2: abc and xyz both have VNI \d+$/m,
	],
	[
		"a host's place in a network is lost",
		() => remove("kv/arpanet/gateways/abc/h2"),
		/^2: the bridge of abc on h2 is 10.+, on record is undefined$/m,
	],
	[
		"what a request wrote down is left over",
		() => put("kv/arpanet/moves/abc_web_1", { from: "h1", to: "h2" }),
		/^2: arpanet\/moves\/abc_web_1 belongs to abc_web_1, which is not/m,
	],
	[
		"a key is of no kind that anybody takes away",
		() => put("kv/arpanet/litter/abc_web_1", {}),
		/^2: arpanet\/litter\/abc_web_1 is of no kind that there is$/m,
	],
	[
		"a copy is in DNS and does not run",
		(picture) => {
			const { id } = of(picture, "abc");
			return docker(hostOf(of(picture, "abc")), ["kill", id]);
		},
		/^3: web.abc is .* on h1, and should be /m,
	],
	[
		"a copy runs and is not in DNS",
		(picture) =>
			put("catalog/deregister", {
				Node: `arpanet-${of(picture, "xyz").host}`,
			}),
		/^3: the catalog has .* for web.xyz, not /m,
	],
	[
		"a name leads to another deployment",
		(picture) =>
			put("catalog/register", {
				Node: "arpanet-h9",
				Address: "10.0.0.9",
				Service: {
					ID: "stranger",
					Service: "xyz",
					Tags: ["web"],
					Address: of(picture, "abc").address,
				},
			}),
		/^4: web.xyz leads to abc_web_\d$/m,
	],
	[
		"two containers have one name, and one address",
		(picture) => double(of(picture, "abc")),
		/^1: abc_web_\d on h\d and abc_web_\d on h\d both have abc 10.*^5: there are two abc_web_\d/ms,
	],
];

test.serial(
	"whatever is asked has an answer, and nobody falls over it",
	async (t) => {
		const before = stage.members.map(({ arpanet }) => arpanet.process);
		await fuzz(stage, 1, 8_000); // what is asked has passed before: a suite is no lottery
		t.deepEqual(
			before.filter(
				({ exitCode, signalCode }) => exitCode !== null || signalCode !== null,
			),
			[],
		);
		for (const host of stage.hosts) {
			const gateway = `tcp://${host.address}:2375`;
			const { stdout } = await docker(gateway, [
				"version",
				"-f",
				"{{.Server.Os}}",
			]);
			t.is(stdout, "linux\n");
			const { stdout: made } = await docker(host, [
				...["ps", "-aq", "--filter", "status=created"],
			]);
			const ids = made.split("\n").filter(Boolean);
			if (ids.length > 0) await docker(gateway, ["rm", "-f", ...ids]);
			// no bridge of a deployment whose containers are all stopped there
			for (const made of [
				"label!=arpanet.network",
				"label=arpanet.network=fuzz",
			]) {
				await docker(host, ["network", "prune", "-f", "--filter", made]);
			}
		}
	},
);

test.serial("the checker catches what shows only while it lasts", async (t) => {
	t.deepEqual((await stage.settle()).violations, []);
	const [, other] = stage.hosts as [Host, Host];
	const picture = await look(stage.hosts, SERVICES);

	// clients of its gateway meet the engine itself
	const past = ["--dport", "2375", "-j", "REDIRECT", "--to-ports", "2377"];
	const rule = (verb: string) => [verb, "PREROUTING", "-p", "tcp", ...past];
	const forward = (verb: string) =>
		other.exec(findBinary("iptables"), ["-w", "-t", "nat", ...rule(verb)]);
	await forward("-A");
	t.teardown(() => forward("-D"));
	const shown = (await gateways(stage.hosts, picture)).join("\n");
	const answered = await refusals([other]);
	await forward("-D");
	await docker(other, ["rm", "-f", "refused_web_h2"]);
	t.regex(shown, /^6: the gateway of h2 shows abc_witness_1 as missing/m);
	t.regex(shown, /^6: the gateway of h2 shows abc_default as \w+, it is \w+/m);
	t.regex(answered.join("\n"), /^8: without Consul, h2 answers 201 after/m);

	const storm = await Traffic.watch(stage.hosts, picture, WITNESS);
	await Promise.all([1, 2, 3, 4].map(() => flood(picture)));
	const flooded = (await storm.end()).join("\n");
	t.regex(flooded, /^4: abc_witness_2 \(h2\) got \d+ packets in \d+ s$/m);

	const traffic = await Traffic.watch(stage.hosts, picture, WITNESS);
	await cutOverlay();
	await sleep(1_000);
	const lost = (await traffic.end()).join("\n");
	t.regex(lost, /^7: abc_witness_\d \(h\d\) lost packets [\d,]+ of \d+ to /m);
});

test.serial("the checker catches what is broken on purpose", async (t) => {
	for (const deployment of ["abc", "xyz"]) {
		for (let i = 1; i <= 3; i++) {
			const name = `${deployment}_web_${i}`;
			const gateway = `tcp://${stage.hosts[i % 3]?.address}:2375`;
			await docker(gateway, ["rm", "-f", name]);
			const linked = deployment === LINK.deployment;
			const { code, stderr } = await docker(gateway, [
				...["run", "-d", "--init", "--name", name],
				...(linked ? ["--link", LINK.link] : []),
				...["-l", `arpanet.deployment=${deployment}`],
				...["-l", "arpanet.service=web", "busybox", "sleep", "9999"],
			]);
			t.is(code, 0, stderr);
		}
	}
	t.deepEqual((await stage.settle()).violations, []);
	await Promise.all(
		stage.members.map(({ arpanet }) => arpanet.stop("SIGKILL")),
	);
	for (const [title, breaks, says] of MUTATIONS) {
		const picture = await look(stage.hosts, SERVICES);
		const before = await said(picture);
		t.notRegex(before, says, title);
		await breaks(picture);
		t.regex(await said(await look(stage.hosts, SERVICES)), says, title);
	}
});

/** As many packets for one witness as a loop would bring. */
async function flood({ containers }: Picture): Promise<void> {
	const to = containers.find(({ name }) => name === "abc_witness_2");
	await docker(stage.hosts[0] as Host, [
		...["exec", "abc_witness_1", "ping", "-A", "-q", "-w", "2"],
		to?.address ?? "",
	]);
}

/** Takes the overlay from every host. */
async function cutOverlay(): Promise<void> {
	for (const host of stage.hosts) {
		const { stdout } = await host.exec("ip", [
			..."-br link show type vxlan".split(" "),
		]);
		for (const line of stdout.split("\n").filter(Boolean)) {
			const [link = ""] = line.split(/[\s@]/);
			await host.exec("ip", ["link", "del", link]);
		}
	}
}

/** Takes one network's overlay from one host. */
async function cutOff(
	host: Host,
	scope: string,
	{ keys }: Picture,
): Promise<void> {
	const { vni } = keys.get(`arpanet/networks/${scope}`) as { vni: number };
	const { stdout } = await host.exec("ip", [
		..."-d -o link show type vxlan".split(" "),
	]);
	const line = stdout.split("\n").find((each) => each.includes(` id ${vni} `));
	const [, link = ""] = /^\d+: ([^:@]+)/.exec(line ?? "") ?? [];
	await host.exec("ip", ["link", "del", link]);
}

async function firewall(host: Host, command: string): Promise<void> {
	await host.exec(findBinary("iptables"), ["-w", ...command.split(" ")]);
}

async function said(picture: Picture): Promise<string> {
	const found = judge(picture);
	if (found.length > 0) return found.join("\n");
	const more = await Promise.all([
		lookups(stage.hosts, picture, LINK),
		packets(stage.hosts, picture),
	]);
	return more.flat().join("\n");
}

/** A container of a deployment that runs. */
function of({ containers }: Picture, deployment: string): Container {
	return containers.find(
		(each) =>
			each.deployment === deployment && each.service === "web" && each.running,
	) as Container;
}

function hostOf({ host }: Container): Host {
	return stage.hosts.find(({ name }) => name === host) as Host;
}

/** A second container like one that there is, on another host. */
function double({
	name,
	host,
	address,
	deployment,
}: Container): Promise<Result> {
	const other = stage.hosts.find((each) => each.name !== host) as Host;
	return docker(other, [
		...["run", "-d", "--name", name, "--network", `${deployment}_default`],
		...["--ip", address, "-l", `arpanet.address=${address}`],
		...["-l", `arpanet.deployment=${deployment}`, "-l", "arpanet.service=web"],
		...["busybox", "sleep", "9999"],
	]);
}

async function put(path: string, body: unknown): Promise<void> {
	const [host] = stage.hosts as [Host];
	await fetch(`${host.consul}/v1/${path}`, {
		method: "PUT",
		body: JSON.stringify(body),
	});
}

async function remove(path: string): Promise<void> {
	const [host] = stage.hosts as [Host];
	await fetch(`${host.consul}/v1/${path}`, { method: "DELETE" });
}
