import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { checkEngine } from "../../cli/checks/engine.ts";
import { checkHooks } from "../../cli/checks/hooks.ts";
import {
	checkEncryption,
	checkSelf,
	checkVersions,
} from "../../cli/checks/hosts.ts";
import { checkIpv6 } from "../../cli/checks/ipv6.ts";
import { checkPrograms } from "../../cli/checks/programs.ts";
import { parseConfig } from "../../pipeline/config.ts";
import type { KnownHost } from "../../pipeline/state/hosts.ts";
import { fakeEngine } from "../gateway/hosts.ts";

const CONFIG = parseConfig("endpoints: {}\nadapters: {}\n", "ps.yml");
const ENCRYPTED = parseConfig(
	"endpoints: {}\nadapters: {}\narpanet: {encrypt: true}\n",
	"ps.yml",
);

const all = (name: string) => `/usr/sbin/${name}`;
const bare = (name: string) => (name === "ip" ? "/usr/sbin/ip" : undefined);
const plain = (name: string) => (name === "wg" ? undefined : all(name));

for (const [config, find, isRoot, level, text] of [
	[CONFIG, all, true, "ok", /^host: has ip, /],
	[CONFIG, all, false, "warn", /has to be root,/],
	[CONFIG, bare, true, "fail", /bridge, iptables-save, iptables-restore not/],
	[ENCRYPTED, plain, true, "fail", /^host: wg not found.*wireguard-tools$/],
] as const) {
	test(`programs of a host${config === ENCRYPTED ? " that encrypts" : ""}: ${level}, ${text}`, (t) => {
		const [finding] = checkPrograms(config, find, isRoot);
		t.is(finding?.level, level);
		t.regex(`${finding?.what}; ${finding?.remedy}`, text);
	});
}

for (const [config, disabled, said] of [
	[ENCRYPTED, "0", undefined],
	[ENCRYPTED, "1", /^fail host: encrypt needs IPv6.*sysctl -w net\.ipv6/],
	[ENCRYPTED, undefined, /^fail host: encrypt needs IPv6.*ipv6\.disable=1$/],
	[CONFIG, "1", undefined],
] as const) {
	test(`IPv6 of a host${config === ENCRYPTED ? " that encrypts" : ""}, disable_ipv6 ${disabled}: ${said}`, async (t) => {
		const folder = await mkdtemp(join(tmpdir(), "arpanet-check-"));
		t.teardown(() => rm(folder, { recursive: true }));
		const file = join(folder, "disable_ipv6");
		if (disabled) await writeFile(file, `${disabled}\n`);
		const found = checkIpv6(config, file);
		t.is(found.length, said ? 1 : 0);
		const { level, what, remedy } = found[0] ?? {};
		if (said) t.regex(`${level} ${what}; ${remedy}`, said);
	});
}

/** The configuration of a host with an engine of a few lines. */
async function withEngine(
	t: ExecutionContext,
	version: object,
	info: object = {},
) {
	const { url } = await fakeEngine(t, (_, { pathname }) =>
		pathname === "/version" ? version : info,
	);
	const file = `endpoints: {}\nadapters: {}\narpanet: {engine: "${url}", host: {name: here}}\n`;
	return { config: parseConfig(file, "ps.yml"), url };
}

for (const [Version, ApiVersion, found] of [
	["20.10.24", "1.41", [/^ok engine: Docker 20.10.24 with API 1.41/]],
	["1.11.2", "1.23", [/^warn .*API 1.24 is the oldest/]],
	["26.0.1", "1.45", [/^ok /, /^warn .*names do not resolve/]],
	["27.5.1", "1.47", [/^ok /]],
] as const) {
	test(`what is said of Docker ${Version}`, async (t) => {
		const { config } = await withEngine(t, { Version, ApiVersion });
		const said = await checkEngine(config);
		t.is(said.length, found.length);
		for (const [i, { level, what, remedy }] of said.entries()) {
			t.regex(`${level} ${what}; ${remedy}`, found[i] ?? /nothing more/);
		}
	});
}

test("a firewall of Docker's that ours cannot open is named", async (t) => {
	const version = { Version: "29.1.3", ApiVersion: "1.44" };
	const info = { FirewallBackend: { Driver: "nftables" } };
	const { config } = await withEngine(t, version, info);
	t.regex(`${(await checkEngine(config))[1]?.what}`, /expose opens nothing/);
});

