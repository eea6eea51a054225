import { once } from "node:events";
import { mkdir, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import test from "ava";
import { Engine } from "../../pipeline/engine.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { docker } from "../lab/clients.ts";
import { showComplaints } from "./complaints.ts";
import { Cluster, filters, put } from "./open-cluster.ts";
import { until } from "./stage.ts";

let cluster: Cluster;

test.before(async () => {
	cluster = await Cluster.start();
	const [, h2, h3] = cluster.hosts;
	await put(h3, "a3");
	await put(h2, "b2");
});
test.after.always(() => cluster?.stop());
showComplaints(() => cluster?.gateways ?? []);

test.serial(
	"an image's name means on every host what it was last given to mean, on whatever host that was",
	async (t) => {
		const [h1, , h3] = cluster.hosts;
		/** The image that a container of that name gets on a host, through any gateway. */
		const imageOn = async (host: string, image: string) => {
			const Env = [`constraint:node==${host}`];
			const path = "/containers/create?name=asks";
			const made = await cluster.api("POST", path, { Image: image, Env });
			t.is(made.status, 201, made.body.message);
			const { body } = await cluster.api("GET", "/containers/asks/json");
			t.is(body.Node.Name, host);
			t.is((await cluster.api("DELETE", "/containers/asks")).status, 204);
			return body.Image;
		};
		await docker(h3, ["tag", "busybox", "only:h3"]);
		const { stdout: id } = await docker(h1, [
			...["inspect", "-f", "{{.Id}}", "busybox"],
		]);
		t.is(await imageOn("h1", "only:h3"), id.trim());
		for (const maker of ["b2", "a3", "b2"]) {
			const query = `container=${maker}&repo=again&tag=1`;
			const made = await cluster.api("POST", `/commit?${query}`);
			for (const host of ["h1", "h2", "h3"]) {
				t.is(await imageOn(host, "again:1"), made.body.Id, host);
			}
		}
		const create = { Image: "nowhere", Cmd: ["true"] };
		const missing = await cluster.api(
			"POST",
			"/containers/create?name=none",
			create,
		);
		t.deepEqual(missing, {
			status: 404,
			body: { message: "No such image: nowhere:latest" },
		});
		t.deepEqual(
			await cluster.names(`all=1&${filters({ name: ["none"] })}`),
			[],
		);
		for (const host of cluster.hosts)
			await docker(host, ["tag", "again:1", "twice:1"]);
		const twice = await cluster.api("GET", "/images/again:1/json");
		const refused = await cluster.api("DELETE", `/images/${twice.body.Id}`);
		t.is(refused.status, 409);
		t.regex(refused.body.message, /referenced in multiple repositories/);
		await cluster.cli("rmi", "only:h3", "again:1", "twice:1");
	},
);

test.serial(
	"a copy of an image that its engine cannot take in is an error, though the answer began with 200",
	async (t) => {
		const source = createServer((_, answer) => {
			answer.end("this is no image");
		}).listen(0, "127.0.0.1");
		await once(source, "listening");
		const { port } = source.address() as AddressInfo;
		const [to, from] = [
			new Engine(`unix://${cluster.hosts[0].socketPath}`),
			new Engine(`tcp://127.0.0.1:${port}`),
		];
		t.teardown(async () => {
			await Promise.all([to.close(), from.close()]);
			source.close();
		});
		await t.throwsAsync(to.copyImage("any", from), { message: /\S/ });
	},
);

test.serial(
	"an image is one everywhere: made of a container, run elsewhere, removed from all hosts or none",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		await cluster.cli("exec", "b2", "touch", "/made");
		await cluster.cli("commit", "b2", "made:1");
		t.is(await cluster.cli("run", "--rm", "made:1", "ls", "/made"), "/made");
		await cluster.cli("tag", "made:1", "made:2");
		const context = join(h1.dataDir, "context");
		await mkdir(context);
		const build = async (
			tag: string,
			dockerfile: string,
			...args: string[]
		) => {
			await writeFile(join(context, "Dockerfile"), dockerfile);
			const gateway = cluster.next();
			// newer engines ask for BuildKit, which has no network of a container
			const env = { DOCKER_BUILDKIT: "0" };
			const built = ["build", "-t", tag, ...args, context];
			const { code, stderr } = await docker(gateway, built, { env });
			if (code !== 0) throw new Error(stderr);
		};
		await build("made:of", "FROM made:2\nRUN ls /made\n");
		const network = ["--network", "container:b2"]; // where b2 is
		await build("made:there", "FROM busybox\nRUN touch /there\n", ...network);
		await build("made:of", "FROM made:there\nRUN ls /there\n");
		await cluster.cli("rmi", "made:there");
		await cluster.cli("rmi", "made:of");
		t.regex(
			await cluster.cli("images", "--format", "{{.Tag}}", "made"),
			/^[12]\n[12]$/,
		);
		await cluster.cli("exec", "b2", "touch", "/again");
		await cluster.cli("commit", "b2", "made:1");
		t.is(await cluster.cli("run", "--rm", "made:1", "ls", "/again"), "/again");
		const saved = await docker(cluster.gateways[0], [
			"save",
			"made:1",
			"made:2",
			"-o",
			`${h1.dataDir}/made.tar`,
		]);
		t.is(saved.code, 0, saved.stderr);
		await docker(h3, ["tag", "busybox", "made:3"]);
		await docker(h1, ["tag", "busybox", "made:3"]);
		await docker(h3, [
			"run",
			"-d",
			"--name",
			"user",
			"made:3",
			"sleep",
			"1000",
		]);
		for (const host of cluster.hosts) await docker(host, ["rmi", "busybox"]);
		const refused = await cluster.api("DELETE", "/images/made:3");
		t.is(refused.status, 409);
		t.regex(
			refused.body.message,
			/conflict: unable to (remove repository reference "made:3"|delete made:3)/,
		);
		t.is(
			(await docker(h1, ["images", "-q", "made:3"])).stdout.trim().length,
			12,
		);
		await cluster.cli("rm", "-f", "user");
		await cluster.cli("rmi", "made:1", "made:2");
		for (const host of cluster.hosts) {
			t.is((await docker(host, ["images", "-q", "made:1"])).stdout, "");
		}
		await docker(h1, ["tag", "made:3", "busybox"]);
		t.is((await docker(h2, ["images", "-q", "made"])).stdout, "");
	},
);

test.serial(
	"a name that is given to an older image means that one",
	async (t) => {
		const tar = (age: string) => `${cluster.hosts[0]?.dataDir}/${age}.tar`;
		await cluster.cli("commit", "b2", "aged:1");
		await cluster.cli("save", "aged:1", "-o", tar("older"));
		await cluster.cli("exec", "b2", "touch", "/newer");
		await cluster.cli("commit", "b2", "aged:1");
		await cluster.cli("save", "aged:1", "-o", tar("newer"));
		await cluster.cli("load", "-i", tar("newer"));
		const see = () =>
			cluster.cli("run", "--rm", "aged:1", "find", "/newer").catch(messageOf);
		t.is(await see(), "/newer");
		await cluster.cli("load", "-i", tar("older"));
		const isOlder = (seen: string) => /No such file/.test(seen);
		await until(see, isOlder);
		for (const _ of cluster.gateways) t.true(isOlder(await see()));
		await cluster.cli("rmi", "-f", "aged:1");
	},
);
