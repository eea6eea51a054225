import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { loadConfig, parseConfig } from "../../pipeline/config.ts";
import { findPlugins, setUp } from "../../pipeline/load.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { ConfigError } from "../../pipeline/validate.ts";
import { builtins } from "../../plugins/index.ts";

const HEAD = `endpoints:
  "POST */containers/create": {pre: [a]}
adapters:
  a: http://127.0.0.1:2378/pre-hook
`;

const wrong = test.macro({
	exec(t, _: string, text: string, message: string | RegExp) {
		const error = t.throws(() => parseConfig(text, "ps.yml"), {
			instanceOf: ConfigError,
		});
		if (typeof message === "string") t.is(error.message, message);
		else t.regex(error.message, message);
	},
	title: (_, what: string) => `${what}: file, line and remedy`,
});

test(
	wrong,
	"an unknown key of ours",
	`${HEAD}arpanet:\n  engin: unix:///x\n`,
	/^ps\.yml:6: unknown key "engin" in arpanet \(known: engine, .*\); remove it$/,
);
test(
	wrong,
	"an unknown key deeper down",
	`${HEAD}arpanet:\n  consul:\n    adress: http://x\n`,
	'ps.yml:7: unknown key "adress" in arpanet.consul (known: address, token, tokenFile, tls); remove it',
);
test(
	wrong,
	"an unknown key of an endpoint",
	'endpoints:\n  "POST /x":\n    pre: [a]\n    during: [a]\nadapters: {a: "http://a"}\n',
	/^ps\.yml:4: unknown key "during" in .*\(known: pre, post\); remove it$/,
);
test(
	wrong,
	"an endpoint with neither pre nor post",
	'endpoints:\n  "POST /x": {}\nadapters: {}\n',
	/^ps\.yml:2: .* needs "pre" or "post"$/,
);
test(
	wrong,
	"an adapter that is not defined",
	'endpoints:\n  "GET /x": {pre: [a]}\n  "POST /x": {post: [b]}\nadapters: {a: "http://a"}\n',
	'ps.yml:3: endpoint "POST /x" names adapter "b", which is not under "adapters"; define it there',
);
test(
	wrong,
	"an adapter's name that every object has",
	'endpoints:\n  "POST /x": {post: [constructor]}\nadapters: {}\n',
	/^ps\.yml:2: endpoint "POST \/x" names adapter "constructor"/,
);
test(
	wrong,
	"an adapter without a URL",
	"endpoints: {}\nadapters:\n  a: nowhere\n",
	'ps.yml:3: adapter "a" has no URL: "nowhere"; write http://host:port/path',
);
test(
	wrong,
	"an endpoint without a method",
	'endpoints:\n  "/containers/create": {pre: []}\nadapters: {}\n',
	'ps.yml:2: endpoint "/containers/create" is not "METHOD PATH", such as "POST */containers/create"',
);
test(
	wrong,
	"text that is not YAML",
	'endpoints:\n  "POST /x": {pre: [a]\nadapters: {}\n',
	/^ps\.yml:[23]: not YAML: ./,
);
test(
	wrong,
	"a file with nothing in it",
	"",
	'ps.yml:1: the file lacks "endpoints"; add it',
);
test(
	wrong,
	"a file that is a list",
	"- a\n",
	'ps.yml:1: the file is ["a"]; write keys with values ("key: value")',
);
test(
	wrong,
	"no adapters",
	"endpoints: {}\n",
	'ps.yml:1: the file lacks "adapters"; add it',
);
test(
	wrong,
	"another version of the file",
	`version: 2\n${HEAD}`,
	"ps.yml:1: version is 2; write 1",
);
test(
	wrong,
	"a token that is no text, which is not shown",
	`${HEAD}arpanet:\n  consul:\n    token: 123456\n`,
	"ps.yml:7: arpanet.consul.token is something else; write a text",
);
test(
	wrong,
	"an engine that cannot be dialled",
	`${HEAD}arpanet:\n  engine: /var/run/docker.sock\n`,
	'ps.yml:6: "/var/run/docker.sock" is no engine address; write unix:///var/run/docker.sock or tcp://127.0.0.1:2375',
);
test(
	wrong,
	"a Consul that is no URL",
	`${HEAD}arpanet:\n  consul:\n    address: "127.0.0.1"\n`,
	'ps.yml:7: "127.0.0.1" is no URL; write http://127.0.0.1:8500',
);
test(
	wrong,
	"a Consul at another protocol's URL",
	`${HEAD}arpanet:\n  consul:\n    address: "ftp://127.0.0.1:8500"\n`,
	/^ps\.yml:7: "ftp:.*" is no URL; write http:/,
);
test(
	wrong,
	"an adapter at another protocol's URL",
	"endpoints: {}\nadapters:\n  a: ftp://a/pre-hook\n",
	/^ps\.yml:3: adapter "a" has no URL: "ftp:.*write http:/,
);
test(
	wrong,
	"aliases of aliases",
	`${HEAD}a: &a [x, x, x, x, x, x, x, x, x, x]\nb: &b [${"*a, ".repeat(20)}]\nc: &c [${"*b, ".repeat(20)}]\nd: [${"*c, ".repeat(20)}]\n`,
	/^ps\.yml: .*alias.*; write it without aliases/,
);
test(
	wrong,
	"a time that no timer knows",
	`${HEAD}arpanet:\n  pluginTimeout: 2147483648\n`,
	/^ps\.yml:6: arpanet\.pluginTimeout \(2147483648\) must be <= 2147483647; correct it$/,
);
for (const listen of ["tcp://10.0.0.1:2377", "tcp://0.0.0.0:2377"]) {
	test(
		wrong,
		`an engine port where the gateway listens (${listen})`,
		`${HEAD}arpanet:\n  host: {engine: "tcp://10.0.0.1:2377"}\n  gateway: {listen: ["${listen}"]}\n`,
		/^ps\.yml:6: host\.engine is tcp:.*, where the gateway listens .*another one/,
	);
}
test(
	wrong,
	"a host's address that is a name",
	`${HEAD}arpanet:\n  host: {address: node1}\n`,
	'ps.yml:6: arpanet.host.address ("node1") is no IPv4 address; write this host\'s own, such as 10.0.0.1',
);
test(
	wrong,
	"a plugin with two names",
	`${HEAD}arpanet:\n  plugins:\n    - deployment-id\n    - {dhcp: {}, links: {}}\n`,
	/^ps\.yml:8: a plugin is a name, or one name with its configuration/,
);
test(
	wrong,
	"a plugin that is a number",
	`${HEAD}arpanet:\n  plugins:\n    - 7\n`,
	'ps.yml:7: arpanet.plugins.0 is 7; write a text or keys with values ("key: value")',
);
test(
	wrong,
	"a host name that is no DNS label",
	`${HEAD}arpanet:\n  host: {name: Node_1}\n`,
	'ps.yml:6: arpanet.host.name ("Node_1") is no DNS label; write 1 to 63 of a-z, 0-9 and "-", such as node1',
);
for (const listen of [
	"http://0.0.0.0:2378",
	"https://10.0.0.2:2378",
	"tcp://10.0.0.2:2378/",
	"tcp://0.0.0.0",
	"tcp://10.0.0.2:99999",
	"foo",
]) {
	test(
		wrong,
		`an adapter that is to listen on ${listen}`,
		`${HEAD}arpanet:\n  adapter: {listen: "${listen}"}\n`,
		`ps.yml:6: arpanet.adapter.listen ("${listen}") is no TCP address; write one such as tcp://127.0.0.1:2378`,
	);
}
for (const engine of [
	"tcp://0.0.0.0:2377",
	"tcp://0:2377",
	"tcp://[::]:2377",
	"tcp://127.0.0.1:2377",
	"tcp://localhost:2377",
	"tcp://[::1]:2377",
	"10.0.0.1:2377",
]) {
	test(
		wrong,
		`an engine that others are to reach at ${engine}`,
		`${HEAD}arpanet:\n  host: {engine: "${engine}"}\n`,
		`ps.yml:6: arpanet.host.engine ("${engine}") is no TCP address at which other hosts reach this one; write its own, such as tcp://10.0.0.1:2377`,
	);
}

