import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { type FileOptions, readComposeFile } from "../../cli/compose-file.ts";

async function read(
	t: ExecutionContext,
	text: string,
	options: FileOptions = { project: "abc" },
) {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-file-"));
	t.teardown(() => rm(folder, { recursive: true }));
	const file = join(folder, "fig.yml");
	await writeFile(file, text);
	await writeFile(
		join(folder, ".env"),
		'# mine\nTAG=7\nQUOTED="8080" # x\nPLAIN=9090 # y\n',
	);
	const planned = await readComposeFile(file, options);
	return planned.map(({ name, body }) => ({
		name,
		body,
		host: body.HostConfig ?? {},
		folder,
	}));
}

test("fig.yml: names by _, what is needed first, a volume by its very name", async (t) => {
	const [redis, web] = await read(
		t,
		"web: {image: w, links: [redis], volumes: ['data:/d', './src:/src:ro', /anonymous]}\nredis: {image: 'redis:$TAG'}",
	);
	t.is(redis?.name, "abc_redis_1");
	t.is(redis?.body.Image, "redis:7");
	t.is(web?.name, "abc_web_1");
	t.deepEqual(web?.host.Binds, ["data:/d", `${web?.folder}/src:/src:ro`]);
});

test("a Compose file: names by -, copies, and labels as Compose sends them", async (t) => {
	const text =
		"services: {web: {image: w, deploy: {replicas: 2}}, job: {image: j, profiles: [x]}}";
	const planned = await read(t, text);
	t.deepEqual(
		planned.map(({ name }) => name),
		["abc-web-1", "abc-web-2"],
	);
	t.like(planned[1]?.body.Labels, {
		"com.docker.compose.project": "abc",
		"com.docker.compose.service": "web",
		"com.docker.compose.container-number": "2",
	});
	const more = await read(t, text, { project: "x", scale: { web: 4 } });
	t.is(more.length, 4);
});

test("copies that are no number, or of no service, are refused by name", async (t) => {
	const text = "web: {image: w, scale: two}\ndb: {image: d}";
	await t.throwsAsync(read(t, text), {
		message: "service web is to have two copies; write a whole number",
	});
	const scale = { web: 1, wbe: 3 };
	await t.throwsAsync(read(t, text, { project: "abc", scale }), {
		message: "--scale wbe: the file has no such service (it has web, db)",
	});
});

test("the folder's name is the project's, without what no name may have", async (t) => {
	const [web] = await read(t, "web: {image: w}", {});
	t.regex(web?.name ?? "", /^arpanet-file-\w+_web_1$/);
	const [empty] = await read(t, "web: {image: w}", { project: "" });
	t.regex(empty?.name ?? "", /^arpanet-file-\w+_web_1$/);
	const [upper] = await read(t, "web: {image: w}", { project: "My Shop" });
	t.is(upper?.name, "myshop_web_1");
});

// a % stands for a $, which Biome takes for a template's
for (const [text, expected] of [
	["%QUOTED-%{PLAIN}", "8080-9090"],
	["a%{TAG:+-dbg}", "a-dbg"],
	["a%{UNSET_BY_ALL:+-dbg}", "a"],
	["%{UNSET_BY_ALL:-%{NOR_THIS:-z}}", "z"],
	["%{UNSET_BY_ALL:-%{NOR_THIS-%{TAG}}}:1", "7:1"],
	["%{TAG:?must be}", "7"],
	["%%{TAG}", "%{TAG}"],
].map((row) => row.map((each) => each.replaceAll("%", "$")))) {
	test(`${text} becomes ${expected}`, async (t) => {
		const [web] = await read(t, `web: {image: '${text}'}`);
		t.is(web?.body.Image, expected);
	});
}

