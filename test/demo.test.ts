import { readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import test from "ava";
import { run } from "../examples/images/tools.ts";
import { type Host, startLab } from "./lab/lab.ts";

const DEMO = fileURLToPath(new URL("../examples/demo.js", import.meta.url));

/** What a machine shows of itself: interfaces, firewall, mounts, files and processes that a demo could leave. */
const LOOK = `
ip -br link | awk '{print $1}' | sort
for program in iptables ip6tables; do $program-save | grep -v '^#' | sed 's/ \\[.*\\]//'; done
awk '{print $5}' /proc/self/mountinfo | sort
cat /proc/sys/net/ipv4/ip_forward
find /run /etc/docker | sort
own=$(readlink /proc/self/ns/net)
for process in /proc/[0-9]*; do
	[ "$(readlink $process/ns/net)" != "$own" ] || cat $process/comm
done 2>/dev/null | grep -vE '^(sh|awk|cat|sort|grep|readlink|nsenter)$' | sort
`;

test.serial(
	"the demo shows two deployments that share nothing, and leaves no trace",
	async (t) => {
		t.timeout(180_000);
		const lab = await startLab({ consul: false, engine: false });
		const [host] = lab.hosts as [Host];
		t.teardown(async () => {
			// its containers are in a cgroup of the demo's own, which the lab does not know
			await host.exec(process.execPath, [DEMO, "--down"]);
			await lab.stop();
		});
		const env = { ...process.env, DOCKER_HOST: undefined };
		const look = async () => (await host.exec("sh", ["-c", LOOK])).stdout;
		const folders = async () =>
			(await readdir(tmpdir())).filter((name) =>
				name.startsWith("arpanet-demo"),
			);
		const [before, foldersBefore] = [await look(), await folders()];

		const { code, stdout, stderr } = await host.exec(process.execPath, [DEMO], {
			timeout: 150_000,
			env,
		});

		t.is(code, 0, stdout + stderr);
		t.is(stderr, "");
		for (const deployment of ["abc", "xyz"]) {
			t.regex(
				stdout,
				new RegExp(`all 180 answers .* from ${deployment}'s own containers`),
			);
			const bars = [...stdout.matchAll(/^ +(\S+) +[\d.]+ +(\d+) {2}(█+)$/gm)]
				.filter(([, name]) => name?.startsWith(deployment))
				.map(([, name, count]) => ({ name, count: Number(count) }));
			t.deepEqual(
				bars.map(({ name }) => name),
				[1, 2, 3].map((index) => `${deployment}_pricing_${index}`),
			);
			t.is(
				bars.reduce((sum, { count }) => sum + count, 0),
				30,
			);
			t.true(bars.every(({ count }) => count > 0));
			t.true(stdout.includes(`pricing.${deployment}.service.consul`));
		}
		t.regex(stdout, /Nothing is left/);
		t.deepEqual((await look()).split("\n"), before.split("\n"));
		const left = (await folders()).filter(
			(name) => !foldersBefore.includes(name),
		);
		t.deepEqual(left, []);
	},
);

test.serial(
	"the demo over three hosts shows the same, drains one, and leaves no trace",
	async (t) => {
		t.timeout(290_000);
		const { code, stdout, stderr } = await run(
			process.execPath,
			[DEMO, "--hosts", "3"],
			{ timeout: 280_000 },
		);
		t.is(code, 0, stdout + stderr);
		t.is(stderr, "");
		for (const [deployment, copies] of [
			["abc", 6],
			["xyz", 3],
		] as const) {
			t.true(
				stdout.includes(
					`all 432 answers behind these pages came from ${deployment}'s own containers, on 3 hosts`,
				),
			);
			const bars = [...stdout.matchAll(/^ +(\S+) on (h\d) .* (\d+) {2}█+$/gm)]
				.filter(([, name]) => name?.startsWith(deployment))
				.map(([, , host, count]) => ({ host, count: Number(count) }));
			t.is(bars.length, copies);
			t.is(new Set(bars.map(({ host }) => host)).size, 3);
			t.is(
				bars.reduce((sum, { count }) => sum + count, 0),
				72,
			);
		}
		t.regex(stdout, /✓ abc knows no name of xyz/);
		t.regex(stdout, /✓ abc reaches no address of xyz/);
		t.regex(stdout, /h3 +\S+ +drained/);
		t.regex(
			stdout,
			/abc_pricing_7 on h[12], abc_pricing_8 on h[12]: nothing new/,
		);
		t.regex(stdout, /Nothing is left/);
		const [, number] = /10\.213\.(\d+)\.1:2375/.exec(stdout) ?? [];
		const names = [
			...(await readdir("/sys/class/net")),
			...(await readdir(tmpdir())),
		];
		const ours = new RegExp(`^(arpa|arpanet-lab-)${number}(h\\d+)?$`);
		t.deepEqual(
			names.filter((name) => ours.test(name)),
			[],
		);
	},
);