test("what powerstrip itself accepts is accepted, other top-level keys too", (t) => {
	const config = parseConfig(
		`${HEAD}x-mine: {anything: [at, all]}\nnotes: hello\n`,
		"ps.yml",
	);
	t.deepEqual(config.endpoints, [
		{ pattern: "POST */containers/create", pre: ["a"], post: [] },
	]);
	t.deepEqual(config.adapters, { a: "http://127.0.0.1:2378/pre-hook" });
});

test("what is left out has a default", (t) => {
	const { arpanet, plugins } = parseConfig(HEAD, "ps.yml");
	t.is(arpanet.engine, "unix:///var/run/docker.sock");
	t.is(arpanet.consul.address, "http://127.0.0.1:8500");
	t.is(arpanet.pluginTimeout, 20_000);
	t.regex(arpanet.host.name, /^[a-z0-9-]+$/);
	t.deepEqual(
		plugins.map(({ name }) => name),
		Object.keys(builtins),
	);
});

test("the file that the project ships is good", async (t) => {
	const config = await loadConfig("powerstrip.yml");
	const found = await findPlugins(config.plugins, builtins, config.file);
	t.deepEqual(
		found.map(({ plugin }) => plugin.name),
		Object.keys(builtins),
	);
});

test("a file that is not there is named, with the remedy", async (t) => {
	await t.throwsAsync(loadConfig("/nowhere/ps.yml"), {
		instanceOf: ConfigError,
		message:
			/^\/nowhere\/ps\.yml: cannot be read \(.*\); name another with --config$/,
	});
});

