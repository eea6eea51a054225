import { randomUUID } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { makeCertificates } from "../../cli/certs.ts";
import { projectRoot, type Result } from "../../examples/images/tools.ts";
import { type Arpanet, arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { compose1, docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import { eventually } from "./stage.ts";

const SHOP = join(projectRoot, "examples/shop/fig.yml");
const ROOT = randomUUID();
const ANONYMOUS = "00000000-0000-0000-0000-000000000002";

/** Of our authority, and of one that is none of ours. */
let folder: string;
let lab: Lab;
let host: Host;
/** The policies that docs/security.md gives, arpanet's and DNS's. */
let policies: string[];
let token: string;
/** Environment of a client with a certificate. */
let certified: Record<string, string>;
let gateway: Arpanet;
const parts: Arpanet[] = [];
/** All that the arpanet command has said. */
let said = "";

test.before(async () => {
	folder = await mkdtemp(join(tmpdir(), "arpanet-access-"));
	await makeCertificates(join(folder, "own"), [], 30);
	await makeCertificates(join(folder, "other"), [], 30);
	const files = set("own/host");
	lab = await startLab({
		consulToken: ROOT,
		recursors: ["10.213.0.1"],
		consulConfig: {
			acl: {
				enabled: true,
				default_policy: "deny",
				tokens: { master: ROOT, agent: ROOT },
			},
			ports: { dns: 53, https: 8501 },
			...{ ca_file: files.ca, cert_file: files.cert, key_file: files.key },
			verify_incoming_https: true,
		},
	});
	[host] = lab.hosts as [Host];
	await loadImages(host);
	await makeCertificates(join(folder, "own"), [host.address], 30);
	const page = await readFile(join(projectRoot, "docs/security.md"), "utf8");
	policies = [...page.matchAll(/```hcl\n([\s\S]*?)```/g)].map(
		([, rules = ""]) => rules,
	);
	await consul("acl/policy", { Name: "arpanet", Rules: policies[0] });
	const made = await consul("acl/token", { Policies: [{ Name: "arpanet" }] });
	token = made.SecretID as string;
	await writeFile(join(folder, "token"), `${token}\n`);
	certified = client(join(folder, "own/client"));
});
test.after.always(async () => {
	await lab?.stop();
	await rm(folder, { recursive: true, force: true });
});

function set(name: string): { ca: string; cert: string; key: string } {
	const at = (file: string) => join(folder, name, file);
	return { ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") };
}

function client(path: string): Record<string, string> {
	return {
		DOCKER_TLS_VERIFY: "1",
		DOCKER_CERT_PATH: path,
		// as in test/lab/cluster.ts
		REQUESTS_CA_BUNDLE: join(folder, "own/ca.pem"),
		CURL_CA_BUNDLE: join(folder, "own/ca.pem"),
	};
}

/** One write to Consul as its operator. */
async function consul(
	path: string,
	body: object,
): Promise<{ ID: string } & Record<string, unknown>> {
	const answer = await fetch(`${host.consul}/v1/${path}`, {
		method: "PUT",
		headers: { "X-Consul-Token": ROOT },
		body: JSON.stringify(body),
	});
	if (!answer.ok) throw new Error(`${path}: ${await answer.text()}`);
	return (await answer.json()) as { ID: string } & Record<string, unknown>;
}

/** A part of arpanet that says all it can, with Consul's and its own TLS. */
async function start(role: string, flags: string[] = []): Promise<Arpanet> {
	const part = await startArpanet(host, {
		role,
		name: role,
		args: ["--log-level", "trace", ...flags],
		configure: (config) => {
			const { arpanet, adapters } = config;
			const files = set("own/host");
			const tokenFile = join(folder, "token");
			arpanet.consul = {
				address: "https://127.0.0.1:8501",
				tokenFile,
				tls: files,
			};
			arpanet.insecure = false;
			if (flags.length === 0) arpanet.tls = files;
			arpanet.host.engine = `tcp://${host.address}:2377`;
			arpanet.adapter.listen = `tcp://${host.address}:2378`;
			for (const name of ["pre", "post"]) {
				adapters[`arpanet-${name}`] =
					`https://${host.address}:2378/${name}-hook`;
			}
		},
	});
	parts.push(part);
	return part;
}

/** `arpanet check` of the agent's configuration, as it stands. */
async function check(): Promise<Result> {
	const config = join(host.dataDir, "agent.yml");
	const result = await host.exec("node", [
		arpanetProgram,
		"check",
		"-c",
		config,
	]);
	said += result.stdout + result.stderr;
	return result;
}

test.serial(
	"gateway, adapter and agent start apart, each over TLS, with a token that may do what the page says",
	async (t) => {
		await start("adapter");
		await start("agent");
		const { ca, cert, key } = set("own/host");
		gateway = await start("gateway", [
			...["--tlsverify", "--tlscacert", ca, "--tlscert", cert, "--tlskey", key],
		]);
		const before = await check();
		t.is(before.code, 1, before.stdout);
		t.regex(before.stdout, /^fail {2}dns: .* give its anonymous token/m);
		t.is(before.stdout.match(/^(warn|fail)/gm)?.length, 1, before.stdout);

		await consul("acl/policy", { Name: "dns", Rules: policies[1] });
		await consul(`acl/token/${ANONYMOUS}`, { Policies: [{ Name: "dns" }] });
		const { code, stdout } = await check();
		t.is(code, 0, stdout);
		t.notRegex(stdout, /^(warn|fail)/m);
		t.regex(stdout, /^ok {4}consul: lets arpanet do all that it needs$/m);
		t.regex(
			stdout,
			/^ok {4}tls: \S+ is good until \d{4}-\d\d-\d\d|^warn {2}tls: /m,
		);
	},
);

test.serial(
	"the stock clients come in with a certificate, and read why without",
	async (t) => {
		const { ca, cert, key } = set("own/client");
		const flags = [
			"--tlsverify",
			"--tlscacert",
			ca,
			"--tlscert",
			cert,
			"--tlskey",
			key,
		];
		t.is((await docker(gateway, [...flags, "ps"])).code, 0);
		t.is((await docker(gateway, ["ps"], { env: certified })).code, 0);

		const plain = await docker(gateway, ["ps"]);
		t.regex(plain.stderr, /this port speaks TLS.*DOCKER_TLS_VERIFY=1/);
		const none = await docker(gateway, [
			...["--tlsverify", "--tlscacert", ca, "ps"],
		]);
		t.regex(none.stderr, /you showed no certificate; set DOCKER_CERT_PATH/);
		const other = set("other/client");
		const strange = await docker(gateway, [
			...[
				"--tlsverify",
				"--tlscacert",
				ca,
				"--tlscert",
				other.cert,
				"--tlskey",
				other.key,
				"ps",
			],
		]);
		t.regex(
			strange.stderr,
			/your certificate \(CN=arpanet client\) is not good here/,
		);
		for (const port of [2377, 2378]) {
			const inside = await docker(`tcp://${host.address}:${port}`, ["ps"], {
				env: certified,
			});
			t.regex(inside.stderr, /is a client's, and only hosts come in here/);
		}
	},
);

test.serial(
	"the shop comes up, answers and goes under default deny",
	async (t) => {
		const fig = async (...args: string[]) => {
			const { code, stdout, stderr } = await compose1(
				gateway,
				["-f", SHOP, "-p", "abc", ...args],
				{ env: certified, timeout: 240_000 },
			);
			t.is(code, 0, `docker-compose ${args.join(" ")}\n${stderr}${stdout}`);
		};
		await fig("up", "-d", "--scale", "pricing=2");
		const page = await eventually(
			() =>
				docker(
					gateway,
					[
						"exec",
						"abc_web_1",
						"timeout",
						"20",
						"wget",
						"-qO-",
						"http://127.0.0.1/",
					],
					{ env: certified },
				),
			({ stdout }) => /^pricing: /m.test(stdout),
		);
		t.regex(page.stdout, /^pricing: /m);
		t.notRegex(page.stdout, /error/);
		const listed = await host.exec("node", [
			arpanetProgram,
			...["ps", "-c", join(host.dataDir, "agent.yml")],
		]);
		t.regex(listed.stdout, /pricing .*passing .*pricing\.abc\.service\.consul/);
		await fig("down", "-t", "2");
		const keys = await eventually(
			async () => {
				const answer = await fetch(`${host.consul}/v1/kv/arpanet/?keys`, {
					headers: { "X-Consul-Token": ROOT },
				});
				const all = (await answer.json()) as string[];
				return all.filter(
					(key) => key.includes("abc") && !key.startsWith("arpanet/images/"),
				);
			},
			(left) => left.length === 0,
			60,
		);
		t.deepEqual(keys, []);
	},
);

test.serial(
	"a right that is missing is named, in the client's error and by check",
	async (t) => {
		const { ID } = await consul("acl/policy", { Name: "less", Rules: "" });
		const rules = (policies[0] as string).split("\n").filter(Boolean);
		const create = [
			"create",
			"--name",
			"abc_pricing_1",
			"busybox",
			"sleep",
			"1",
		];
		await consul(`acl/token/${(await self()).AccessorID}`, {
			Policies: [{ Name: "less" }],
		});
		for (const [rule, level] of [
			['key_prefix "arpanet/"', "fail"],
			['node_prefix "arpanet-"', "fail"],
			['node_prefix ""', "warn"],
			['session_prefix ""', "fail"],
			['service_prefix ""', "warn"],
		] as const) {
			const less = rules.filter((line) => !line.startsWith(rule)).join("\n");
			await consul(`acl/policy/${ID}`, { Name: "less", Rules: less });
			const { stdout } = await eventually(check, (seen) =>
				seen.stdout.includes(`lacks ${rule}`),
			);
			const complaints = stdout.match(
				/^\w+ +consul: the token lacks \w+ "[^"]*"/gm,
			);
			t.deepEqual(
				complaints,
				[`${level}  consul: the token lacks ${rule}`],
				stdout,
			);
			if (!rule.startsWith("key_prefix")) continue;
			const refused = await docker(gateway, create, { env: certified });
			t.regex(
				refused.stderr,
				/consul: https:\S+ refuses arpanet's token \(Permission denied\); arpanet check says which right it lacks/,
			);
		}
		await consul(`acl/policy/${ID}`, { Name: "less", Rules: policies[0] });
		const again = await docker(gateway, create, { env: certified });
		t.is(again.code, 0, again.stderr);
		await docker(gateway, ["rm", "abc_pricing_1"], { env: certified });

		await writeFile(join(folder, "token"), randomUUID());
		t.regex(
			(await check()).stdout,
			/^fail {2}consul: does not know arpanet's token/m,
		);
		await writeFile(join(folder, "token"), "");
		t.regex(
			(await check()).stdout,
			/^fail {2}consul: \S+token holds no token; write/m,
		);
	},
);

/** The token that arpanet has. */
async function self(): Promise<{ AccessorID: string }> {
	const answer = await fetch(`${host.consul}/v1/acl/token/self`, {
		headers: { "X-Consul-Token": token },
	});
	return (await answer.json()) as { AccessorID: string };
}

test.serial("no part of it has ever said a token or a key", async (t) => {
	await Promise.all(parts.map((part) => part.stop()));
	const all = said + parts.map((part) => part.log()).join("\n");
	t.true(all.length > 1_000);
	const key = await readFile(set("own/host").key, "utf8");
	const lines = key.split("\n").filter((line) => line && !line.startsWith("-"));
	for (const secret of [token, ROOT, ...lines]) {
		t.false(all.includes(secret), secret);
	}
	t.false(all.includes("PRIVATE KEY"));
});