for (const [there, said] of [
	[{ ApiVersion: "1.43" }, /here's Docker takes API 1.44 .*there's .* 1.43/],
	[{ ApiVersion: "1.47", MinAPIVersion: "1.24" }, undefined],
] as const) {
	test(`Docker 29 beside one that speaks API ${there.ApiVersion}`, async (t) => {
		const own = { ApiVersion: "1.52", MinAPIVersion: "1.44" };
		const { config } = await withEngine(t, own);
		const { url: engine } = await withEngine(t, there);
		const state = { load: 0, address: "" };
		const other = { name: "there", address: "", cpus: 1, memory: 1 };
		const found = await checkVersions(
			config,
			[{ ...other, engine, state }],
			undefined,
		);
		t.is(found.length, said ? 1 : 0);
		if (said) t.regex(found[0]?.what ?? "", said);
	});
}

const OTHER = known("other", "192.0.2.9");

for (const [what, here, all, said] of [
	["alone", "192.0.2.1", [known("here", "192.0.2.1")], undefined],
	["well", "127.0.0.1", [known("here", "127.0.0.1"), OTHER], undefined],
	["new", "127.0.0.1", [OTHER], undefined],
	[
		"at an address of no card",
		"192.0.2.1",
		[OTHER],
		/192\.0\.2\.1 is no address of this machine; set arpanet\.host\.address/,
	],
	[
		"of a name that another has",
		"127.0.0.1",
		[known("here", "192.0.2.2"), OTHER],
		/one at 192\.0\.2\.2 is announced as here.* 127\.0\.0\.1; give each its own.* its containers anew, which ask for names at 192\.0\.2\.2$/,
	],
	[
		"at another's address",
		"127.0.0.1",
		[known("here", "127.0.0.1"), known("was", "127.0.0.1")],
		/127\.0\.0\.1 is host was's address.*arpanet host rm was$/,
	],
] as const) {
	test(`a host ${what}: ${said ? "said" : "nothing is said"}`, (t) => {
		const found = checkSelf({ name: "here", address: here }, [...all]);
		t.is(found.length, said ? 1 : 0);
		if (said) t.regex(`${found[0]?.what}; ${found[0]?.remedy}`, said);
	});
}

for (const [config, other, said] of [
	[CONFIG, OTHER, undefined],
	[ENCRYPTED, { ...OTHER, wireguard: "key" }, undefined],
	[ENCRYPTED, { ...OTHER, state: undefined }, undefined],
	[ENCRYPTED, OTHER, /other does not encrypt and this one does, .* true there/],
	[
		CONFIG,
		{ ...OTHER, wireguard: "key" },
		/other encrypts and this one does not, .* true here/,
	],
] as const) {
	const us = config === ENCRYPTED ? "a host that encrypts" : "a host";
	const them = other.wireguard ? "one that does" : "one that does not";
	test(`${us} beside ${them}${other.state ? "" : " and is lost"}: ${said}`, (t) => {
		const [found] = checkEncryption(config, [other]);
		t.is(found?.level, said ? "fail" : undefined);
		if (said) t.regex(`${found?.what}; ${found?.remedy}`, said);
	});
}

/** A host that lives at an address. */
function known(name: string, address: string): KnownHost {
	return { name, address, cpus: 1, memory: 1, state: { load: 0, address } };
}

const SHIPPED = readFileSync(
	new URL("../../../powerstrip.yml", import.meta.url),
	"utf8",
);
const VOLUMES = `  "POST */volumes/create":        {pre: [arpanet-pre]}\n`;

for (const [what, file, said] of [
	["as it comes", SHIPPED, undefined],
	[
		"of an adapter elsewhere",
		SHIPPED.replaceAll("127.0.0.1:2378", "h:1"),
		undefined,
	],
	[
		"with a pattern for all",
		SHIPPED.replace(VOLUMES, `  "* *": {pre: [arpanet-pre]}\n`),
		undefined,
	],
	[
		"from before volumes",
		SHIPPED.replace(VOLUMES, ""),
		/about "POST \*\/volumes\/create" \(pre\); copy .*powerstrip\.yml$/,
	],
	[
		"that forgets versions",
		SHIPPED.replace("POST */containers/create", "POST /containers/create"),
		/about "POST \*\/containers\/create" \(pre, post\);/,
	],
	[
		"of another's adapters",
		SHIPPED.replaceAll("-hook", "").replace(
			"arpanet-post: http",
			"arpanet-post: https",
		),
		/"POST \*\/containers\/create" \(pre, post\), "POST .*, "DELETE/,
	],
] as const) {
	test(`a powerstrip.yml ${what}: ${said ? "said" : "nothing is said"}`, async (t) => {
		const [found, ...more] = await checkHooks(parseConfig(file, "ps.yml"));
		t.deepEqual(more, []);
		t.is(found?.level, said ? "warn" : undefined);
		if (said) t.regex(`${found?.what}; ${found?.remedy}`, said);
	});
}