const badList = test.macro({
	async exec(t, _: string, list: string, message: string | RegExp) {
		const text = `${HEAD}arpanet:\n  plugins:\n${list.replaceAll(/^/gm, "    ")}\n`;
		const { plugins, file } = parseConfig(text, "ps.yml");
		await t.throwsAsync(findPlugins(plugins, builtins, file), {
			instanceOf: ConfigError,
			message,
		});
	},
	title: (_, what: string) => what,
});

test(
	badList,
	"a plugin that needs another before it is never re-sorted",
	"- deployment-id\n- dhcp\n- placement",
	"ps.yml:8: plugin dhcp must stand after placement; put placement before it in the list",
);
test(
	badList,
	"a plugin stands in the list once",
	"- deployment-id\n- deployment-id",
	"ps.yml:8: plugin deployment-id stands in the list twice; remove or rename one",
);
test(
	badList,
	"a plugin that is nowhere",
	"- deployment\n",
	/^ps\.yml:7: plugin "deployment" is not found; it is no built-in, and no file or npm package/,
);
test(
	badList,
	"a path to nothing",
	"- ./mine.js\n",
	/^ps\.yml:7: plugin "\.\/mine\.js" is not found; .*a path starts with \.\//,
);
test(
	badList,
	"an unknown key of a plugin",
	"- deployment-id\n- placement\n- dhcp: {pol: 10.0.0.0/8}",
	'ps.yml:9: unknown key "pol" in dhcp (known: pool, reserved, size); remove it',
);
test(
	badList,
	"a plugin that takes no configuration",
	"- deployment-id: {x: 1}",
	'ps.yml:7: unknown key "x" in deployment-id; remove it',
);
test(
	badList,
	"a setting of the wrong kind",
	"- deployment-id\n- placement\n- dhcp: {size: many}",
	'ps.yml:9: dhcp.size is "many"; write a whole number',
);
test(
	badList,
	"a pool that is no subnet",
	"- deployment-id\n- placement\n- dhcp: {pool: wide}",
	/^ps\.yml:9: dhcp\.pool .*10\.32\.0\.0\/12/,
);
for (const pool of ["127.0.0.0/8", "224.0.0.0/4", "0.0.0.0/0"]) {
	test(
		badList,
		`a pool whose addresses no container can have (${pool})`,
		`- deployment-id\n- placement\n- dhcp: {pool: ${pool}}`,
		/^ps\.yml:9: dhcp\.pool .* whose addresses containers can have/,
	);
}
test(
	badList,
	"a search domain that is none",
	"- deployment-id\n- placement\n- dhcp\n- dns-search: {domain: 'service consul'}",
	'ps.yml:10: dns-search.domain ("service consul") is no domain; write one such as service.consul',
);
test(
	badList,
	"a reserved range that is no subnet",
	'- deployment-id\n- placement\n- dhcp: {reserved: ["10.0.0.0/33"]}',
	/^ps\.yml:9: dhcp\.reserved\.0 /,
);

test("a plugin by path is loaded with its configuration checked", async (t) => {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
	t.teardown(() => rm(folder, { recursive: true }));
	await writeFile(
		join(folder, "mine.mjs"),
		`export default { name: "mine", setup: () => ({}), schema: { type: "object",
			additionalProperties: false, properties: { colour: { type: "string", default: "red" } } } };`,
	);
	const entry = { name: "./mine.mjs", config: {}, where: "ps.yml:7" };
	const [found] = await findPlugins([entry], builtins, join(folder, "ps.yml"));
	t.is(found?.plugin.name, "mine");
	t.deepEqual(found?.config, { colour: "red" });
});

