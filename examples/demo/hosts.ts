import { dirname } from "node:path";
import { arpanetProgram } from "../../test/lab/arpanet.ts";
import { type LabCluster, startCluster } from "../../test/lab/cluster.ts";
import type { Host } from "../../test/lab/lab.ts";
import { ARPANET, without } from "./arpanet.ts";
import { command, type Stage } from "./command.ts";
import { docker } from "./engine.ts";
import {
	bold,
	green,
	heading,
	Interrupted,
	say,
	sayCommand,
	sayDone,
	sayError,
	sayOutput,
	sayPath,
	secondsSince,
	Trouble,
} from "./narrate.ts";
import {
	type Copy,
	compose,
	copiesOf,
	create,
	type Docker,
	FIG,
	found,
	scale,
} from "./shop.ts";
import { bars, checkOrigin, checkShares, share, visit } from "./traffic.ts";

/** Copies of pricing in each deployment, and in abc once a host is drained. */
const COPIES = { abc: 6, xyz: 3 } as const;
const MORE = 8;
/** So many that each of six copies is visited: that one is left out by chance happens once in 90,000 times. */
const VISITS = 72;

type Project = keyof typeof COPIES;
const PROJECTS = Object.keys(COPIES) as Project[];

/** The hosts, and what a stock client is given to reach them. */
interface Scene {
	lab: LabCluster;
	stage: Stage;
}

/**
 * The shop over several hosts, in a lab of network namespaces: every part is what a real host has.
 * It is taken down whatever happens, at the latest by the lab's guard.
 * @param keep stay until the signal before that
 * @returns exit code
 */
export async function performOverHosts(
	hosts: number,
	keep: boolean,
	signal: AbortSignal,
): Promise<number> {
	const start = performance.now();
	process.stdout.write(
		`${bold(`arpanet: one unchanged fig.yml, up twice, over ${hosts} Docker hosts`)}\n`,
	);
	heading(`1. ${hosts} hosts, each with an engine, a Consul and arpanet`);
	const waiting = setInterval(() => {}, 60_000); // a lab alone does not keep the process
	let lab: LabCluster | undefined;
	let failure: unknown;
	try {
		lab = await startCluster({ hosts });
		const folder = dirname(lab.certificates.folder);
		const stage = { folder, signal, client: lab.certificates.client };
		if (signal.aborted) throw new Interrupted();
		await show({ lab, stage }, secondsSince(start));
		if (keep) await stay(lab, signal);
		else await down({ lab, stage });
	} catch (error) {
		failure = signal.aborted ? new Interrupted() : error;
		if (!signal.aborted) sayError(error);
	}
	heading("Taking the hosts down");
	await lab?.stop();
	clearInterval(waiting);
	say("Nothing is left: no host, container, process, bridge, mount or file.");
	if (failure instanceof Interrupted) return keep ? 0 : 130;
	if (failure) return 1;
	process.stdout.write(
		`\n${green("Done")} in ${secondsSince(start)}. Hosts to play with: npm run lab -- ${hosts}\n`,
	);
	return 0;
}

async function show(scene: Scene, took: string): Promise<void> {
	await arpanet(scene, "hosts");
	say(`ready in ${took}`);

	heading(`2. The same ${FIG} as abc and as xyz, through different gateways`);
	for (const [name, value] of Object.entries(scene.stage.client ?? {})) {
		if (name.startsWith("DOCKER")) sayCommand(`export ${name}=${value}`);
	}
	for (const [i, project] of PROJECTS.entries()) {
		const through = gateway(scene, i);
		sayCommand(`export DOCKER_HOST=${through.gateway}`);
		await create(scene.stage, through, project);
		const scaling = `pricing=${COPIES[project]}`;
		await scale(scene.stage, through, project, scaling);
	}

	heading("3. Who is where");
	await arpanet(scene, "ps");

	heading(`4. ${VISITS} visits to each web`);
	await showTraffic(scene);

	heading("5. Neither reaches the other");
	await showIsolation(scene);

	heading("6. A host is drained");
	await showDrain(scene);
}

/** A command of arpanet on the first host, and what it gives. */
async function arpanet({ lab }: Scene, ...args: string[]): Promise<void> {
	const [host] = lab.hosts as [Host];
	sayCommand(`node ${ARPANET} ${args.join(" ")}`);
	const config = lab.gateways[0]?.config ?? "";
	const { code, stdout, stderr } = await host.exec(process.execPath, [
		...[arpanetProgram, ...args, "-c", config],
	]);
	if (code !== 0) throw new Trouble(stderr.trim());
	sayOutput(args[0] === "ps" ? without(stdout, ["STATE", "NAME"]) : stdout);
}

/** Any of the gateways: each is the whole cluster. */
function gateway({ lab }: Scene, i: number): Docker {
	const { docker } = lab.gateways[i % lab.gateways.length] as {
		docker: string;
	};
	return { gateway: docker, engine: docker };
}