for (const [setting, expected] of [
	[
		"ports: [80]",
		{ PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "" }] } },
	],
	[
		"ports: ['8080:80']",
		{ PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] } },
	],
	[
		"ports: ['80:80', '8080:80']",
		{
			PortBindings: {
				"80/tcp": [
					{ HostIp: "", HostPort: "80" },
					{ HostIp: "", HostPort: "8080" },
				],
			},
		},
	],
	[
		"ports: ['127.0.0.1:53:53/udp']",
		{ PortBindings: { "53/udp": [{ HostIp: "127.0.0.1", HostPort: "53" }] } },
	],
	[
		"ports: ['8000-8001:80-81']",
		{
			PortBindings: {
				"80/tcp": [{ HostIp: "", HostPort: "8000" }],
				"81/tcp": [{ HostIp: "", HostPort: "8001" }],
			},
		},
	],
	[
		"ports: ['8000-8010:80']",
		{ PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "" }] } },
	],
	[
		"ports: [{target: 80, published: 8080}]",
		{ PortBindings: { "80/tcp": [{ HostIp: "", HostPort: "8080" }] } },
	],
	["mem_limit: 1.5g", { Memory: 1.5 * 2 ** 30 }],
	["mem_reservation: 64m", { MemoryReservation: 64 * 2 ** 20 }],
	["cpus: 0.5", { NanoCpus: 5e8 }],
	[
		"deploy: {resources: {limits: {cpus: '2', memory: 1g}}}",
		{ NanoCpus: 2e9, Memory: 2 ** 30 },
	],
	[
		"volumes_from: [db, 'container:other:ro']",
		{ VolumesFrom: ["abc-db-1", "other"] },
	],
	["network_mode: 'service:db'", { NetworkMode: "container:abc-db-1" }],
	["pid: host", { PidMode: "host" }],
	["volumes: ['data:/d']", { Binds: ["abc_data:/d"] }],
	["volumes: ['shared:/d']", { Binds: ["shared:/d"] }],
	["volumes: ['mine:/d']", { Binds: ["own:/d"] }],
	["volumes: [{type: bind, source: /srv, target: /s}]", { Binds: ["/srv:/s"] }],
	["volumes: [{type: tmpfs, target: /s}]", { Binds: [] }],
	["secrets: [key]", { Binds: ["/srv/key:/run/secrets/key:ro"] }],
	[
		"secrets: [{source: key, target: k.pem}]",
		{ Binds: ["/srv/key:/run/secrets/k.pem:ro"] },
	],
	["configs: [conf]", { Binds: ["/srv/conf:/conf:ro"] }],
	["secrets: [apart], configs: [inline]", { Binds: [] }],
	["networks: [out]", { NetworkMode: "out" }],
] as const) {
	test(`${setting} is what the API says as ${JSON.stringify(expected)}`, async (t) => {
		const planned = await read(
			t,
			[
				"services:",
				"  db: {image: d}",
				`  web: {image: w, ${setting}}`,
				"volumes: {data: , shared: {external: true}, mine: {name: own}}",
				"networks: {out: {external: true}}",
				"secrets: {key: {file: /srv/key}, apart: {external: true}}",
				"configs: {conf: {file: /srv/conf}, inline: {content: x}}",
			].join("\n"),
		);
		t.like(planned.find(({ name }) => name === "abc-web-1")?.host, expected);
	});
}

test("environment and labels are lists or mappings; a variable has its default", async (t) => {
	const [a, b] = await read(
		t,
		[
			"services:",
			`  a: {image: i, environment: ['constraint:node==${"$"}{UNSET_BY_ALL:-h1}'], labels: [x=y]}`,
			"  b: {image: i, environment: {A: 1}, labels: {x: y}}",
		].join("\n"),
	);
	t.deepEqual(a?.body.Env, ["constraint:node==h1"]);
	t.deepEqual(b?.body.Env, ["A=1"]);
	t.is(a?.body.Labels?.x, "y");
	t.is(b?.body.Labels?.x, "y");
});

test("what is not followed is said, with what to do", async (t) => {
	await t.throwsAsync(read(t, "web: {extends: {service: other}}"), {
		message: /service web extends another.*docker-compose config/,
	});
	for (const port of ["1-999999999999:80", "http:80", "9-8"]) {
		await t.throwsAsync(read(t, `web: {image: w, ports: ['${port}']}`), {
			message: /^service web: ".*" is neither a port nor a range of ports$/,
		});
	}
	await t.throwsAsync(read(t, "- no"), { message: /is no fig.yml/ });
});