test("a package that has an export for import alone is found", async (t) => {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
	t.teardown(() => rm(folder, { recursive: true }));
	const at = join(folder, "node_modules/@mine/plugin");
	await mkdir(at, { recursive: true });
	const exports = { ".": { types: "./no.d.ts", import: "./index.js" } };
	await writeFile(
		join(at, "package.json"),
		JSON.stringify({ name: "@mine/plugin", type: "module", exports }),
	);
	await writeFile(
		join(at, "index.js"),
		`export default { name: "mine", setup: () => ({}) };`,
	);
	const entry = { name: "@mine/plugin", config: {}, where: "ps.yml:7" };
	const [found] = await findPlugins([entry], builtins, join(folder, "ps.yml"));
	t.is(found?.plugin.name, "mine");
});

test("a plugin that was compiled to CommonJS is loaded", async (t) => {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
	t.teardown(() => rm(folder, { recursive: true }));
	await writeFile(
		join(folder, "mine.cjs"),
		`Object.defineProperty(exports, "__esModule", { value: true });
		exports.default = { name: "mine", setup: () => ({}) };`,
	);
	const entry = { name: "./mine.cjs", config: {}, where: "ps.yml:7" };
	const [found] = await findPlugins([entry], builtins, join(folder, "ps.yml"));
	t.is(found?.plugin.name, "mine");
});

test("a plugin in TypeScript is to be compiled first, which is said", async (t) => {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
	t.teardown(() => rm(folder, { recursive: true }));
	await writeFile(join(folder, "mine.tsx"), "");
	const entry = { name: "./mine.tsx", config: {}, where: "ps.yml:7" };
	await t.throwsAsync(findPlugins([entry], builtins, join(folder, "ps.yml")), {
		message:
			/^ps\.yml:7: plugin "\.\/mine\.tsx" cannot be loaded: Unknown file extension .*; compile it, and name the JavaScript file$/,
	});
});

test("a plugin's schema may ask for one of its keys", async (t) => {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
	t.teardown(() => rm(folder, { recursive: true }));
	await writeFile(
		join(folder, "mine.mjs"),
		`export default { name: "mine", setup: () => ({}), schema: { type: "object",
			minProperties: 1, properties: { file: { type: "string" }, url: { type: "string" } } } };`,
	);
	const entry = { name: "./mine.mjs", config: {}, where: "ps.yml:7" };
	await t.throwsAsync(findPlugins([entry], builtins, join(folder, "ps.yml")), {
		message: 'ps.yml:7: mine needs "file" or "url"',
	});
});

for (const [what, code, message] of [
	[
		"that throws while it loads",
		'throw new Error("oops")',
		/cannot be loaded: oops$/,
	],
	[
		"without setup",
		"export default { name: 'x' }",
		/its default export must be \{name, setup\}$/,
	],
	[
		"whose `after` is no list",
		"export default { name: 'x', after: 'dhcp', setup: () => ({}) }",
		/its "after" must be a list of names$/,
	],
	[
		"with a schema that is none",
		"export default { name: 'x', schema: { properties: { a: { type: 'strin' } } }, setup: () => ({}) }",
		/its schema cannot be used: .*type/,
	],
	[
		"with a schema that says what ajv does not know",
		"export default { name: 'x', schema: { type: 'object', example: {} }, setup: () => ({}) }",
		/its schema cannot be used: strict mode: unknown keyword: "example"$/,
	],
	[
		"whose setup throws",
		"export default { name: 'x', setup() { throw new Error('no url') } }",
		/cannot be set up: no url$/,
	],
	[
		"whose setup gives no hooks",
		"export default { name: 'x', setup() {} }",
		/its setup gives no hooks; return an object of them$/,
	],
	[
		"whose setup gives a promise",
		"export default { name: 'x', setup: async () => { throw new Error('no url') } }",
		/its setup gives a promise; return the hooks at once, and wait in them$/,
	],
] as const) {
	test(`a file ${what} is named with its line`, async (t) => {
		const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
		t.teardown(() => rm(folder, { recursive: true }));
		await writeFile(join(folder, "bad.mjs"), code);
		const entry = { name: "./bad.mjs", config: {}, where: "ps.yml:7" };
		const error = await t.throwsAsync(
			async () => {
				const file = join(folder, "ps.yml");
				const found = await findPlugins([entry], builtins, file);
				setUp(found, {} as Services);
			},
			{ instanceOf: ConfigError, message },
		);
		t.true(
			error.message.startsWith('ps.yml:7: plugin "./bad.mjs"') ||
				error.message.startsWith('ps.yml:7: "./bad.mjs"') ||
				error.message.startsWith("ps.yml:7: plugin x"),
		);
	});
}
