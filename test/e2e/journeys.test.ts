import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { findBinary } from "../../examples/images/tools.ts";
import { compose2, docker } from "../lab/clients.ts";
import { type LabCluster, startCluster } from "../lab/cluster.ts";
import type { Host } from "../lab/lab.ts";
import { within } from "./stage.ts";

// What Compose files say beside services and ports, over three hosts, by gateways in turn.

let lab: LabCluster;
let turn = 0;

test.before(async () => {
	lab = await startCluster({ hosts: 3 });
});
test.after.always(() => lab?.stop());

/** Any gateway's `DOCKER_HOST`, in turn. */
function any(): string {
	return lab.gateways[turn++ % lab.gateways.length]?.docker ?? "";
}

async function ask(
	t: ExecutionContext,
	target: string,
	...args: string[]
): Promise<string> {
	const env = lab.certificates.client;
	const { code, stdout, stderr } = await docker(target, args, { env });
	t.is(code, 0, `docker ${args.join(" ")}\n${stderr}${stdout}`);
	return stdout.trim();
}

/** Runs Compose over a file of that content, through any gateway unless told. */
async function compose(
	t: ExecutionContext,
	project: string,
	content: string,
	args: readonly string[],
	target = any(),
): Promise<void> {
	const [{ dataDir }] = lab.hosts as [Host];
	const file = join(dataDir, `${project}.yaml`);
	await writeFile(file, content);
	const env = lab.certificates.client;
	const all = ["-f", file, "-p", project, ...args];
	const { code, stdout, stderr } = await compose2(target, all, { env });
	t.is(code, 0, `docker compose ${args.join(" ")}\n${stderr}${stdout}`);
}

/** The host of a container. */
function hostOf(t: ExecutionContext, name: string): Promise<string> {
	return ask(t, any(), "inspect", "-f", "{{.Node.Name}}", name);
}

test.serial(
	"a stack is made anew where it is: namespaces that are shared, volumes, folders of one host",
	async (t) => {
		const [first] = lab.hosts as [Host];
		const folder = join(first.dataDir, "folder");
		await mkdir(folder);
		const file = (version: number) => `
services:
  vpn: {image: busybox, command: sleep 9999, init: true, environment: [V=${version}]}
  app:
    {image: busybox, command: sleep 9999, init: true, network_mode: "service:vpn", volumes: ["scratch:/data"]}
  db: {image: busybox, command: sleep 9999, init: true, volumes: ["folder:/data"]}
volumes:
  scratch: {}
  folder: {driver_opts: {type: none, o: bind, device: ${folder}}}
`;
		await compose(t, "anew", file(1), ["up", "-d"], lab.gateways[0]?.docker);
		const before = await hostOf(t, "anew-vpn-1");
		t.is(await hostOf(t, "anew-app-1"), before);
		t.is(await hostOf(t, "anew-db-1"), first.name);
		await ask(t, any(), "exec", "anew-app-1", "touch", "/data/kept");

		for (const args of [
			["up", "-d"],
			["up", "-d", "--force-recreate"],
		]) {
			await compose(t, "anew", file(2), args);
			t.is(await hostOf(t, "anew-vpn-1"), before);
			t.is(await hostOf(t, "anew-app-1"), before);
			await ask(t, any(), "exec", "anew-app-1", "ls", "/data/kept");
		}
		await compose(t, "anew", file(2), ["down", "-v"]);
	},
);

test.serial("a hostname is a name on every host", async (t) => {
	const file = `
services:
  mq: {image: busybox, command: sleep 9999, init: true, hostname: rabbit1}
  web: {image: busybox, command: sleep 9999, init: true, deploy: {replicas: 3}}
`;
	await compose(t, "named", file, ["up", "-d"]);
	const format = "{{.NetworkSettings.Networks.named_default.IPAddress}}";
	const address = (of: string) =>
		ask(t, any(), "inspect", "-f", format, `named-${of}`);
	const hosts = new Set<string>();
	for (const i of [1, 2, 3]) {
		const web = `named-web-${i}`;
		hosts.add(await hostOf(t, web));
		// without one it is the start of its id, which many programs tell each other
		const other = `web-${(i % 3) + 1}`;
		const given = await ask(t, any(), "exec", `named-${other}`, "hostname");
		for (const [name, of] of [
			["rabbit1", "mq-1"],
			[given.trim(), other],
		] as const) {
			const answer = await ask(t, any(), "exec", web, "nslookup", name);
			t.true(answer.includes((await address(of)).trim()), answer);
		}
	}
	t.is(hosts.size, 3);
	await compose(t, "named", file, ["down"]);
});

test.serial(
	"an image that is pinned by its digest runs on every host",
	async (t) => {
		const [first] = lab.hosts as [Host];
		const { address, dataDir } = first;
		const registry = `${address}:5000`;
		const config = join(dataDir, "registry.yml");
		await writeFile(
			config,
			`version: 0.1
storage: {filesystem: {rootdirectory: ${join(dataDir, "registry")}}}
http: {addr: "${registry}"}
`,
		);
		first.spawn(findBinary("docker-registry"), ["serve", config], {
			stdio: "ignore",
		});
		await within(20, () => fetch(`http://${registry}/v2/`));
		const tag = `${registry}/pinned:1`;
		await ask(t, any(), "tag", "busybox", tag);
		const pushed = await ask(t, any(), "push", tag);
		const [digest] = /sha256:[0-9a-f]{64}/.exec(pushed) ?? [""];
		await ask(t, any(), "rmi", tag);

		const file = `
services:
  web: {image: "${registry}/pinned@${digest}", command: sleep 9999, init: true, deploy: {replicas: 3}}
`;
		await compose(t, "pinned", file, ["up", "-d"]);
		const names = [1, 2, 3].map((i) => `pinned-web-${i}`);
		const hosts = await Promise.all(names.map((name) => hostOf(t, name)));
		t.is(new Set(hosts).size, 3);
		const ids = () =>
			ask(t, any(), "ps", "-q", "--no-trunc", "--filter", "name=pinned");
		const before = (await ids()).split("\n").sort();
		t.is(before.length, 3);
		await compose(t, "pinned", file, ["up", "-d"]);
		t.deepEqual(
			(await ids()).split("\n").sort(),
			before,
			"nothing is made anew",
		);
		await compose(t, "pinned", file, ["down"]);
	},
);
