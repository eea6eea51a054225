import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { compose1, compose2, docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually } from "./stage.ts";
import { TlsCluster } from "./tls-cluster.ts";

let cluster: TlsCluster;

test.before(async () => {
	cluster = await TlsCluster.start();
});
showComplaints(() => cluster?.gateways ?? []);
test.after.always(async () => {
	await cluster?.stop();
});

async function project(name: string, text: string): Promise<string> {
	const [host] = cluster.hosts;
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
					cluster.any(),
					["-f", file, "-p", id, ...args],
					{ env: cluster.certificates.client, timeout: 240_000 },
				);
				t.is(code, 0, `${args.join(" ")}\n${stderr}`);
			};
			await fig("up", "-d");
			const of = (service: string) =>
				`${id}${separator}${service}${separator}1`;
			const api = await cluster.addressOf(t, of("api"), `${id}_back`);
			t.is(await cluster.addressOf(t, of("db"), `${id}_back`), `${net}.77`);

			t.deepEqual(await cluster.comesToResolve(of("web"), "api"), [api]);
			t.deepEqual(await cluster.comesToResolve(of("web"), "backend"), [api]);
			const inBack = `db.${id}-back.service.consul`;
			t.deepEqual(await cluster.comesToResolve(of("web"), inBack), [
				`${net}.77`,
			]);
			t.true(await cluster.reaches(of("web"), `${net}.77`));
			t.true(await cluster.reaches(of("db"), api));
			const front = await cluster.addressOf(t, of("web"), `${id}_front`);
			t.false(await cluster.reaches(of("api"), front), "not in front");
			t.true((await cluster.inspect(t, `${id}_vault`)).Internal);
			const db = await cluster.addressOf(t, of("db"), `${id}_vault`);
			t.is(await cluster.firstOf(of("safe"), "db"), db);
			t.true(await cluster.reaches(of("safe"), db));
			t.false(
				await cluster.reaches(of("safe"), api),
				"no way leads out of vault",
			);
			t.false(
				await cluster.reaches(of("safe"), cluster.wire),
				"nor to the wire",
			);

			await fig("down", "-t", "1");
			const left = ["network", "ls", "-q", "--filter", `name=${id}_`];
			t.is(await cluster.cli(t, ...left), "");
		},
	);
}

/** Three services that end at once, each on another host. */
const brief = `version: "3.8"
services:
${["a", "b", "c"]
	.map(
		(name, i) => `  ${name}:
    image: busybox
    command: sleep 3600
    stop_signal: KILL
    labels: ["constraint:node==h${i + 1}"]
`,
	)
	.join("")}`;

test.serial(
	"a stack that is taken down and up at once, over and over, has its network on all hosts each time",
	async (t) => {
		const file = await project("brief", brief);
		for (const compose of [compose1, compose2, compose1, compose2, compose1]) {
			for (const command of [["down"], ["up", "-d"]]) {
				const { code, stderr } = await compose(
					cluster.any(),
					["-f", file, "-p", "brief", ...command],
					{ env: cluster.certificates.client, timeout: 240_000 },
				);
				t.is(code, 0, `${command[0]}\n${stderr}`);
			}
		}
		const c = await cluster.addressOf(t, "brief_c_1", "brief_default");
		t.deepEqual(await cluster.comesToResolve("brief_a_1", "c"), [c]);
		t.true(await cluster.soonReaches("brief_a_1", c));
		await cluster.cli(t, "rm", "-f", "brief_a_1", "brief_b_1", "brief_c_1");
		await cluster.cli(t, "network", "rm", "brief_default");
	},
);

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

/** A project that calls a container of another one by a link, as Compose says to: in a network of both. */
const LINKED = `version: "2.4"
services:
  web:
    image: busybox
    command: sleep 3600
    labels: ["constraint:node==h3"]
    external_links: [left_api_1]
    networks: [front]
networks:
  front: {external: true}
`;

