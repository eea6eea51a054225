import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { runOk } from "../../examples/images/tools.ts";
import { docker, dockerCli } from "../lab/clients.ts";
import { eventually, Stage } from "./stage.ts";

let stage: Stage;

test.before(async () => {
	stage = await Stage.start();
	await cli(
		undefined,
		"run",
		"-d",
		"--name",
		"shell",
		"-l",
		"arpanet.deployment=abc",
		"busybox",
		"sleep",
		"1000",
	);
});
test.afterEach.always((t) => {
	if (!t.passed) t.log(stage?.complaints());
});
test.after.always(async () => {
	await stage?.stop();
});

/** The docker CLI through the gateway, where it must succeed; gives what it printed. */
async function cli(
	t: ExecutionContext | undefined,
	...args: string[]
): Promise<string> {
	const { code, stdout, stderr } = await docker(stage.arpanet, args);
	const said = `docker ${args.join(" ")}\n${stderr}${stdout}`;
	if (t) t.is(code, 0, said);
	else if (code !== 0) throw new Error(said);
	return stdout;
}

/** The docker CLI on a terminal, as a person has it, with what he types. */
async function typed(args: string, keys: string): Promise<string> {
	const command = `${dockerCli()} -H ${stage.arpanet.docker} ${args}`;
	const shown = await runOk("script", ["-qefc", command, "/dev/null"], {
		input: keys,
		timeout: 60_000,
	});
	return shown.replaceAll("\r", "");
}

test.serial(
	"run -it gives a shell on a terminal, and its exit code",
	async (t) => {
		const shown = await typed(
			"run -it --rm -l arpanet.deployment=abc busybox sh",
			"tty; echo sum $((40+2))\nexit\n",
		);
		t.regex(shown, /\/dev\/pts\/\d+/);
		t.regex(shown, /sum 42/);
		const { code } = await docker(stage.arpanet, [
			"run",
			"--rm",
			"-l",
			"arpanet.deployment=abc",
			"busybox",
			"sh",
			"-c",
			"exit 7",
		]);
		t.is(code, 7);
	},
);

test.serial("exec -it does the same in a running container", async (t) => {
	t.regex(
		await typed("exec -it shell sh", "hostname; echo sum $((40+2))\nexit\n"),
		/sum 42/,
	);
});

test.serial("exec -i is fed by a pipe, to its end", async (t) => {
	const input = "a line\n".repeat(20_000);
	const { stdout } = await docker(
		stage.arpanet,
		["exec", "-i", "shell", "wc", "-c"],
		{ input },
	);
	t.is(stdout.trim(), String(input.length));
});

test.serial("attach shows what a container says from then on", async (t) => {
	await cli(
		t,
		"run",
		"-d",
		"--name",
		"echoing",
		"-l",
		"arpanet.deployment=abc",
		"busybox",
		"sh",
		"-c",
		"for i in 1 2 3 4; do sleep 1; echo $i; done; sleep 1",
	);
	t.regex(await cli(t, "attach", "--no-stdin", "echoing"), /3\n4\n$/);
	t.is((await cli(t, "wait", "echoing")).trim(), "0");
	await cli(t, "rm", "echoing");
});

test.serial("cp goes both ways", async (t) => {
	const there = join(stage.host.dataDir, "there.txt");
	const back = join(stage.host.dataDir, "back.txt");
	await writeFile(there, "carried\n");
	await cli(t, "cp", there, "shell:/tmp/it");
	await cli(t, "cp", "shell:/tmp/it", back);
	t.is(await readFile(back, "utf8"), "carried\n");
});

test.serial("logs -f goes on until the container ends", async (t) => {
	await cli(
		t,
		"run",
		"-d",
		"--name",
		"counter",
		"-l",
		"arpanet.deployment=abc",
		"busybox",
		"sh",
		"-c",
		"for i in 1 2 3; do echo $i; sleep 1; done",
	);
	t.is(await cli(t, "logs", "-f", "counter"), "1\n2\n3\n");
	await cli(t, "rm", "counter");
});

test.serial(
	"stats, top, inspect, port and diff tell of a container what the engine does",
	async (t) => {
		t.regex(
			await cli(t, "stats", "--no-stream", "shell"),
			/shell .* \d+\.\d+%/,
		);
		t.regex(await cli(t, "top", "shell"), /sleep 1000/);
		const host = await stage.hostOf("shell");
		for (const args of [
			["port", "shell"],
			["diff", "shell"],
		]) {
			t.is(await cli(t, ...args), (await docker(host, args)).stdout);
		}
		const inspect = ["inspect", "shell"];
		const own = (await docker(host, inspect)).stdout;
		const seen = await cli(t, ...inspect);
		if (stage.lab.hosts.length === 1) t.is(seen, own);
		else {
			const [{ Node, ...rest }] = JSON.parse(seen);
			t.is(Node.Name, host.name);
			t.deepEqual([rest], JSON.parse(own));
		}
	},
);

test.serial("integers of 64 bits get there and back", async (t) => {
	const max = "9223372036854775807";
	await cli(
		t,
		...["create", "--name", "large", "-l", "arpanet.deployment=abc"],
		...["--ulimit", `memlock=${max}`, "busybox"],
	);
	const ulimits = await cli(
		t,
		...["inspect", "-f", "{{json .HostConfig.Ulimits}}", "large"],
	);
	t.is(ulimits.trim(), `[{"Name":"memlock","Hard":${max},"Soft":${max}}]`);
	await cli(t, "rm", "large");
});