async function showTraffic(scene: Scene): Promise<void> {
	const copies = new Map<Project, Copy[]>();
	for (const project of PROJECTS) {
		copies.set(
			project,
			await copiesOf(scene.stage, gateway(scene, 2), project),
		);
	}
	for (const [project, own] of copies) {
		const url = await webOf(scene, project, own);
		const pages = await visit(url, VISITS, scene.stage.signal);
		const shares = share(pages, own, "pricing");
		say(`${VISITS} x GET ${url}; in ${project}, "pricing" was answered by`);
		sayOutput(
			bars(
				shares.map(({ copy, count }) => ({
					copy: { ...copy, container: `${copy.container} on ${copy.host}` },
					count,
				})),
			),
		);
		checkShares(shares, COPIES[project]);
		const hosts = new Set(shares.map(({ copy }) => copy.host));
		if (hosts.size < scene.lab.hosts.length) {
			throw new Trouble(`pricing of ${project} is on ${[...hosts]} alone.`);
		}
		const others = [...copies].flatMap(([other, list]) =>
			other === project ? [] : list,
		);
		const answers = checkOrigin(project, pages, own, others);
		say(
			`${green("✓")} all ${answers} answers behind these pages came from ${project}'s own containers, on ${hosts.size} hosts.`,
		);
	}
}

/** Where the machine reaches a deployment's web: its published port, on the host that it is on. */
async function webOf(
	scene: Scene,
	project: Project,
	copies: readonly Copy[],
): Promise<string> {
	const through = gateway(scene, 2);
	const answer = await compose(
		scene.stage,
		through,
		project,
		...["port", "web", "80"],
	);
	sayOutput(answer);
	const port = answer.trim().split(":").at(-1);
	const web = copies.find(({ service }) => service === "web");
	const host = scene.lab.hosts.find(({ name }) => name === web?.host);
	return `http://${host?.address}:${port}/`;
}

async function showIsolation(scene: Scene): Promise<void> {
	const { stage } = scene;
	const through = gateway(scene, 0);
	const pricing = (await copiesOf(stage, through, "xyz")).find(
		({ service }) => service === "pricing",
	);
	const address = pricing?.address ?? "";
	for (const [what, ...asked] of [
		[
			"knows no name of xyz",
			...["timeout", "3", "nslookup", "pricing.xyz.service.consul"],
		],
		["reaches no address of xyz", "ping", "-c1", "-W2", address],
	] as const) {
		const args = ["exec", "abc_web_1", ...asked];
		sayCommand(`docker ${args.join(" ")}`);
		const { code, output } = await command(stage.folder, docker, args, {
			docker: through.gateway as string,
			env: stage.client,
			signal: stage.signal,
			mayFail: true,
		});
		if (output.trim()) sayOutput(output);
		if (code === 0)
			throw new Trouble(`abc_web_1 reaches ${pricing?.container}`);
		say(`${green("✓")} abc ${what}`);
	}
}

async function showDrain(scene: Scene): Promise<void> {
	const { stage, lab } = scene;
	const through = gateway(scene, 0);
	const drained = lab.hosts.at(-1)?.name ?? "";
	await arpanet(scene, "host", "drain", drained);
	const before = await copiesOf(stage, through, "abc");
	await scale(stage, through, "abc", `pricing=${MORE}`);
	const after = await copiesOf(stage, through, "abc");
	const fresh = after.filter(
		({ container }) => !before.some((old) => old.container === container),
	);
	await arpanet(scene, "hosts");
	const wrong = fresh.find(({ host }) => host === drained);
	if (wrong) throw new Trouble(`${wrong.container} is on ${drained}.`);
	const where = fresh.map(({ container, host }) => `${container} on ${host}`);
	say(
		`${green("✓")} ${where.join(", ")}: nothing new on ${drained}, and what runs there goes on.`,
	);
}

/** Takes the deployments down as a user would, and sees that no engine has a container any more. */
async function down(scene: Scene): Promise<void> {
	const { stage, lab } = scene;
	heading("7. Down again");
	for (const [i, project] of PROJECTS.entries()) {
		const through = gateway(scene, i + 1);
		const output = await compose(
			stage,
			through,
			project,
			...["down", "-t", "1"],
		);
		sayDone("Removing", found(output, /^Removing (\S+) +\.\.\./gm));
	}
	for (const host of lab.hosts) {
		const { output } = await command(
			stage.folder,
			docker,
			["ps", "-aq", "--filter", "label=arpanet.host"],
			{ docker: host.docker },
		);
		if (output.trim()) throw new Trouble(`${host.name} still has containers.`);
	}
}

/** `--keep`. */
async function stay(lab: LabCluster, signal: AbortSignal): Promise<void> {
	heading("It stays up until Ctrl-C. To play with it, elsewhere:");
	sayPath();
	for (const [name, value] of Object.entries(lab.certificates.client)) {
		sayCommand(`export ${name}=${value}`);
	}
	for (const { docker } of lab.gateways) {
		sayCommand(`export DOCKER_HOST=${docker}`);
	}
	sayCommand(`docker-compose -p abc -f ${FIG} up -d --scale pricing=9`);
	sayCommand("docker exec abc_web_1 wget -q -O - http://pricing/");
	if (signal.aborted) return;
	await new Promise((resolve) => signal.addEventListener("abort", resolve));
}
