import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
	ARPANET,
	configFile,
	explainArpanet,
	showDeployments,
	startArpanet,
} from "./demo/arpanet.ts";
import type { Stage } from "./demo/command.ts";
import { useEngine } from "./demo/engine.ts";
import {
	bold,
	green,
	heading,
	Interrupted,
	say,
	sayCommand,
	sayError,
	sayOutput,
	sayPath,
	secondsSince,
	Trouble,
} from "./demo/narrate.ts";
import {
	checkProjectsFree,
	copiesOf,
	FIG,
	PROJECTS,
	scale,
	up,
	webOf,
} from "./demo/shop.ts";
import { readState, type State, writeState } from "./demo/state.ts";
import { takeDown } from "./demo/take-down.ts";
import { sameProcess, startTime } from "./demo/traces.ts";
import {
	bars,
	checkOrigin,
	checkShares,
	share,
	visit,
} from "./demo/traffic.ts";

const USAGE = `Usage: npm run demo [-- OPTION]

Puts the shop of examples/shop up twice through arpanet, shows that each is a world of its own,
and takes it down again. Leaves no trace.

  --keep      leave it up, to play with
  --down      take down what --keep, or a demo that was killed, has left up
  --hosts N   the same over N Docker hosts (2 to 9) in network namespaces; --keep then stays until Ctrl-C
  --help      this text
`;
const COPIES = 3;
const VISITS = 30;

const start = performance.now();
const abort = new AbortController();
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
	process.on(signal, () => {
		const first = !abort.signal.aborted;
		abort.abort();
		if (first) say(`${signal}: taking down what is up ...`);
		else say("Taking it down already; a moment.");
	});
}

try {
	process.exitCode = await main(process.argv.slice(2));
} catch (error) {
	sayError(error);
	process.exitCode = 1;
}

async function main(args: string[]): Promise<number> {
	const hosts = hostsIn(args);
	const unknown = args.find(
		(arg) => !["--keep", "--down", "--help", "-h"].includes(arg),
	);
	if (unknown) throw new Trouble(`unknown option ${unknown}`, USAGE);
	if (args.includes("--help") || args.includes("-h")) {
		process.stdout.write(USAGE);
		return 0;
	}
	if (process.getuid?.() !== 0) {
		throw new Trouble(
			"containers, bridges and DNS on port 53 need root.",
			"Run it as root: sudo npm run demo",
		);
	}
	if (hosts) {
		const { performOverHosts } = await import("./demo/hosts.ts");
		return performOverHosts(hosts, args.includes("--keep"), abort.signal);
	}
	const old = await readState();
	if (args.includes("--down")) return bringDown(old);
	await makeWay(old);
	return perform(args.includes("--keep"));
}

/** Takes `--hosts N` out of the arguments. @throws Trouble for anything but a number of hosts */
function hostsIn(args: string[]): number | undefined {
	const at = args.indexOf("--hosts");
	if (at < 0) return undefined;
	const [, count = ""] = args.splice(at, 2);
	if (/^[2-9]$/.test(count)) return Number(count);
	throw new Trouble("--hosts wants a number from 2 to 9.", USAGE);
}

/** `--down`. */
async function bringDown(state: State | undefined): Promise<number> {
	if (!state) {
		say("No demo is up.");
		return 0;
	}
	const { pid, started } = state.owner;
	if (!state.kept && (await sameProcess(pid, started)).length > 0) {
		say(
			`A demo is at work: telling it to stop (kill ${pid}); it takes itself down.`,
		);
		process.kill(pid, "SIGTERM");
		return 0;
	}
	heading("Taking the demo down");
	await takeDown(state);
	return 0;
}

/** One demo at a time: what a killed one has left is removed first. */
async function makeWay(state: State | undefined): Promise<void> {
	if (!state) return;
	const { pid, started } = state.owner;
	if ((await sameProcess(pid, started)).length > 0) {
		throw new Trouble(
			`a demo is at work (process ${pid}).`,
			"Wait for its end, or stop it: npm run demo -- --down",
		);
	}
	if (state.kept) {
		throw new Trouble(
			"the demo that was kept is still up.",
			"Take it down first: npm run demo -- --down",
		);
	}
	heading("An earlier demo was killed: removing what it left");
	await takeDown(state);
}