test.serial(
	"commit, export, save and load carry a container away and back",
	async (t) => {
		await cli(t, "exec", "shell", "touch", "/made");
		await cli(t, "commit", "shell", "made:1");
		t.regex(await cli(t, "run", "--rm", "made:1", "ls", "/"), /^made$/m);
		const file = join(stage.host.dataDir, "out.tar");
		await cli(t, "export", "-o", file, "shell");
		t.regex(await runOk("tar", ["-tf", file]), /^made$/m);
		await cli(t, "save", "-o", file, "made:1");
		await cli(t, "rmi", "made:1");
		t.regex(await cli(t, "load", "-i", file), /made:1/);
		await cli(t, "rmi", "made:1");
	},
);

for (const buildKit of ["0", "1"]) {
	test.serial(`build with DOCKER_BUILDKIT=${buildKit}`, async (t) => {
		const folder = join(stage.host.dataDir, `build${buildKit}`);
		await runOk("mkdir", ["-p", folder]);
		await writeFile(
			join(folder, "Dockerfile"),
			"FROM busybox\nRUN echo built > /it\nCOPY Dockerfile /copied\n",
		);
		const { code, stderr } = await docker(
			stage.arpanet,
			["build", "-t", "built", folder],
			{ env: { DOCKER_BUILDKIT: buildKit } },
		);
		t.is(code, 0, stderr);
		t.is(await cli(t, "run", "--rm", "built", "cat", "/it"), "built\n");
		await cli(t, "rmi", "built");
	});
}

test.serial("build in the network of a container on any host", async (t) => {
	const last = stage.lab.hosts.at(-1)?.name; // of several the first builds
	await cli(
		t,
		...["run", "-d", "--name", "net", "--add-host", "here:127.0.0.1"],
		...["-l", "arpanet.deployment=abc", "-e", `constraint:node==${last}`],
		...["busybox", "sleep", "1000"],
	);
	const folder = join(stage.host.dataDir, "build-net");
	await runOk("mkdir", ["-p", folder]);
	await writeFile(
		join(folder, "Dockerfile"),
		"FROM busybox\nRUN ping -c 1 here > /it\n",
	);
	const { code, stdout, stderr } = await docker(
		stage.arpanet,
		["build", "-t", "net", "--network", "container:net", folder],
		{ env: { DOCKER_BUILDKIT: "0" } },
	);
	t.is(code, 0, stdout + stderr);
	await cli(t, "rm", "-f", "net");
	await cli(t, "rmi", "net");
});

test.serial("events tell of what is done through the gateway", async (t) => {
	const since = String(Math.floor(Date.now() / 1000) - 1);
	await cli(
		t,
		"run",
		"--rm",
		"--name",
		"short",
		"-l",
		"arpanet.deployment=abc",
		"busybox",
		"true",
	);
	const shown = await eventually(
		async () =>
			cli(
				t,
				"events",
				"--since",
				since,
				"--until",
				String(Math.floor(Date.now() / 1000)),
				"--filter",
				"container=short",
				"--format",
				"{{.Action}}",
			),
		(text) => text.includes("destroy"),
	);
	t.deepEqual(shown.trim().split("\n").slice(0, 3), [
		"create",
		"attach",
		"start",
	]);
});

test.serial(
	"system df and prune see the whole engine, and what was pruned is given back",
	async (t) => {
		t.regex(await cli(t, "system", "df"), /Containers +\d+/);
		await cli(
			t,
			"create",
			"--name",
			"never",
			"-l",
			"arpanet.deployment=abc",
			"busybox",
			"true",
		);
		const held = await stage.leases("abc");
		t.true(Object.values(held).includes("never"));
		t.regex(await cli(t, "container", "prune", "-f"), /Deleted Containers/);
		const left = await eventually(
			() => stage.leases("abc"),
			(leases) => !Object.values(leases).includes("never"),
		);
		t.false(Object.values(left).includes("never"));
	},
);

test.serial(
	"a network that Docker does not let a container into holds no lease of it",
	async (t) => {
		await cli(
			t,
			"network",
			"create",
			"--label",
			"com.docker.compose.project=abc",
			"--label",
			"com.docker.compose.network=back",
			"abc_back",
		);
		await cli(
			t,
			"run",
			"-d",
			"--name",
			"hosted",
			"--network",
			"host",
			"-l",
			"arpanet.deployment=abc",
			"busybox",
			"sleep",
			"1000",
		);
		const { code } = await docker(stage.arpanet, [
			"network",
			"connect",
			"abc_back",
			"hosted",
		]);
		t.not(code, 0);
		t.deepEqual(await stage.leases("abc-back"), {});
		await cli(t, "network", "connect", "abc_back", "shell");
		t.deepEqual(Object.values(await stage.leases("abc-back")), ["shell"]);
		const again = await docker(stage.arpanet, [
			"network",
			"connect",
			"abc_back",
			"shell",
		]);
		t.not(again.code, 0);
		t.deepEqual(Object.values(await stage.leases("abc-back")), ["shell"]);
		await cli(t, "rm", "-f", "hosted");
	},
);

test.serial(
	"a client that stops following ends the engine's stream",
	async (t) => {
		const FOLLOWERS = 10;
		const connections = async () =>
			(
				await stage.host.exec("ss", ["-xH", "src", "/run/docker.sock"])
			).stdout.split("\n").length - 1;
		const followers = Array.from({ length: FOLLOWERS }, () =>
			docker(stage.arpanet, ["events"], { timeout: 5_000 }).catch(() => {}),
		);
		const most = await eventually(connections, (n) => n >= FOLLOWERS, 5);
		t.true(most >= FOLLOWERS);
		await Promise.all(followers);
		// those that are kept for the next request go within seconds
		const left = await eventually(connections, (n) => n < FOLLOWERS / 2);
		t.true(left < FOLLOWERS / 2, `${left} of ${most} connections`);
	},
);
