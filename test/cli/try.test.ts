import test from "ava";
import { arpanet, configured, samples } from "./command.ts";

const fig = {
	Image: "busybox",
	Env: ["A=b"],
	Labels: {
		"com.docker.compose.project": "abc",
		"com.docker.compose.service": "web",
		"com.docker.compose.container-number": "1",
		"com.docker.compose.oneoff": "False",
	},
	HostConfig: {
		NetworkMode: "default",
		Links: ["abc_auth_1:auth", "abc_redis_1:cache"],
	},
};

function tried(body: object, args: readonly string[] = []) {
	return arpanet(["try", "-", "--name", "abc_web_1", ...args], {
		input: JSON.stringify(body),
	});
}

test.serial(
	"try shows a create body before and after the chain, and who set which fact",
	async (t) => {
		const { code, stdout, stderr } = await tried(fig, ["--host", "node7"]);
		t.is(code, 0, stderr);
		t.regex(stdout, /^deployment-id: deployment=abc, service=web, index=1$/m);
		t.regex(stdout, /^placement: host=node7, slot=\d+$/m);
		t.regex(stdout, /^dhcp: network=abc, address=10\.3\d\.\d+\.\d+$/m);
		t.regex(stdout, /^ {2}Image: busybox$/m);
		t.regex(stdout, /^- {3}NetworkMode: default$/m);
		t.regex(stdout, /^\+ {3}NetworkMode: abc_default$/m);
		t.regex(stdout, /^- +- abc_redis_1:cache$/m);
		t.regex(stdout, /^\+ +- abc\.service\.consul$/m);
		t.regex(stdout, /^\+ +arpanet\.host: node7$/m);
		t.regex(stdout, /^\+ +IPv4Address: 10\.32\.0\.\d+$/m);
	},
);

test.serial(
	"try makes the network that Compose v2 would have made before",
	async (t) => {
		const { code, stdout, stderr } = await tried({
			...fig,
			HostConfig: { NetworkMode: "abc_default" },
		});
		t.is(code, 0, stderr);
		t.regex(stdout, /^dhcp: network=abc, address=/m);
		t.regex(stdout, /^ {4}NetworkMode: abc_default$/m);
	},
);

