import { randomBytes } from "node:crypto";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { runOk } from "../../examples/images/tools.ts";
import { type ClientOptions, docker } from "../lab/clients.ts";
import { type Fronted, startFronted } from "./engine-helpers.ts";
import { ask, Client, eventually, parts } from "./helpers.ts";

// What a stock client sees through the gateway is what it sees from the engine itself.

let it: Fronted;
let port: number;
const cli = (args: string[], options?: ClientOptions) => it.cli(args, options);

test.before(async () => {
	it = await startFronted();
	port = it.port;
});

test.after.always(() => it?.stop());

const requests = [
	"GET /_ping",
	"HEAD /_ping",
	"OPTIONS /_ping",
	"GET /version",
	"GET /v1.41/version",
	"GET /v1.99/version",
	"GET /v1.41/containers/json?all=1&limit=-1",
	'GET /v1.24/containers/json?filters={"label":["a=b"]}',
	"GET /v1.41/containers/sleeper/json",
	"GET /v1.41/containers/nobody/json",
	"GET /v1.41/images/busybox:latest/json",
	"GET /images/host//name/json",
	"GET /v1.41/images/a%20b/json",
	"HEAD /v1.41/containers/sleeper/archive?path=/bin",
	"HEAD /v1.41/containers/sleeper/archive?path=/none",
	"GET /v1.41/containers/sleeper/archive?path=/etc",
	"GET /v1.41/containers/sleeper/logs?stdout=1",
	"GET /v1.41/networks/bridge",
	"GET /v1.41/volumes",
	"GET /v1.41/swarm",
	"GET /v1.41/events?since=1&until=2",
	"POST /v1.41/containers/sleeper/start",
	"POST /v1.41/containers/nobody/start",
	"POST /v1.41/containers/create",
	"DELETE /v1.41/containers/nobody",
	"PATCH /nothing",
	"GET /v1.41/containers/json?all=%zz",
];

for (const request of requests) {
	test.serial(`to the byte: ${request}`, async (t) => {
		const text = `${request} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n`;
		const said = async (where: string | number) =>
			(await ask(where, text)).replace(/^Date: .*$/m, "");
		let direct = "";
		let answers: string[] = [];
		let again: string;
		do {
			// once more where the engine itself changed its mind meanwhile ("Up 2 seconds")
			direct = await said(it.host.socketPath);
			answers = [await said(port), await said(`${it.folder}/gateway.sock`)];
			again = await said(it.host.socketPath);
		} while (again !== direct);
		t.regex(direct, /^HTTP\/1\.1 \d/);
		t.deepEqual(answers, [direct, direct]);
	});
}

test("docker-py loses nothing of streams that begin at once", async (t) => {
	const script = `
import docker
sleeper = docker.DockerClient(base_url="${it.through}").containers.get("sleeper")
print([sleeper.exec_run("echo hi").output for _ in range(10)] == [b"hi\\n"] * 10)`;
	const said = () => runOk("/usr/bin/python3", ["-c", script]);
	// a client that gets no processor for longer than the gateway waits may lose some, as at the engine itself
	await t.notThrowsAsync(eventually(async () => (await said()) === "True\n"));
});

test("docker run -i, fed by a pipe that ends", async (t) => {
	const input = randomBytes(400_000).toString("base64");
	t.is(await cli(["run", "--rm", "-i", "busybox", "cat"], { input }), input);
});

test("docker run without input, and its exit code", async (t) => {
	const { code, stdout, stderr } = await docker(it.through, [
		"run",
		"--rm",
		"busybox",
		"sh",
		"-c",
		"echo out; echo err >&2; exit 7",
	]);
	t.deepEqual([code, stdout, stderr], [7, "out\n", "err\n"]);
});

test("docker exec -i, fed by a pipe, and detached", async (t) => {
	const input = "x".repeat(1_000_000);
	t.is(
		await cli(["exec", "-i", "sleeper", "wc", "-c"], { input }),
		"1000000\n",
	);
	t.is(await cli(["exec", "-d", "sleeper", "true"]), "");
});

test("docker attach reads what the container writes until it ends", async (t) => {
	await cli([
		"create",
		"--name",
		"writer",
		"-i",
		"busybox",
		"sh",
		"-c",
		"read go; for i in 1 2 3; do echo $i; done",
	]);
	await cli(["start", "writer"]);
	t.is(await cli(["attach", "writer"], { input: "go\n" }), "1\n2\n3\n");
});