/** The demo itself, which is taken down whatever happens in it. */
async function perform(keep: boolean): Promise<number> {
	const folder = await mkdtemp(join(tmpdir(), "arpanet-demo-"));
	const owner = { pid: process.pid, started: await startTime(process.pid) };
	const state: State = { owner, folder };
	await writeState(state);
	const stage: Stage = { folder, signal: abort.signal };
	let failure: unknown;
	try {
		await show(stage, state);
	} catch (error) {
		failure = abort.signal.aborted ? new Interrupted() : error;
		if (!abort.signal.aborted) {
			sayError(error);
			await explainArpanet(state);
		}
	}
	if (!failure && keep && !abort.signal.aborted) {
		state.kept = true;
		await writeState(state);
		explain(state);
		return 0;
	}
	heading("Taking it all down");
	await takeDown(state);
	if (failure instanceof Interrupted) return 130;
	if (failure) return 1;
	process.stdout.write(
		`\n${green("Done")} in ${secondsSince(start)}. Leave it up to play with: npm run demo -- --keep\n`,
	);
	return 0;
}

async function show(stage: Stage, state: State): Promise<void> {
	process.stdout.write(
		`${bold("arpanet: one unchanged fig.yml, up twice, each in a world of its own")}\n`,
	);
	heading("1. An engine");
	await useEngine(stage, state);
	await checkProjectsFree(stage, state);

	heading("2. arpanet");
	await startArpanet(stage, state);

	heading(`3. The same ${FIG} as abc and as xyz, by stock docker-compose`);
	sayCommand(`export DOCKER_HOST=${state.gateway}`);
	for (const project of PROJECTS) await up(stage, state, project);
	say(`More work for pricing: ${COPIES} copies of it in each.`);
	for (const project of PROJECTS) {
		await scale(stage, state, project, `pricing=${COPIES}`);
	}

	heading("4. Who is where, and by which name");
	await showDeployments(stage);

	heading(`5. ${VISITS} visits to each web`);
	await showTraffic(stage, state);
}

async function showTraffic(stage: Stage, state: State): Promise<void> {
	const copies = new Map(
		await Promise.all(
			PROJECTS.map(
				async (project) =>
					[project, await copiesOf(stage, state, project)] as const,
			),
		),
	);
	for (const [project, own] of copies) {
		const url = await webOf(stage, state, project);
		const pages = await visit(url, VISITS, stage.signal);
		const shares = share(pages, own, "pricing");
		say(`${VISITS} x GET ${url}; in ${project}, "pricing" was answered by`);
		sayOutput(bars(shares));
		checkShares(shares, COPIES);
		const others = [...copies].flatMap(([other, list]) =>
			other === project ? [] : list,
		);
		const answers = checkOrigin(project, pages, own, others);
		const foreign = PROJECTS.filter((other) => other !== project).join(", ");
		say(
			`${green("✓")} all ${answers} answers behind these pages came from ${project}'s own containers, none from ${foreign}'s.`,
		);
	}
}

function explain({ folder, gateway, engine }: State): void {
	const file = configFile(folder);
	heading("It stays up. To play with it:");
	sayPath();
	sayCommand(`export DOCKER_HOST=${gateway}`);
	sayCommand(`docker-compose -p abc -f ${FIG} ps`);
	sayCommand(`docker-compose -p abc -f ${FIG} up -d --scale pricing=5`);
	sayCommand("docker exec abc_web_1 wget -q -O - http://pricing/");
	sayCommand(`node ${ARPANET} ps --config ${file}`);
	say(`The engine itself is at ${engine}, the logs are in ${folder}.`);
	say("To take it down:");
	sayCommand("npm run demo -- --down");
}
