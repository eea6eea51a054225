import test from "ava";
import { compose1, compose2, docker } from "../lab/clients.ts";
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

/** The hosts that have a volume. */
async function homesOf(volume: string): Promise<string[]> {
	const found = await Promise.all(
		cluster.hosts.map(async (host) => {
			const { code } = await docker(host, ["volume", "inspect", volume]);
			return code === 0 ? [host.name] : [];
		}),
	);
	return found.flat();
}

test.serial(
	"a named volume is on the host of its first container, and later ones follow",
	async (t) => {
		const first = await cluster.place(
			"v1",
			"-v",
			"data:/d",
			"-e",
			"constraint:node!=h1",
		);
		t.not(first, "h1");
		for (const i of [1, 2, 3])
			t.is(await cluster.placeAt(i, `v2${i}`, "-v", "data:/d"), first);
		const mount = "type=volume,source=data,target=/d";
		t.is(await cluster.place("v3", "--mount", mount), first);
		t.regex(
			await cluster.place("v4", "-v", "data:/d", "-e", "constraint:node==h1"),
			/h1: volume data is on h[23]; /,
		);
		await cluster.removeAll(t, "v[0-9]");
		t.is(await cluster.placeAt(1, "v5", "-v", "data:/d"), first); // its data are there still
		t.deepEqual(await homesOf("data"), [first]);
		const { stdout } = await cluster.at(
			1,
			"volume",
			"inspect",
			"-f",
			"{{.Name}}",
			"data",
		);
		t.is(stdout.trim(), "data");
		t.is(
			(await cluster.at(1, "volume", "ls", "-q", "-f", "name=data")).stdout,
			"data\n",
		);
		await cluster.removeAll(t, "v[0-9]");
		t.is((await cluster.at(2, "volume", "rm", "data")).code, 0);
		t.is(
			await cluster.place("v6", "-v", "data:/d", "-e", "constraint:node==h1"),
			"h1",
		);
		await cluster.removeAll(t, "v[0-9]");
		await cluster.at(1, "volume", "rm", "data");
	},
);

test.serial(
	"containers that want one new volume at the same moment all get that one",
	async (t) => {
		const answers = await Promise.all(
			Array.from({ length: 6 }, (_, i) =>
				cluster.create(i, `same${i}`, {
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
		await cluster.removeAll(t, "same");
		await cluster.at(1, "volume", "rm", "fresh");
	},
);

test.serial("a volume that a host has already is found there", async (t) => {
	const [, , third] = cluster.hosts;
	await docker(third, ["volume", "create", "old"]);
	t.is(await cluster.place("o1", "-v", "old:/d"), "h3");
	await cluster.removeAll(t, "o1");
	await cluster.at(1, "volume", "rm", "old");
});

test.serial(
	"a volume that was only made and then filled past arpanet is where its data are",
	async (t) => {
		const [first] = cluster.hosts;
		await cluster.at(1, "volume", "create", "seed");
		await docker(first, [
			...["run", "--rm", "-v", "seed:/d", "busybox"],
			...["touch", "/d/dump.sql"],
		]);
		t.regex(
			await cluster.place("f1", "-v", "seed:/d", "-e", "constraint:node!=h1"),
			/: volume seed is on h1/,
		);
		t.is(await cluster.place("f1", "-v", "seed:/d"), "h1");
		t.deepEqual(await homesOf("seed"), ["h1"]);
		await cluster.removeAll(t, "f1");
		await cluster.at(1, "volume", "rm", "seed");
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
			compose2(cluster.gateways[0], ["-f", "-", "-p", "vol", ...args], {
				input: file,
			});
		const up = await compose("up", "-d");
		t.is(up.code, 0, up.stderr);
		t.is(await cluster.hostOf("vol-db-1"), "h2");
		const homes = await eventually(
			() => homesOf("vol_data"),
			(all) => all.length === 1,
			30,
		);
		t.deepEqual(homes, ["h2"]);
		const { stdout } = await cluster.at(
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

for (const [name, compose] of Object.entries({ compose1, compose2 })) {
	test.serial(
		`services share a volume, and the last has a bind mount beside it: the file comes up as on one engine (${name})`,
		async (t) => {
			const file = [
				"version: '2.4'",
				"services:",
				"  app:",
				"    image: busybox",
				"    command: sh -c 'echo made by app > /srv/index.html; sleep 100'",
				"    volumes: ['html:/srv']",
				"  proxy:",
				"    image: busybox",
				"    depends_on: [app]",
				"    command: sleep 100",
				"    volumes: ['html:/www:ro', '/srv:/host:ro']",
				"volumes: {html: {}}",
			].join("\n");
			const [, gateway] = cluster.gateways;
			for (const i of [1, 2, 3]) {
				const there = ["-e", "constraint:node==h2"]; // the other hosts have less to do
				t.is(await cluster.place(`busy${i}`, ...there), "h2");
			}
			const run = (...args: string[]) =>
				compose(gateway, ["-f", "-", "-p", "shares", ...args], { input: file });
			const up = await run("up", "-d");
			t.is(up.code, 0, up.stderr);
			const read = await eventually(
				() => run("exec", "-T", "proxy", "cat", "/www/index.html"),
				({ code }) => code === 0,
				10,
			);
			t.is(read.stdout, "made by app\n");
			t.deepEqual(await homesOf("shares_html"), ["h2"]);
			const down = await run("down", "-v", "-t", "1");
			t.is(down.code, 0, down.stderr);
			t.deepEqual(await homesOf("shares_html"), []);
			await cluster.removeAll(t, "busy");
		},
	);
}

test.serial("all of it goes again, and nothing is left on record", (t) =>
	cluster.nothingIsLeft(t),
);