for (const upgrade of ["Connection: Upgrade\r\nUpgrade: tcp\r\n", ""]) {
	const title = upgrade ? "with" : "without";
	test(`exec start ${title} Upgrade: both ways, ended by half`, async (t) => {
		const json = async (path: string, body: string) =>
			parts(
				await ask(
					port,
					`POST ${path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
				),
			).body;
		const created = await json(
			"/v1.41/containers/sleeper/exec",
			'{"AttachStdin":true,"AttachStdout":true,"Tty":false,"Cmd":["cat"]}',
		);
		const { Id } = JSON.parse(created);
		const body = '{"Detach":false,"Tty":false}';
		const client = new Client(port).send(
			`POST /v1.41/exec/${Id}/start HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n${upgrade}Content-Length: ${body.length}\r\n\r\n${body}`,
		);
		await client.until((text) => text.includes("\r\n\r\n"));
		t.regex(
			client.received,
			upgrade ? /^HTTP\/1\.1 101 UPGRADED\r\n/ : /^HTTP\/1\.1 200 OK\r\n/,
		);
		client.send("hello");
		await client.until((text) => text.endsWith("hello"));
		client.socket.end("bye");
		t.regex(await client.end(), /bye$/);
	});
}

test("docker logs -f follows to the container's end", async (t) => {
	await cli([
		"run",
		"-d",
		"--name",
		"counter",
		"busybox",
		"sh",
		"-c",
		"for i in 1 2 3; do echo $i; sleep 0.2; done",
	]);
	t.is(await cli(["logs", "-f", "counter"]), "1\n2\n3\n");
});

test("docker cp both ways", async (t) => {
	const content = randomBytes(3_000_000);
	await writeFile(join(it.folder, "in"), content);
	await cli(["cp", join(it.folder, "in"), "sleeper:/copied"]);
	await cli(["cp", "sleeper:/copied", join(it.folder, "out")]);
	t.true((await readFile(join(it.folder, "out"))).equals(content));
});

for (const [title, DOCKER_BUILDKIT] of [
	["classic", "0"],
	["BuildKit", "1"],
] as const) {
	test(`docker build, ${title}, then save and load`, async (t) => {
		const context = join(it.folder, title);
		await mkdir(context);
		await writeFile(
			join(context, "Dockerfile"),
			"FROM busybox\nCOPY data /data\nRUN wc -c /data > /size\n",
		);
		await writeFile(join(context, "data"), randomBytes(5_000_000));
		const image = `built-${title.toLowerCase()}`;
		await cli(["build", "-q", "-t", image, context], {
			env: { DOCKER_BUILDKIT },
		});
		t.is(await cli(["run", "--rm", image, "cat", "/size"]), "5000000 /data\n");
		const tar = join(it.folder, `${title}.tar`);
		await cli(["save", "-o", tar, image]);
		await cli(["rmi", image]);
		t.regex(
			await cli(["load", "-i", tar]),
			new RegExp(`Loaded image: ${image}`),
		);
	});
}

/** Connections that the engine has open, on its socket. */
async function engineConnections(): Promise<number> {
	const open = await runOk("ss", ["-xH", "state", "connected"]);
	return open
		.split("\n")
		.filter((line) => line.includes(`${it.host.socketPath} `)).length;
}

for (const path of [
	"events",
	"containers/sleeper/logs?follow=1&stdout=1",
	"containers/sleeper/stats",
	"containers/sleeper/wait",
]) {
	test.serial(`a client that leaves ends ${path} at the engine`, async (t) => {
		const before = await engineConnections();
		const method = path.endsWith("wait") ? "POST" : "GET";
		const clients = Array.from({ length: 20 }, () =>
			new Client(port).send(
				`${method} /v1.41/${path} HTTP/1.1\r\nHost: docker\r\n\r\n`,
			),
		);
		await eventually(() =>
			clients.every(({ received }) => received.includes("\r\n\r\n")),
		);
		t.true((await engineConnections()) >= 20);
		for (const { socket } of clients) socket.end();
		await eventually(async () => (await engineConnections()) <= before);
	});
}

test.serial(
	"a client that does not read holds the engine back, and memory stays small",
	async (t) => {
		await cli([
			"run",
			"-d",
			"--name",
			"loud",
			"busybox",
			"sh",
			"-c",
			"yes $(seq 1 100) | head -c 200000000 >/big; sleep 1000",
		]);
		const written =
			'until [ "$(stat -c %s /big)" = 200000000 ]; do sleep 0.1; done';
		await cli(["exec", "loud", "sh", "-c", written]);
		// what is the thread's own: other tests are in the same process
		const buffered = () => process.memoryUsage().arrayBuffers;
		const before = buffered();
		const client = new Client(port);
		client.socket.pause();
		client.send(
			"GET /v1.41/containers/loud/archive?path=/big HTTP/1.1\r\nHost: docker\r\n\r\n",
		);
		await sleep(2_000);
		const grown = buffered() - before;
		t.true(grown < 60e6, `${grown} bytes`);
		t.true(client.socket.bytesRead < 20e6);
		client.socket.resume();
		await eventually(() => client.received.startsWith("HTTP/1.1 200 OK"));
		client.socket.destroy();
		await cli(["rm", "-f", "loud"]);
	},
);

test.serial(
	"the engine restarts, and clients with open connections go on",
	async (t) => {
		const client = new Client(port);
		const ping = async () => {
			client.received = "";
			client.send("GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n");
			return parts(
				await client.until((text) =>
					/(OK|\}\n)$/.test(text.split("\r\n\r\n")[1] ?? ""),
				),
			).status;
		};
		t.is(await ping(), 200);
		await it.host.stopEngine();
		t.is(await ping(), 502);
		await it.host.startEngine();
		t.is(await ping(), 200);
		await cli(["start", "sleeper"]);
		client.socket.destroy();
	},
);
