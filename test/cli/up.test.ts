import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import test from "ava";
import { arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, startLab } from "../lab/lab.ts";

/** Consul's leader, or undefined when nothing answers. */
async function leader(host: Host): Promise<string | undefined> {
	const answer = await fetch(`${host.consul}/v1/status/leader`).catch(
		() => undefined,
	);
	return (await answer?.json()) as string | undefined;
}

test("up brings a Consul of its own, which outlives a kill -9 and ends with a clean stop", async (t) => {
	const lab = await startLab({
		consul: false,
		resolvConf: "nameserver 127.0.0.53\n",
	});
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();
	await loadImages(host, ["busybox"]);
	const stateDir = join(host.dataDir, "state");
	const options = {
		// biome-ignore lint/suspicious/noExplicitAny: the file's own shape
		configure: ({ arpanet }: any) => {
			arpanet.stateDir = stateDir;
		},
	};

	const first = await startArpanet(host, options);
	t.regex(first.log(), /started a Consul of our own/);
	t.truthy(await leader(host));
	const self = await (await fetch(`${host.consul}/v1/agent/self`)).json();
	const { DebugConfig } = self as { DebugConfig: Record<string, unknown> };
	t.deepEqual(DebugConfig.DNSRecursors, ["127.0.0.53"]);
	t.is(DebugConfig.DNSUDPAnswerLimit, 100);
	t.is(DebugConfig.DNSPort, 53);
	const again = await host.exec("node", [
		arpanetProgram,
		...["up", "--config", first.config],
	]);
	t.is(again.code, 1);
	t.is(
		again.stderr,
		`arpanet: cannot listen on tcp://127.0.0.1:2378 (adapter.listen): arpanet (pid ${first.process.pid}) listens there; stop it or choose another address\n`,
	);

	const run = await docker(first, [
		...["run", "-d", "--name=abc_pricing_1", "busybox", "sleep", "999"],
	]);
	t.is(run.code, 0, run.stderr);
	const resolves = async () => {
		const { stdout } = await docker(host, [
			...["exec", "abc_pricing_1", "nslookup", "pricing.abc.service.consul"],
		]);
		return /Address.*: 10\.32\.\d+\.\d+/.test(stdout);
	};
	const resolvesSoon = async () => {
		for (let tries = 0; tries < 75; tries++) {
			await setTimeout(200);
			if (await resolves()) return true;
		}
		return false;
	};
	t.true(await resolves());

	const other = await host.exec("node", [
		arpanetProgram,
		...["up", "-c", first.config],
	]);
	t.is(other.code, 1);
	t.regex(other.stderr, /^arpanet: .*cannot listen on .*; /);
	t.truthy(await leader(host), "the other must not have stopped it");

	await first.stop("SIGKILL");
	t.truthy(await leader(host));
	t.true(await resolves());

	const second = await startArpanet(host, options);
	t.regex(second.log(), /goes on with the Consul of an earlier arpanet/);
	const names = await docker(second, ["ps", "--format={{.Names}}"]);
	t.is(names.stdout, "abc_pricing_1\n");
	t.true(await resolves());

	const pid = await readFile(join(stateDir, "consul.pid"), "utf8");
	process.kill(Number(pid), "SIGKILL");
	t.true(await resolvesSoon(), second.log());
	t.regex(second.log(), /our Consul had ended; started another/);

	const begun = Date.now();
	t.is(await second.stop("SIGINT"), 0, second.log());
	t.true(Date.now() - begun < 8_000);
	t.is(await leader(host), undefined);
	t.false(existsSync(stateDir));

	// a new Consul knows nothing; what lives is put back on record
	const third = await startArpanet(host, options);
	t.true(await resolvesSoon(), third.log());
	t.is(await third.stop(), 0);

	// as on a plain machine: no configuration but the one that comes with arpanet
	const plain = host.spawn("node", [arpanetProgram, "up"], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	const ended = new Promise((resolve) => plain.once("exit", resolve));
	let log = "";
	await new Promise<void>((resolve, reject) => {
		plain.stdout?.on("data", (chunk) => {
			log += chunk;
			if (log.includes("gateway listens")) resolve();
		});
		plain.once("exit", () => reject(new Error(log)));
	});
	const check = await host.exec("node", [arpanetProgram, "check"]);
	t.is(check.code, 0, check.stdout);
	t.notRegex(check.stdout, /^(warn|fail)/m);
	plain.kill("SIGTERM");
	t.is(await ended, 0, log);
});

test("up says who has port 53, and leaves nothing running", async (t) => {
	const lab = await startLab({ consul: false, engine: false });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();
	const bind = `require("dgram").createSocket("udp4").bind(53, "${host.address}", () => console.log("bound"))`;
	const taker = host.spawn("node", ["-e", bind], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	await new Promise((resolve) => taker.stdout?.once("data", resolve));
	const stateDir = join(host.dataDir, "state");
	await t.throwsAsync(
		startArpanet(host, {
			configure: ({ arpanet }) => {
				arpanet.stateDir = stateDir;
			},
		}),
		{
			message:
				/arpanet: consul: cannot serve DNS on \S+:53: node \(pid \d+\) listens there; stop it or .*arpanet\.host\.address/,
		},
	);
	t.is(await leader(host), undefined);
});

test("up on one of several hosts waits for their Consul, and makes up none in its place", async (t) => {
	const lab = await startLab({ consul: false });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();
	const arpanet = await startArpanet(host, {
		configure: ({ arpanet }) => {
			arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
	t.is(await leader(host), undefined);
	const list = await docker(arpanet, ["ps", "--format={{.Names}}"]);
	t.deepEqual(list, { code: 0, stdout: "", stderr: "" });
	const network = ["network", "create", "abc_default"];
	const early = await docker(arpanet, network);
	t.regex(early.stderr, /consul: \S+ does not answer .*: start Consul/);
	const check = await host.exec("node", [
		arpanetProgram,
		...["check", "-c", arpanet.config],
	]);
	t.regex(check.stdout, /^fail .*consul: \S+ does not answer/m);

	await host.startConsul();
	for (let tries = 0; ; tries++) {
		const { code, stderr } = await docker(arpanet, network);
		if (code === 0) break;
		if (tries === 50) return t.fail(stderr);
		await setTimeout(100);
	}
	t.is(await arpanet.stop(), 0);
});

test("up goes on while its log cannot be written, and ends in good order at SIGHUP", async (t) => {
	const lab = await startLab({ consul: false });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();
	const full = await open("/dev/full", "a");
	const arpanet = host.spawn("node", [arpanetProgram, "up"], {
		stdio: ["ignore", full.fd, "inherit"],
	});
	await full.close();
	const ended = new Promise((resolve) => arpanet.once("exit", resolve));
	const ps = ["docker", ["-H", "tcp://127.0.0.1:2375", "ps"]] as const;
	for (let tries = 0; (await host.exec(...ps)).code !== 0; tries++) {
		if (tries === 100) return t.fail("the gateway does not answer");
		await setTimeout(100);
	}
	arpanet.kill("SIGHUP");
	t.is(await Promise.race([ended, setTimeout(10_000, "hangs")]), 0);
});
