import { readFile } from "node:fs/promises";
import { join } from "node:path";
import test from "ava";
import { projectRoot, run } from "../../examples/images/tools.ts";
import { arpanetProgram } from "../lab/arpanet.ts";
import { arpanet } from "./command.ts";

test.serial("arpanet tells its version", async (t) => {
	const text = await readFile(join(projectRoot, "package.json"), "utf8");
	const { code, stdout } = await arpanet(["--version"]);
	t.is(code, 0);
	t.is(stdout, `${(JSON.parse(text) as { version: string }).version}\n`);
});

const helps = test.macro({
	title: (_, command: string) => `arpanet ${command} --help has an example`,
	async exec(t, command: string) {
		const words = command ? [command] : [];
		const { code, stdout } = await arpanet([...words, "--help"]);
		t.is(code, 0);
		t.regex(stdout, new RegExp(`\\nExample:\\n.*arpanet ${command || "up"}`));
		t.regex(stdout, /--config <file>/);
	},
});
for (const command of [
	"",
	"up",
	"gateway",
	"adapter",
	"agent",
	"ps",
	"try",
	"check",
]) {
	test.serial(helps, command);
}

const refused = test.macro({
	title: (_, args: string[]) => `arpanet ${args.join(" ")} is refused`,
	async exec(t, args: string[], message: RegExp) {
		const { code, stderr } = await arpanet(args);
		t.is(code, 1);
		t.regex(stderr, message);
	},
});
test.serial(refused, ["dance"], /unknown command 'dance'/);
test.serial(refused, ["up", "--loud"], /unknown option '--loud'/);
test.serial(
	refused,
	["up", "--log-level", "loud"],
	/Allowed choices are trace, debug/,
);
for (const days of ["1y", "0", "1.5"]) {
	test.serial(
		refused,
		["certs", "/dev/null/no", "10.0.0.1", "--days", days],
		/--days <days>' argument '\S+' is invalid\. Write a whole number, 1 or more\.$/m,
	);
}
for (const scale of ["web=two", "web", "web=", "=2", "web=-1"]) {
	test.serial(
		refused,
		["plan", "-f", "/nowhere.yml", "--scale", scale],
		/--scale <service=number>' argument '\S+' is invalid\. Write a service and a whole number, such as web=2\.$/m,
	);
}
test.serial(refused, ["try"], /missing required argument 'file'/);
test.serial(
	refused,
	["ps", "-c", "/nowhere.yml"],
	/^arpanet: \/nowhere\.yml: cannot be read .*--config/,
);

test.serial(
	"a command whose reader has seen enough ends in silence",
	async (t) => {
		const { stderr } = await run("sh", [
			...["-c", '"$@" | true', "sh"],
			...[process.execPath, arpanetProgram, "check", "-c", "/nowhere.yml"],
		]);
		t.is(stderr, "");
	},
);

test.serial("the types of the sample plugins are right", async (t) => {
	const { code, stdout } = await run(
		join(projectRoot, "node_modules/.bin/tsc"),
		["-p", join(projectRoot, "examples/plugins")],
	);
	t.is(code, 0, stdout);
});