test.serial("try says so when a container is none of arpanet's", async (t) => {
	const { code, stdout } = await arpanet(["try", "-"], {
		input: '{"Image":"busybox"}',
	});
	t.is(code, 0);
	t.regex(stdout, /^None of arpanet's.*\nA deployment id makes it ours/);
	const disabled = await tried({ Labels: { "arpanet.enabled": "false" } });
	t.regex(disabled.stdout, /^None of arpanet's: its label.*\n$/);
});

test.serial("try shows a refusal as the client would read it", async (t) => {
	const { code, stdout } = await tried({
		Labels: { "arpanet.deployment": "A b" },
	});
	t.is(code, 1);
	t.regex(stdout, /deployment-id: refuses\nThe client reads, with status 400:/);
	t.regex(stdout, /^ {2}deployment-id: "A b" is no DNS label; use /m);
});

const refusesInput = test.macro({
	title: (_, input: string) => `try refuses the body ${input}`,
	async exec(t, input: string, message: RegExp) {
		const { code, stderr } = await arpanet(["try", "-"], { input });
		t.is(code, 1);
		t.regex(stderr, message);
	},
});
test.serial(
	refusesInput,
	"{",
	/^arpanet: standard input is not JSON: .*create/,
);
test.serial(
	refusesInput,
	"[]",
	/^arpanet: standard input is not a JSON object; give/,
);

for (const command of [["try"], ["plan", "-f"]]) {
	test.serial(`${command[0]} names a file that is not there`, async (t) => {
		const { code, stderr } = await arpanet([...command, "nosuch.json"]);
		t.is(code, 1);
		t.regex(stderr, /^arpanet: nosuch\.json cannot be read \(ENOENT\); name a/);
	});
}

test.serial(
	"the sample plugins work by path and by the name of an npm package",
	async (t) => {
		const file = await configured(t, {
			host: { name: "node1" },
			plugins: [
				"deployment-id",
				{ [`${samples}/team-label.js`]: { team: "shop", known: ["shop"] } },
				"placement",
				{ "arpanet-plugin-quiet-hosts": { avoid: ["node3"] } },
				"dhcp",
			],
		});
		const good = await tried(fig, ["-c", file]);
		t.is(good.code, 0, good.stdout + good.stderr);
		t.regex(good.stdout, /^team-label: team=shop, amends the body$/m);
		t.regex(good.stdout, /^\+ {3}- TEAM=shop$/m);
		t.regex(good.stdout, /^\+ {3}arpanet\.team: shop$/m);

		const body = { ...fig, Labels: { ...fig.Labels, team: "ops" } };
		const unknown = await tried(body, ["-c", file]);
		t.is(unknown.code, 1);
		t.regex(
			unknown.stdout,
			/status 400:\n {2}team-label: there is no team ops;/,
		);

		const away = await tried(fig, ["-c", file, "--host", "node3"]);
		t.is(away.code, 1);
		t.regex(
			away.stdout,
			/status 409:\n {2}placement: no host can run abc_web_1: node3: is being looked after/,
		);
	},
);

const failingPlugin = test.macro({
	title: (_, what: string) => `a plugin that ${what} says so to the client`,
	async exec(t, _: string, create: string, message: RegExp) {
		const source = `export default {name: "bad", setup: () => ({${create}})};`;
		const file = await configured(
			t,
			{ pluginTimeout: 200, plugins: ["deployment-id", "./bad.js"] },
			{ "bad.js": source, "package.json": '{"type": "module"}' },
		);
		const { code, stdout } = await tried(fig, ["-c", file]);
		t.is(code, 1);
		t.regex(stdout, message);
	},
});
test.serial(
	failingPlugin,
	"throws",
	'create() { throw new TypeError("oh no"); }',
	/status 500:\n {2}plugin bad: create failed: oh no\n\nTypeError: oh no\n {4}at .*create \(.*bad\.js/,
);
test.serial(
	failingPlugin,
	"never answers",
	"create: () => new Promise(() => {})",
	/status 504:\n {2}plugin bad: create took longer than 200 ms/,
);

test.serial(
	"a plugin's timer keeps no command, and none that failed",
	async (t) => {
		const file = await configured(
			t,
			{
				...{
					adapter: { listen: "tcp://192.0.2.1:2378" },
					insecure: true,
				},
				...{ consul: { address: "http://127.0.0.1:1" } },
				plugins: ["deployment-id", "placement", "dhcp", "./timer.mjs"],
			},
			{
				"timer.mjs":
					'export default {name: "timer", setup() { setInterval(() => {}, 1000); return {}; }};',
			},
		);
		const shown = await tried(fig, ["-c", file]);
		t.is(shown.code, 0, shown.stderr);
		const role = await arpanet(["adapter", "-c", file], { timeout: 20_000 });
		t.is(role.code, 1);
		t.regex(role.stderr, /^arpanet: .*192\.0\.2\.1/m);
	},
);

const badList = test.macro({
	title: (_, what: string) => `a plugin list is refused ${what}`,
	async exec(
		t,
		_: string,
		command: string[],
		plugins: unknown[],
		message: RegExp,
	) {
		const file = await configured(t, { plugins });
		const { code, stdout, stderr } = await arpanet([...command, "-c", file], {
			input: "{}",
		});
		t.is(code, 1);
		t.regex(stdout + stderr, message);
	},
});
test.serial(
	badList,
	"with a plugin that is not there",
	["up"],
	["deployment-id", "./nowhere.js"],
	/powerstrip\.yml:6: plugin "\.\/nowhere\.js" is not found; /,
);
test.serial(
	badList,
	"with a plugin in the wrong order",
	["check"],
	["dhcp", "deployment-id", "placement"],
	/powerstrip\.yml:5: plugin dhcp must stand after deployment-id; put deployment-id before it/,
);
test.serial(
	badList,
	"with a misspelt key",
	["try", "-"],
	["deployment-id", "placement", { dhcp: { poool: "10.0.0.0/8" } }],
	/powerstrip\.yml:7: unknown key "poool" in dhcp .*; remove it/,
);
