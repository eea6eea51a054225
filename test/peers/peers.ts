/**
 * docker-compose's own tests, as its authors wrote them: on one engine, then through a gateway of three hosts.
 *
 *     npm run peers                       forty minutes
 *     npm run peers -- -k test_up         pytest's own options, or tests by path
 *
 * Tells of each test that passes on the engine and not through the gateway, with its reason in
 * docs/cluster-differences.md. One without a reason is an error.
 * What pytest and arpanet said is kept in .cache/peers/.
 */
import { createWriteStream } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
	bold,
	heading,
	say,
	sayError,
	secondsSince,
	Trouble,
} from "../../examples/demo/narrate.ts";
import { cacheFolder, projectRoot } from "../../examples/images/tools.ts";
import { startCluster } from "../lab/cluster.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, startLab } from "../lab/lab.ts";
import { MIRRORS, startHub } from "./hub.ts";

const FOLDER = join(cacheFolder, "docker-compose");
const PYTEST = join(cacheFolder, "pytest/usr/lib/python3/dist-packages");
const TESTS = ["tests/integration", "tests/acceptance"];
const LOGS = join(cacheFolder, "peers");
/** What the tests make, and leave. */
const LEFT = ["test-metrics-docker-cli.sock", "home-dir", "host-path"];

/** How each test ended, by class and name. */
type Endings = Map<string, "passed" | "failed" | "skipped">;

try {
	await main(process.argv.slice(2));
} catch (error) {
	sayError(error, "peers");
	process.exitCode = 1;
}
process.exit();

async function main(options: string[]): Promise<void> {
	const paths = options.some((option) => option.startsWith("tests/"));
	const chosen = paths ? options : [...options, ...TESTS];
	await mkdir(LOGS, { recursive: true });

	heading("docker-compose's own tests on one engine");
	const direct = await onEngine(chosen);
	heading("Through a gateway of three hosts");
	const through = await throughGateway(chosen);
	heading("Tests that pass on one engine alone");
	compare(direct, through, await exceptions());
}

async function onEngine(chosen: string[]): Promise<Endings> {
	const lab = await startLab({ consul: false, engineConfig: MIRRORS });
	try {
		const [host] = lab.hosts as [Host];
		await loadImages(host);
		await startHub(lab.hosts);
		const env = { DOCKER_HOST: host.docker };
		return await pytest("engine", chosen, host, env);
	} finally {
		await lab.stop();
	}
}

async function throughGateway(chosen: string[]): Promise<Endings> {
	const lab = await startCluster({ hosts: 3, engineConfig: MIRRORS });
	try {
		await startHub(lab.hosts);
		const last = lab.hosts.length - 1; // the first builds and pulls
		const env = {
			...lab.certificates.client,
			DOCKER_HOST: lab.gateways[last]?.docker,
		};
		return await pytest("gateway", chosen, lab.hosts[last] as Host, env);
	} finally {
		for (const [i, gateway] of lab.gateways.entries()) {
			await writeFile(join(LOGS, `arpanet-h${i + 1}.log`), gateway.log());
		}
		await lab.stop();
	}
}

/** Runs the tests on a host of a lab, which ends them if they have not when it stops. */
async function pytest(
	name: string,
	chosen: string[],
	host: Host,
	env: NodeJS.ProcessEnv,
): Promise<Endings> {
	const start = performance.now();
	const report = join(LOGS, `${name}.xml`);
	await rm(report, { force: true });
	const child = host.spawn(
		"/usr/bin/python3", // Debian's, with the docker-py that docker-compose runs on
		[
			...["-m", "pytest", "--verbose", "--tb=short", "--timeout=300"],
			...["-o", "addopts=", "-p", "no:cacheprovider", "-W", "ignore"],
			...[`--junitxml=${report}`, ...chosen],
		],
		{
			cwd: FOLDER,
			stdio: ["ignore", "pipe", "pipe"],
			env: {
				...env,
				PATH: "/usr/bin:/bin:/usr/sbin:/sbin",
				LANG: "C.UTF-8",
				HOME: host.dataDir,
				PYTHONPATH: PYTEST,
				PYTHONDONTWRITEBYTECODE: "1",
			},
		},
	);
	const log = createWriteStream(join(LOGS, `${name}.log`));
	child.stdout?.pipe(log, { end: false });
	child.stderr?.pipe(log, { end: false });
	const code = await new Promise((resolve) => child.once("close", resolve));
	await new Promise<void>((resolve) => log.end(resolve));
	for (const each of LEFT) {
		await rm(join("/tmp", each), { recursive: true, force: true });
	}
	// 1 is for tests that failed
	if (code !== 0 && code !== 1) {
		throw new Trouble("pytest did not come to its end", `Look at ${log.path}`);
	}
	const endings = read(await readFile(report, "utf8"));
	const all = [...endings.values()];
	const sums = (["passed", "failed", "skipped"] as const).map(
		(each) => `${all.filter((ending) => ending === each).length} ${each}`,
	);
	say(`${sums.join(", ")} in ${secondsSince(start)}`);
	return endings;
}

/** From pytest's report, which tells twice of a test after which something failed. */
function read(report: string): Endings {
	const endings: Endings = new Map();
	for (const part of report.split("<testcase ").slice(1)) {
		const [, type, name] =
			/^classname="[^"]*?(\w*)" name="([^"]*)"/.exec(part) ?? [];
		const test = `${type}.${name}`;
		if (endings.get(test) === "failed") continue;
		const [, ending] = /<(failure|error|skipped)\b/.exec(part) ?? [];
		const bad = ending === "skipped" ? "skipped" : "failed";
		endings.set(test, ending ? bad : "passed");
	}
	return endings;
}

/** Why tests cannot pass, by class and name: rows of the documentation. */
async function exceptions(): Promise<Map<string, string>> {
	const file = join(projectRoot, "docs/cluster-differences.md");
	const rows = (await readFile(file, "utf8")).matchAll(
		/^\| (`\w+\.test_.*`) \| (.*) \|$/gm,
	);
	const named = ([, tests = "", why = ""]: string[]) =>
		[...tests.matchAll(/`([^`]+)`/g)].map(([, test]) => [test, why] as const);
	return new Map([...rows].flatMap(named) as [string, string][]);
}

function compare(
	direct: Endings,
	through: Endings,
	reasons: Map<string, string>,
): void {
	for (const [test, ending] of direct) {
		const why = reasons.get(test);
		const there = through.get(test) ?? "not run";
		if (ending !== "passed") continue;
		if (there === "passed") {
			if (why) say(`${test}: passes, though ${why}`);
		} else if (why) {
			say(`${test}: ${why}`);
		} else {
			say(bold(`${test}: ${there}, and nobody knows why`));
			process.exitCode = 1;
		}
	}
}