test.serial(
	"two projects share an external network: all in it have names for each other, and none for what is not",
	async (t) => {
		await cluster.cli(t, "network", "create", "front");
		const projects = [
			[compose1, "left", "left_api_1"],
			[compose2, "right", "right-api-1"],
		] as const;
		const fig = async (
			[compose, id]: readonly [typeof compose1, string, string],
			...args: string[]
		) => {
			const text = id === "linking" ? LINKED : sharing(id);
			const file = await project(id, text);
			const { code, stderr } = await compose(
				cluster.any(),
				["-f", file, "-p", id, ...args],
				{ env: cluster.certificates.client, timeout: 240_000 },
			);
			t.is(code, 0, `${id}: ${args.join(" ")}\n${stderr}`);
		};
		for (const each of projects) await fig(each, "up", "-d");
		const apis = await Promise.all(
			projects.map(([, , api]) => cluster.addressOf(t, api, "front")),
		);
		const [left, right] = apis as [string, string];
		const webs = await Promise.all([
			cluster.addressOf(t, "left_web_1", "front"),
			cluster.addressOf(t, "right-web-1", "front"),
		]);
		for (const [asker, name, expected] of [
			["left_web_1", "api-of-right", [right]],
			["right-web-1", "api-of-left", [left]],
			["left_api_1", "api-of-right", [right]],
			["right-api-1", "left_api_1", [left]],
			["left_web_1", "api", apis], // as Docker does with an alias of two
			[
				"left_web_1",
				"db",
				[await cluster.addressOf(t, "left_db_1", "left_default")],
			],
		] as const) {
			t.deepEqual(
				await cluster.comesToResolve(asker, name, expected.length),
				[...expected].sort(),
				`${name} in ${asker}`,
			);
		}
		const web = await cluster.addressOf(t, "left_web_1", "left_default");
		t.is(await cluster.firstOf("left_db_1", "web"), web);
		t.true(webs.includes(await cluster.firstOf("left_api_1", "web")));
		t.deepEqual(
			await cluster.resolves("left_web_1", "db.right.service.consul"),
			[],
		);
		t.true(await cluster.reaches("left_web_1", right));
		t.true(await cluster.reaches("right-api-1", left));
		const db = await cluster.addressOf(t, "right-db-1", "right_default");
		t.false(await cluster.reaches("left_web_1", db), "it is not in front");

		// a project that is made in another's own network finds what is there
		await cluster.run(
			t,
			"top_proxy_1",
			cluster.hosts[2] as Host,
			"--network",
			"left_default",
		);
		t.is(await cluster.firstOf("top_proxy_1", "web"), web);
		t.true(await cluster.reaches("top_proxy_1", web));
		t.deepEqual(
			await cluster.resolves("top_proxy_1", "db.right.service.consul"),
			[],
		);
		await cluster.cli(t, "rm", "-f", "top_proxy_1");

		const linking = [compose1, "linking", "linking_web_1"] as const;
		await fig(linking, "up", "-d");
		t.deepEqual(await cluster.comesToResolve(linking[2], "left_api_1", 1), [
			left,
		]);
		await fig(linking, "down", "-t", "1");

		const [first, second] = projects;
		await fig(first, "down", "-t", "1");
		t.deepEqual(await cluster.resolves("right-web-1", "api"), [right]);
		t.true(await cluster.reaches("right-web-1", right));
		t.not((await cluster.ask(cluster.any(), "network", "rm", "front")).code, 0);
		await fig(second, "down", "-t", "1");
		await cluster.cli(t, "network", "rm", "front");
	},
);

