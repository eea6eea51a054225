import { command, type Stage } from "./command.ts";
import { docker } from "./engine.ts";
import { sayCommand, sayDone, sayOutput, Trouble } from "./narrate.ts";
import { type State, writeState } from "./state.ts";

/** Relative to the checkout, as one types it there. */
export const FIG = "examples/shop/fig.yml";
/** The same file, put up once as each of these. */
export const PROJECTS = ["abc", "xyz"] as const;
/** The services whose images are built. */
export const BUILT = ["web", "auth", "catalogue", "pricing"] as const;

const CREATING = /^Creating (\S+)/gm;

/** What a stock client is given, to put it up or take it down. */
export function composeArgs(project: string, ...args: string[]): string[] {
	return ["-p", project, "-f", FIG, ...args];
}

/** Where Docker is: the engine itself, and the gateway in front of it or of many. */
export type Docker = Pick<State, "engine" | "gateway">;

/** A running container of the shop, as the engine itself knows it. */
export interface Copy {
	container: string;
	/** Name of its host. */
	host: string;
	service: string;
	hostname: string;
	address: string;
}

/** @throws Trouble if the engine has containers or images of the demo's projects: they are not ours to touch */
export async function checkProjectsFree(
	{ folder }: Stage,
	{ engine }: State,
): Promise<void> {
	const options = { docker: engine as string };
	for (const project of PROJECTS) {
		const filter = `label=com.docker.compose.project=${project}`;
		const list = ["ps", "-aq", "--filter", filter];
		const { output } = await command(folder, docker, list, options);
		if (output.trim()) {
			throw new Trouble(
				`the engine has containers of a project "${project}" already, and the demo would take them for its own.`,
				`Remove them first: docker-compose -p ${project} -f ${FIG} down`,
			);
		}
		for (const service of BUILT) {
			const image = `${project}_${service}`;
			const inspect = ["image", "inspect", image];
			const mayFail = { ...options, mayFail: true };
			const { code } = await command(folder, docker, inspect, mayFail);
			if (code !== 0) continue;
			throw new Trouble(
				`the engine has an image "${image}" already, and the demo would take it for its own.`,
				`Remove it first: docker rmi ${image}`,
			);
		}
	}
}

/** Puts the unchanged file up, as one deployment. */
export async function up(
	stage: Stage,
	state: State,
	project: string,
): Promise<void> {
	state.projects = [...(state.projects ?? []), project];
	await writeState(state);
	await create(stage, state, project);
}

/** The same, for nobody to take down later. */
export async function create(
	stage: Stage,
	state: Docker,
	project: string,
): Promise<void> {
	const output = await compose(stage, state, project, "up", "-d");
	sayDone("Building", found(output, /^Successfully tagged (\S+):/gm));
	sayDone("Creating", found(output, CREATING));
}

/** Runs more copies of a service. */
export async function scale(
	stage: Stage,
	state: Docker,
	project: string,
	scaling: string,
): Promise<void> {
	const args = ["up", "-d", "--scale", scaling];
	const output = await compose(stage, state, project, ...args);
	sayDone("Creating", found(output, CREATING));
}

/** URL at which the machine reaches a deployment's web. */
export async function webOf(
	stage: Stage,
	state: State,
	project: string,
): Promise<string> {
	const answer = await compose(stage, state, project, "port", "web", "80");
	sayOutput(answer);
	const port = answer.trim().split(":").at(-1);
	return `http://${hostOf(state.engine ?? "")}:${port}/`;
}

/** A deployment's running containers. */
export async function copiesOf(
	{ folder, signal, client }: Stage,
	{ engine }: Docker,
	project: string,
): Promise<Copy[]> {
	const options = { docker: engine as string, signal, env: client };
	const filter = `label=com.docker.compose.project=${project}`;
	const { output } = await command(
		folder,
		docker,
		["ps", "-q", "--filter", filter],
		options,
	);
	const format = [
		"{{.Name}}",
		`{{index .Config.Labels "com.docker.compose.service"}}`,
		`{{index .Config.Labels "arpanet.host"}}`,
		"{{.Config.Hostname}}",
		"{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
	].join(" ");
	const ids = output.split("\n").filter(Boolean);
	const inspect = ["inspect", "--format", format, ...ids];
	const { output: lines } = await command(folder, docker, inspect, options);
	return lines
		.split("\n")
		.filter(Boolean)
		.map((line) => {
			const [name = "", service = "", host = "", hostname = "", address = ""] =
				line.split(" ");
			return { container: name.slice(1), service, host, hostname, address };
		})
		.sort((a, b) => (a.container < b.container ? -1 : 1));
}

/** Runs docker-compose through the gateway, showing the command. */
export async function compose(
	{ folder, signal, client }: Stage,
	{ gateway }: Docker,
	project: string,
	...args: string[]
): Promise<string> {
	const all = composeArgs(project, ...args);
	sayCommand(`docker-compose ${all.join(" ")}`);
	const options = { docker: gateway as string, signal, env: client };
	const { output } = await command(folder, "docker-compose", all, options);
	return output;
}

/** What docker-compose says to have done it to: the first group of each match. */
export function found(output: string, pattern: RegExp): string[] {
	return [...output.matchAll(pattern)].map(([, name = ""]) => name);
}

/** Where an engine's published ports are. */
function hostOf(engine: string): string {
	return engine.startsWith("tcp://") ? new URL(engine).hostname : "127.0.0.1";
}
