import { X509Certificate } from "node:crypto";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { applyAccess } from "../../cli/access.ts";
import { makeCertificates } from "../../cli/certs.ts";
import { checkExposure, checkListening } from "../../cli/checks/listening.ts";
import { checkTls } from "../../cli/checks/tls.ts";
import { run } from "../../examples/images/tools.ts";
import { parseConfig } from "../../pipeline/config.ts";
import { consulAccess } from "../../pipeline/consul-access.ts";
import {
	faultsOf,
	isLoopback,
	mustBeSafe,
	readTls,
	type TlsConfig,
} from "../../pipeline/tls.ts";

const CONFIG = "endpoints: {}\nadapters: {}\n";

let folder: string;
test.before(async () => {
	folder = await mkdtemp(join(tmpdir(), "arpanet-tls-"));
	await makeCertificates(join(folder, "own"), ["10.0.0.1"], 30);
	await makeCertificates(join(folder, "v6"), ["::2"], 30);
	await makeCertificates(join(folder, "other"), [], 30);
});
test.after.always(() => rm(folder, { recursive: true, force: true }));

function set(name: string): TlsConfig {
	const at = (file: string) => join(folder, name, file);
	return { ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") };
}

test("certificates that cannot be used are refused by name, and without what is in them", async (t) => {
	const own = set("own/host");
	t.throws(() => readTls({ ...own, key: set("other/host").key }), {
		message: /key\.pem is not the key of \S+cert\.pem; name two files/,
	});
	t.throws(() => readTls({ ...own, ca: join(folder, "none.pem") }), {
		message: /none\.pem cannot be read \(ENOENT\); correct "tls"/,
	});
	const program = `import { readPem } from "${new URL("../../pipeline/tls.js", import.meta.url)}";
		process.setuid(65534); readPem("${own.key}");`;
	const nobody = await run("node", ["--input-type=module", "-e", program]);
	t.regex(
		nobody.stderr,
		/own\/host\/key\.pem cannot be read \(EACCES\); run arpanet as root, or as one who may read it$/m,
	);
	t.throws(() => readTls({ ...own, cert: own.key }), {
		message: /key\.pem is not what "tls" asks for \(it holds no certificate\)/,
	});
});

test("certificates that cannot be made anew stay as they were", async (t) => {
	const at = join(folder, "kept");
	await makeCertificates(at, [], 30);
	const before = readTls(set("kept/host"));
	await t.throwsAsync(makeCertificates(at, [], Number.NaN), {
		message: /^openssl x509 failed: /,
	});
	t.deepEqual(readTls(set("kept/host")), before);
	await makeCertificates(at, [], 30);
	t.notDeepEqual(readTls(set("kept/host")).key, before.key);
	const names = ["ca.pem", "cert.pem", "key.pem"];
	t.deepEqual((await readdir(join(at, "host"))).sort(), names);
});

for (const file of ["ca.pem", "ca-key.pem"]) {
	test(`an authority whose ${file} is kept elsewhere is not replaced`, async (t) => {
		const at = join(folder, `without-${file}`);
		await makeCertificates(at, [], 30);
		await rm(join(at, file));
		const before = (await readdir(at)).sort();
		await t.throwsAsync(makeCertificates(at, [], 30), {
			message: new RegExp(`${file} is not; put it back`),
		});
		t.deepEqual((await readdir(at)).sort(), before);
	});
}

for (const name of [
	...["10.0.0.1:2377", "tcp://10.0.0.1:2377", "10.0.0.0/24"],
	...["10.0.0.256", "node1,DNS:x", "a b", ""],
]) {
	test(`no certificate is made for "${name}"`, async (t) => {
		await t.throwsAsync(makeCertificates(join(folder, "odd"), [name], 30), {
			message: /^".*" is neither an address nor a name of a host; write/,
		});
	});
}

test("names of hosts are in the certificate", async (t) => {
	const names = ["::1", "node1", "1a.example.com", "*.example.com"];
	await makeCertificates(join(folder, "named"), names, 30);
	const { subjectAltName } = new X509Certificate(
		readTls(set("named/host")).cert,
	);
	for (const name of names.slice(1))
		t.regex(
			subjectAltName ?? "",
			new RegExp(`DNS:${name.replace("*", "\\*")}`),
		);
});

test("what others will not like about certificates is said before they do", (t) => {
	const own = readTls(set("own/host"));
	t.deepEqual(faultsOf(own), []);
	const later = faultsOf(own, new Date(Date.now() + 31 * 24 * 3600 * 1000));
	t.regex(later.join("\n"), /^CN=arpanet host was good until .*; make/);
	const other = { ...own, ca: readTls(set("other/host")).ca };
	t.regex(
		faultsOf(other).join("\n"),
		/^the certificate is not of the authority/,
	);
	const client = faultsOf(readTls(set("own/client")));
	t.regex(client.join("\n"), /^the certificate is not a host's/);
});

test("check says for which address a certificate is not good", (t) => {
	const config = parseConfig(CONFIG, "ps.yml");
	config.arpanet.tls = set("own/host");
	config.arpanet.host.engine = "tcp://10.0.0.1:2377";
	t.is(checkTls(config)[0]?.level, "ok");
	config.arpanet.host.engine = "tcp://10.0.0.2:2377";
	t.regex(
		checkTls(config)[0]?.what ?? "",
		/other hosts reach this one at 10\.0\.0\.2, for which/,
	);
	config.arpanet.host.engine = "tcp://[::2]:2377";
	config.arpanet.tls = set("v6/host");
	t.is(checkTls(config)[0]?.level, "ok");
	const listen = (address: string) => {
		config.arpanet.gateway.listen = [address, "unix:///run/x.sock"];
		return checkTls(config).map(({ level }) => level);
	};
	t.deepEqual(listen("tcp://10.0.0.3:2375"), ["warn", "ok"]);
	t.deepEqual(listen("tcp://0.0.0.0:2375"), ["ok"]);
	t.deepEqual(listen("tcp://node1:2375"), ["ok"]);
});

test("check says when the gateway cannot listen where it shall", async (t) => {
	const config = parseConfig(CONFIG, "ps.yml");
	const check = async (listen: string) => {
		config.arpanet.gateway.listen = [listen];
		return (await checkListening(config))[0]?.what;
	};
	t.regex(
		(await check("tcp://192.0.2.1:2375")) ?? "",
		/^gateway: cannot listen on tcp:\/\/192\.0\.2\.1:2375, which is no address of this machine/,
	);
	t.is(await check("tcp://[::1]:1"), "gateway: tcp://[::1]:1 is free");
});

test("flags win over the file; what neither names is where dockerd looks", (t) => {
	const config = parseConfig(
		`${CONFIG}arpanet:\n  tls: {ca: /a, cert: /b, key: /c}\n`,
		"ps.yml",
	);
	const access = (flags: object, of = config) => {
		const env = { DOCKER_CERT_PATH: "/usual" };
		const { tls, insecure } = applyAccess(of, flags, env).arpanet;
		return { tls, insecure };
	};
	t.deepEqual(access({ tlskey: "/mine" }), {
		tls: { ca: "/a", cert: "/b", key: "/mine" },
		insecure: false,
	});
	const bare = parseConfig(CONFIG, "ps.yml");
	t.deepEqual(access({ tlsverify: true, tlscert: "/mine" }, bare), {
		tls: { ca: "/usual/ca.pem", cert: "/mine", key: "/usual/key.pem" },
		insecure: false,
	});
	t.deepEqual(access({ insecure: true }, bare), {
		tls: undefined,
		insecure: true,
	});
});

for (const [address, own] of [
	["tcp://127.0.0.1:1", true],
	["tcp://localhost:1", true],
	["tcp://[::1]:1", true],
	["unix:///run/x.sock", true],
	["tcp://10.0.0.1:1", false],
	["tcp://0.0.0.0:1", false],
	["tcp://127.example.org:1", false],
	["tcp://127.0.0.1@10.0.0.1:1", false],
	["http://0.0.0.0:2378", false],
	["https://10.0.0.2:2378", false],
	["tcp://10.0.0.2:2378/", false],
	["TCP://0.0.0.0:2378", false],
	["tcp://0.0.0.0", false],
	["foo", false],
] as const) {
	test(`${address} is ${own ? "for this machine alone" : "for others too"}`, (t) => {
		t.is(isLoopback(address), own);
		const listen = () => mustBeSafe(address, { insecure: false });
		if (own) t.notThrows(listen);
		else t.throws(listen, { message: /root on this host; set "tls"/ });
	});
}

test("Consul's token is the file's, or the environment's", async (t) => {
	const tokenFile = join(folder, "token");
	await writeFile(tokenFile, "from-file\n");
	const address = "http://127.0.0.1:8500";
	const env = { CONSUL_HTTP_TOKEN: "from-env" };
	const token = (more: object) => consulAccess({ address, ...more }, env).token;
	t.is(token({ token: "own", tokenFile }), "own");
	t.is(token({ tokenFile }), "from-file");
	t.is(token({}), "from-env");
	t.is(consulAccess({ address }, {}).token, undefined);
	const error = t.throws(() => token({ tokenFile: set("own/host").key }));
	t.regex(error?.message ?? "", /key\.pem holds no token/);
	t.false(error?.message.includes("PRIVATE"));
});

test("arpanet check tells of an address that is open to others, as arpanet does when it starts", (t) => {
	const arpanet = {
		gateway: { listen: ["tcp://0.0.0.0:2375", "unix:///run/arpanet.sock"] },
		adapter: { listen: "tcp://127.0.0.1:2378" },
		host: { engine: "tcp://10.0.0.1:2377" },
	};
	const found = (more: object) =>
		checkExposure({ arpanet: { ...arpanet, ...more } } as never).map(
			({ what }) => what.split(" ")[0],
		);
	t.deepEqual(found({}), ["tcp://10.0.0.1:2377"]);
	t.deepEqual(found({ host: {} }), ["tcp://0.0.0.0:2375"]);
	t.deepEqual(found({ insecure: true }), []);
});
