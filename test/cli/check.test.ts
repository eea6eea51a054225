import { writeFile } from "node:fs/promises";
import test from "ava";
import { arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { startLab } from "../lab/lab.ts";
import { arpanet, configured } from "./command.ts";

test("check says file, line and remedy of a broken powerstrip.yml", async (t) => {
	const file = await configured(t, {});
	await writeFile(file, "endpoints: {}\nadapters: {}\narpanet:\n  engin: x\n");
	const unknown = await arpanet(["check", "-c", file]);
	t.is(unknown.code, 1);
	t.regex(
		unknown.stdout,
		/^fail {2}.*powerstrip\.yml:4: unknown key "engin" in arpanet .*; remove it$/m,
	);
	await writeFile(file, "endpoints: {}\nadapters: [\n");
	const broken = await arpanet(["check", "-c", file]);
	t.is(broken.code, 1);
	t.regex(broken.stdout, /^fail {2}.*powerstrip\.yml:\d+: not YAML: /m);
});

test("check looks at a plugin of one's own that has a built-in's name for no setting", async (t) => {
	const named = (name: string) =>
		`export default { name: "${name}", setup: () => ({}) };`;
	const file = await configured(
		t,
		{ plugins: ["deployment-id", "./dhcp.mjs", "./dns-search.mjs"] },
		{ "dhcp.mjs": named("dhcp"), "dns-search.mjs": named("dns-search") },
	);
	const { stdout, stderr } = await arpanet(["check", "-c", file]);
	t.is(stderr, "");
	t.regex(stdout, /^ok {4}plugins: deployment-id, dhcp, dns-search$/m);
	t.notRegex(stdout, /^.{6}dhcp: /m);
});

test("check finds nothing wrong where nothing is", async (t) => {
	const lab = await startLab({ recursors: ["10.213.0.1"] });
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();

	const running = await startArpanet(host, {
		configure: ({ arpanet }) => {
			arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
	const whileUp = await host.exec("node", [
		arpanetProgram,
		...["check", "-c", running.config],
	]);
	t.is(whileUp.code, 0, whileUp.stdout);
	t.notRegex(whileUp.stdout, /^(warn|fail)/m);
	for (const line of [
		/^ok {4}engine: Docker \S+ with API \S+ answers at unix:/m,
		/^ok {4}consul: .* answers and has a leader$/m,
		/^ok {4}consul: asks 10\.213\.0\.1 for names/m,
		/^ok {4}consul: shows up to 100 copies/m,
		/^ok {4}dns: \S+:53 answers for \.consul$/m,
		/^ok {4}adapter arpanet-pre: \S+ answers$/m,
		/^ok {4}gateway: listens on tcp:/m,
		/^ok {4}engine port: listens on tcp:\S+:2377$/m,
		/^ok {4}dhcp: no route of this host in 10\.32\.0\.0\/12$/m,
	]) {
		t.regex(whileUp.stdout, line);
	}
	await running.stop();
	const afterwards = await host.exec("node", [
		arpanetProgram,
		...["check", "-c", running.config],
	]);
	t.is(afterwards.code, 0, afterwards.stdout);
	t.regex(afterwards.stdout, /^ok {4}gateway: \S+ is free$/m);
	t.regex(afterwards.stdout, /^ok {4}engine port: \S+ is free$/m);
});

test("check says what a Consul lacks, that the engine is down, and who has the gateway's and the engine's port", async (t) => {
	const lab = await startLab({
		engine: false,
		consulConfig: { dns_config: {}, ports: { dns: 8600 } },
	});
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();

	for (const port of [2375, 2377]) {
		const listen = `require("net").createServer().listen(${port})`;
		host.spawn("node", ["-e", listen], { stdio: "ignore" });
	}
	await host.exec("ip", ["route", "add", "10.40.0.0/16", "dev", "eth0"]);
	// as arpanet's own networks are: without the engine nobody can tell
	await host.exec("ip", ["link", "add", "br-own", "type", "bridge"]);
	await host.exec("ip", ["link", "set", "br-own", "up"]);
	await host.exec("ip", ["route", "add", "10.32.0.0/24", "dev", "br-own"]);
	const file = await configured(t, {
		engine: host.docker,
		consul: { address: host.consul },
		host: {
			name: host.name,
			address: host.address,
			engine: `tcp://${host.address}:2377`,
		},
		insecure: true,
		gateway: {
			listen: [
				`tcp://${host.address}:2375`,
				"unix:///no/such/arpanet.sock",
				"unix:///etc/hostname",
			],
		},
	});
	const put = `fetch("${host.consul}/v1/kv/arpanet/format", {method: "PUT", body: "two"})`;
	await host.exec("node", ["-e", put]);
	const { code, stdout } = await host.exec("node", [
		arpanetProgram,
		...["check", "-c", file],
	]);
	t.is(code, 1);
	for (const line of [
		/^fail {2}engine: unix:\S+ does not answer .*; start Docker, or set arpanet\.engine$/m,
		/^warn {2}consul: has no recursors, .*; add "recursors"/m,
		/^warn {2}consul: dns_config\.udp_answer_limit is 3, .*; add "dns_config"/m,
		/^fail {2}consul: the value of arpanet\/format is not JSON, .*; delete it: consul kv delete arpanet\/format$/m,
		/^fail {2}dns: \S+:53, where containers ask, .*; give Consul "ports": \{"dns": 53\}/m,
		/^fail {2}gateway: node \(pid \d+\) listens on tcp:\S+; stop it, or choose/m,
		/^fail {2}engine port: node \(pid \d+\) listens on tcp:\S+; stop it, or choose another address in arpanet\.host\.engine$/m,
		/^fail {2}gateway: cannot listen on unix:\S+: there is no folder \/no\/such; /m,
		/^fail {2}gateway: cannot listen on unix:\S+: \/etc\/hostname is there, and no socket; /m,
		/^warn {2}dhcp: pool 10\.32\.0\.0\/12 overlaps 10\.40\.0\.0\/16, which this host reaches by eth0; add 10\.40\.0\.0\/16 to "reserved"/m,
	]) {
		t.regex(stdout, line);
	}
	t.notRegex(stdout, /br-own/);

	await host.stopConsul();
	const gone = await host.exec("node", [arpanetProgram, ...["ps", "-c", file]]);
	t.is(gone.code, 1);
	t.regex(gone.stderr, /^arpanet: consul: \S+ does not answer \(.*\n$/);
});