test.serial(
	"a network that a user makes is one network, with one id, from every gateway and on every host",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		const created = await Promise.all(
			cluster.gateways.map((gateway) =>
				cluster.ask(
					gateway,
					"network",
					"create",
					"--label",
					"team=blue",
					"shared",
				),
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

		await cluster.run(t, "abc_a_1", h1, "--network", "shared");
		await cluster.run(t, "xyz_b_1", h2, "--network", id.slice(0, 12));
		await cluster.run(t, "cee", h3, "--network", "shared"); // of no deployment
		const b = await cluster.addressOf(t, "xyz_b_1", "shared");
		t.deepEqual(await cluster.comesToResolve("abc_a_1", "b"), [b]);
		t.deepEqual(await cluster.comesToResolve("cee", "b"), [b]);
		t.true(await cluster.reaches("cee", b));
		t.true(
			await cluster.reaches(
				"abc_a_1",
				await cluster.addressOf(t, "cee", "shared"),
			),
		);
		// as testcontainers makes them
		const nameless = await cluster.cli(
			t,
			...["run", "-d", "--network", "shared", "--network-alias", "alias"],
			...["-e", `constraint:node==${h2.name}`, "busybox", "sleep", "3600"],
		);
		const there = await cluster.addressOf(t, nameless, "shared");
		const named = await cluster.cli(t, "inspect", "-f", "{{.Name}}", nameless);
		for (const name of ["alias", named.slice(1), nameless.slice(0, 12)])
			t.deepEqual(await cluster.comesToResolve("abc_a_1", name), [there], name);
		await cluster.cli(t, "network", "create", "further");
		const late = ["--alias", "late", "further", nameless];
		await cluster.cli(t, "network", "connect", ...late);
		for (const [network, alias] of [
			["shared", "alias"],
			["further", "late"],
		]) {
			const format = `{{json (index .NetworkSettings.Networks "${network}").Aliases}}`;
			const shown = await cluster.cli(t, "inspect", "-f", format, nameless);
			t.deepEqual(JSON.parse(shown), [alias, nameless.slice(0, 12)]);
		}
		await cluster.cli(t, "rm", "-f", nameless);
		await cluster.cli(t, "network", "rm", "further");

		for (const gateway of cluster.gateways) {
			const seen = await cluster.inspect(t, id.slice(0, 10), gateway);
			t.is(seen.Id, id);
			const names = Object.values(seen.Containers ?? {}).map(
				({ Name }) => Name,
			);
			t.deepEqual(names.sort(), ["abc_a_1", "cee", "xyz_b_1"]);
			const format = "{{.ID}} {{.Name}}";
			const list = async (...filters: string[]) =>
				(
					await cluster.ask(
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
			const found = await cluster.cli(t, ...listed, "{{.Names}}");
			t.is(found.split("\n").sort().join(), "abc_a_1,cee,xyz_b_1", by);
		}
		for (const name of ["abc_a_1", "xyz_b_1", "cee"]) {
			const format = '{{(index .NetworkSettings.Networks "shared").NetworkID}}';
			t.is(await cluster.cli(t, "inspect", "-f", format, name), id);
		}

		const busy = await cluster.ask(cluster.any(), "network", "rm", "shared");
		t.is(busy.code, 1);
		t.regex(busy.stderr, /network shared id [0-9a-f]{64} has active endpoints/);
		await cluster.cli(t, "rm", "-f", "abc_a_1");
		const still = await cluster.ask(cluster.any(), "network", "rm", id);
		t.regex(still.stderr, /has active endpoints/, "on the other hosts");
	},
);

test.serial(
	"a container with a fixed IPv6 address goes where its network has the range",
	async (t) => {
		const ranges = ["--subnet", "10.200.5.0/24", "--subnet", "fd00:5::/64"];
		await cluster.cli(t, "network", "create", "--ipv6", ...ranges, "six");
		const six = (address: string) => ["--network", "six", "--ip6", address];
		const waits = ["busybox", "sleep", "3600"];
		await cluster.cli(
			t,
			"run",
			"-d",
			"--name",
			"six",
			...six("fd00:5::5"),
			...waits,
		);
		const where =
			'{{(index .NetworkSettings.Networks "six").GlobalIPv6Address}}';
		t.is(await cluster.cli(t, "inspect", "-f", where, "six"), "fd00:5::5");
		const home = await cluster.cli(t, "inspect", "-f", "{{.Node.Name}}", "six");
		const other = cluster.hosts.find(({ name }) => name !== home) as Host;
		const there = ["-e", `constraint:node==${other.name}`];
		const refused = await cluster.ask(
			cluster.any(),
			...["run", "-d", ...there, ...six("fd00:5::6"), ...waits],
		);
		t.regex(
			refused.stderr,
			/fd00:5::6 is of an IPv6 range that network six has on h\d alone/,
		);
		await cluster.cli(t, "rm", "-f", "six");
		await cluster.cli(t, "network", "rm", "six");
	},
);

test.serial(
	"a network that Docker does not let anybody make leaves nothing taken",
	async (t) => {
		const subnet = ["--subnet", "10.88.0.0/24"];
		for (const name of ["bridge", "host", "none"]) {
			const refused = await cluster.ask(
				cluster.any(),
				"network",
				"create",
				...subnet,
				name,
			);
			t.regex(refused.stderr, /not permitted on predefined/);
		}
		await cluster.cli(t, "network", "create", ...subnet, "free");
		await cluster.cli(t, "network", "rm", "free");
	},
);

test.serial(
	"connect and disconnect, whatever host the container is on",
	async (t) => {
		const [, h2] = cluster.hosts;
		const since = Math.floor(Date.now() / 1000);
		const id = await cluster.cli(t, "network", "create", "second");
		await cluster.cli(
			t,
			"network",
			"connect",
			"--alias",
			"bee",
			"second",
			"xyz_b_1",
		);
		await cluster.cli(t, "network", "connect", id, "cee");
		const b = await cluster.addressOf(t, "xyz_b_1", "second");
		t.true(await cluster.reaches("cee", b));
		const bee = "bee.shared-second.service.consul";
		t.deepEqual(await cluster.comesToResolve("cee", bee), [b]);

		await cluster.cli(t, "network", "disconnect", id.slice(0, 12), "xyz_b_1");
		t.false(await cluster.reaches("cee", b));
		t.deepEqual(
			await eventually(
				() => cluster.resolves("cee", bee),
				(found) => found.length === 0,
			),
			[],
		);
		await cluster.cli(t, "network", "disconnect", "second", "cee");
		await cluster.cli(t, "network", "rm", id);
		const told = await cluster.cli(
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
		for (const host of cluster.hosts) {
			const { stdout } = await docker(host, [
				"network",
				"ls",
				"--format={{.Name}}",
			]);
			t.false(stdout.includes("second"), host.name);
		}
		t.is((await cluster.inspect(t, "shared")).Name, "shared", h2.name);
	},
);

test.serial("prune takes what no host uses, and nothing else", async (t) => {
	await cluster.cli(t, "network", "create", "--label", "old", "unused");
	for (const host of cluster.hosts) {
		await cluster.run(t, `was-${host.name}`, host, "--network", "unused");
		await cluster.cli(t, "rm", "-f", `was-${host.name}`);
	}
	const pruned = await cluster.cli(t, "network", "prune", "-f");
	t.true(pruned.includes("unused"));
	t.false(pruned.includes("shared"));
	for (const gateway of cluster.gateways) {
		const { stdout } = await cluster.ask(
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
	await cluster.cli(t, "rm", "-f", "xyz_b_1", "cee");
	await cluster.cli(t, "network", "rm", "shared");
});

test.serial(
	"a network of one engine's own is kept out of; one that comes in the way later is named",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		const own = async (host: Host, ...args: string[]) => {
			const { code, stderr } = await docker(host, ["network", ...args]);
			t.is(code, 0, stderr);
		};
		await own(h3, "create", "--subnet", "10.32.0.0/13", "wide");
		for (const [i, host] of [h1, h2, h3].entries()) {
			await cluster.run(t, `own_web_${i + 1}`, host);
		}
		const address = await cluster.addressOf(t, "own_web_3", "own_default");
		t.regex(address, /^10\.4\d\./, "beyond 10.39.255.255");
		t.true(await cluster.reaches("own_web_1", address));
		await cluster.cli(t, "rm", "-f", "own_web_3");

		await cluster.run(t, "late_web_1", h1);
		const { IPAM } = await cluster.inspect(t, "late_default");
		const subnet = IPAM?.Config?.[0]?.Subnet ?? "";
		await own(h2, "create", "--subnet", subnet, "mine");
		const refused = await cluster.ask(
			cluster.any(),
			...["run", "-d", "--name", "late_web_2"],
			...["-e", "constraint:node==h2", "busybox", "true"],
		);
		t.not(refused.code, 0);
		t.true(
			refused.stderr.includes(
				`network: host h2 cannot have late_default (${subnet}): its engine has network mine (${subnet}); `,
			),
			refused.stderr,
		);
		await own(h2, "rm", "mine");
		await own(h3, "rm", "wide");
		await cluster.run(t, "late_web_2", h2);
		const all = ["own_web_1", "own_web_2", "late_web_1", "late_web_2"];
		await cluster.cli(t, "rm", "-f", ...all);
	},
);
