import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import test from "ava";
import { projectRoot, run } from "../examples/images/tools.ts";
import { compose1, docker } from "./lab/clients.ts";
import { loadImages } from "./lab/images.ts";
import { type Lab, startLab } from "./lab/lab.ts";

const LAB = fileURLToPath(new URL("lab/main.js", import.meta.url));
const shop = { cwd: join(projectRoot, "examples/shop") };
const fig = (lab: Lab, ...args: string[]) =>
	compose1(
		lab.hosts[0] as Lab["hosts"][0],
		["-f", "fig.yml", "-p", "shop", ...args],
		shop,
	);

/** What the machine has of a lab: cables, bridge, folder, cgroups, processes, firewall rules. */
async function traces(lab: Pick<Lab, "gateway">): Promise<string[]> {
	const number = lab.gateway.split(".")[2];
	const name = new RegExp(`\\b(arpa|arpanet-lab-)${number}(h\\d+)?\\b`);
	const folders = [
		"/sys/class/net",
		tmpdir(),
		"/sys/fs/cgroup/pids",
		"/sys/fs/cgroup",
	];
	const entries = await Promise.all(
		folders.map((folder) => readdir(folder).catch(() => [])),
	);
	const pids = (await readdir("/proc")).filter((entry) => /^\d+$/.test(entry));
	const processes = await Promise.all(
		pids.map(async (pid) => {
			const cgroup = await readFile(`/proc/${pid}/cgroup`, "utf8").catch(
				() => "",
			);
			const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(
				() => "",
			);
			return command && cgroup + command; // a zombie has no command line
		}),
	);
	const rules = (await run("iptables", ["-w", "-S", "FORWARD"])).stdout.split(
		"\n",
	);
	const mounts = (await readFile("/proc/mounts", "utf8")).split("\n");
	return [...entries.flat(), ...processes, ...rules, ...mounts].filter(
		(trace) => name.test(trace),
	);
}

test("the shop runs on a host of the lab as on any Docker host, and nothing of it stays", async (t) => {
	const lab = await startLab({ hosts: 1 });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts as [Lab["hosts"][0]];
	t.not((await traces(lab)).length, 0);

	await loadImages(host);
	const up = await fig(lab, "up", "-d");
	t.is(up.code, 0, up.stderr);

	const port = (await fig(lab, "port", "web", "80")).stdout
		.trim()
		.split(":")[1];
	const page = await answer(`http://${host.address}:${port}/`);
	for (const service of [
		"web",
		"auth",
		"auth-redis",
		"catalogue",
		"catalogue-redis",
		"pricing",
	]) {
		t.regex(
			page,
			new RegExp(`^${service}: [0-9a-f]{12} 172\\.17\\.0\\.\\d+$`, "m"),
		);
	}
	t.regex(page, /^visits: \d+$/m);
	t.regex(page, /^price: 42$/m);

	await lab.stop(); // with everything running
	t.deepEqual(await traces(lab), []);
	await t.notThrowsAsync(lab.stop());
});

test("a host loses its power and comes back with its disks", async (t) => {
	const lab = await startLab({ hosts: 1 });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts as [Lab["hosts"][0]];
	const key = `${host.consul}/v1/kv/kept?raw`;

	await loadImages(host, ["busybox"]);
	t.is(
		(
			await docker(host, [
				"run",
				"-d",
				"--restart=always",
				"--name=kept",
				"busybox",
				"sleep",
				"999",
			])
		).code,
		0,
	);
	await fetch(key, { method: "PUT", body: "yes" });

	await host.crash();
	t.is(host.pidOfEngine, undefined);
	t.is(host.pidOfConsul, undefined);
	await host.boot();
	t.is(await (await fetch(key)).text(), "yes");
	const { stdout } = await docker(host, ["ps", "--format", "{{.Names}}"]);
	t.is(stdout, "kept\n");
});

test("two labs at once do not meet", async (t) => {
	const labs = await Promise.all([
		startLab({ engine: false }),
		startLab({ engine: false }),
	]);
	t.teardown(() => Promise.all(labs.map((lab) => lab.stop())));
	const [one, two] = labs.map((lab) => lab.hosts[0]) as [
		Lab["hosts"][0],
		Lab["hosts"][0],
	];

	t.not(one.address, two.address);
	t.is((await one.exec("hostname")).stdout, "h1\n");
	const { code } = await one.exec("bash", [
		"-c",
		`exec 3<>/dev/tcp/${two.address}/8500`,
	]);
	t.not(code, 0);
});

test("npm run lab gives a person hosts to play with, and takes them away at Ctrl-C as well as after a kill -9", async (t) => {
	for (const signal of ["SIGINT", "SIGKILL"] as const) {
		const program = spawn(process.execPath, [LAB, "1"], {
			stdio: ["ignore", "pipe", "inherit"],
		});
		t.teardown(() => program.kill());
		let said = "";
		program.stdout.on("data", (text) => {
			said += text;
		});
		await holds(() => said.includes("Ctrl-C removes all of it"), 60);
		const number = /tcp:\/\/10\.213\.(\d+)\.1:2375/.exec(said)?.[1] ?? "";
		const env = Object.fromEntries(
			[...said.matchAll(/export (\w+)=(\S+)/g)].map(([, key, value]) => [
				key as string,
				value as string,
			]),
		);
		const made = await docker(
			env.DOCKER_HOST ?? "",
			["run", "-d", "--name", "abc_mine_1", "busybox", "sleep", "99"],
			{ env },
		);
		t.is(made.code, 0, made.stderr);
		const ps = /\$ nsenter (.*arpanet\.js ps .*)/.exec(said)?.[1] ?? "";
		const { stdout } = await run("nsenter", ps.split(" "));
		t.regex(stdout, /mine .*mine\.abc\.service\.consul/);

		const ended = once(program, "exit");
		program.kill(signal);
		await ended;
		const left = () => traces({ gateway: `10.213.${number}.254` });
		await holds(async () => (await left()).length === 0, 30);
		t.deepEqual(await left(), []);
	}
});

/** Waits until something is so, in seconds at most. */
async function holds(
	look: () => boolean | Promise<boolean>,
	limit: number,
): Promise<void> {
	for (let i = 0; !(await look()) && i < limit * 10; i++) await sleep(100);
}

/** Asks until the services behind the page are up, at most 15 s. */
async function answer(url: string): Promise<string> {
	for (let tries = 0; ; tries++) {
		const response = await fetch(url).catch(() => undefined);
		const page = (await response?.text()) ?? "no answer";
		if (response?.ok) return page;
		if (tries === 30) throw new Error(page);
		await sleep(500);
	}
}
