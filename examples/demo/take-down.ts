import { rm, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "../images/tools.ts";
import { isOpen } from "./arpanet.ts";
import { command } from "./command.ts";
import { danglingImages, docker, engineVersion } from "./engine.ts";
import { addedByDocker, cleanFirewall, readFirewall } from "./firewall.ts";
import { say, sayCommand, sayDone, sayOutput, Trouble } from "./narrate.ts";
import { BUILT, composeArgs, found } from "./shop.ts";
import { type OwnEngine, removeState, type State } from "./state.ts";
import {
	cgroupFolders,
	deadSockets,
	end,
	links,
	markedProcesses,
	mountsBelow,
	processesIn,
	removeFolders,
	sameProcess,
	shimSockets,
} from "./traces.ts";

const BRIDGE = /^br-[0-9a-f]{12}$/;

/**
 * Removes a demo from the machine, however far it had come and whoever had stopped it.
 * What is gone already is success.
 * @throws Trouble naming what is left
 */
export async function takeDown(state: State): Promise<void> {
	const engineLives =
		state.engine && (await engineVersion(state.folder, state.engine));
	if (engineLives) await removeProjects(state);
	if (engineLives && !state.own) await removeImages(state);
	await stopArpanet(state);
	if (state.own) await removeEngine(state.folder, state.own);
	await end(() => markedProcesses(state.folder), "SIGKILL", 10_000);
	if (state.cleanConsul) await cleanConsul(state.cleanConsul);
	await rm(state.folder, {
		recursive: true,
		force: true,
		maxRetries: 5,
		retryDelay: 200,
	});
	const left = await whatIsLeft(state);
	if (left.length > 0) {
		throw new Trouble(
			`this is left of the demo:\n${left.map((each) => `  ${each}`).join("\n")}`,
			"Try once more: npm run demo -- --down",
		);
	}
	await removeState();
	say(
		"Nothing is left: no container, image, process, bridge, firewall rule, mount or file.",
	);
}

async function removeProjects(state: State): Promise<void> {
	const { folder, projects = [] } = state;
	const through = state.gateway && (await isOpen(state.gateway));
	const target = through ? state.gateway : state.engine;
	const options = { docker: target as string, mayFail: true };
	for (const project of projects) {
		const args = composeArgs(project, "down", "--rmi", "local");
		sayCommand(`docker-compose ${args.join(" ")}`);
		const { code, output } = await command(
			folder,
			"docker-compose",
			args,
			options,
		);
		if (code !== 0) sayOutput(output);
		else sayDone("Removing", found(output, /^Removing (\S+) +\.\.\./gm));
	}
	// an interrupted `up` may have left what docker-compose does not see, the network is arpanet's
	for (const project of projects) await removeRest(state, project, options);
}

async function removeRest(
	{ folder }: State,
	project: string,
	options: { docker: string; mayFail: boolean },
): Promise<void> {
	const filter = `label=com.docker.compose.project=${project}`;
	const list = ["ps", "-aq", "--filter", filter];
	for (let tries = 0; tries < 5; tries++) {
		const { output } = await command(folder, docker, list, options);
		const ids = output.split("\n").filter(Boolean);
		if (ids.length === 0) break;
		await command(folder, docker, ["rm", "-f", ...ids], options);
	}
	const filters = [`name=^${project}_default$`, "label=arpanet.network"];
	const networks = await command(
		folder,
		docker,
		["network", "ls", "-q", ...filters.flatMap((each) => ["--filter", each])],
		options,
	);
	for (const id of networks.output.split("\n").filter(Boolean)) {
		await command(folder, docker, ["network", "rm", id], options);
	}
}

async function removeImages(state: State): Promise<void> {
	const { folder, engine = "", loaded = [], dangling = [] } = state;
	const options = { docker: engine, mayFail: true };
	const built = (state.projects ?? []).flatMap((project) =>
		BUILT.map((service) => `${project}_${service}`),
	);
	for (const image of built) {
		await command(folder, docker, ["rmi", image], options); // most are gone with `down`
	}
	// what an interrupted build left: new, without a name, and on our base image
	const fresh = (await danglingImages(folder, engine)).filter(
		(id) => !dangling.includes(id),
	);
	const base = await layers(folder, engine, "busybox");
	for (const id of fresh) {
		const own = base && (await layers(folder, engine, id))?.startsWith(base);
		if (own) await command(folder, docker, ["rmi", id], options);
	}
	if (loaded.length === 0) return;
	sayCommand(`docker rmi ${loaded.join(" ")}`);
	await command(folder, docker, ["rmi", ...loaded], options);
}

async function layers(
	folder: string,
	engine: string,
	image: string,
): Promise<string | undefined> {
	const format = "{{range .RootFS.Layers}}{{.}} {{end}}";
	const { code, output } = await command(
		folder,
		docker,
		["image", "inspect", "--format", format, image],
		{ docker: engine, mayFail: true },
	);
	return code === 0 ? output.trim() : undefined;
}

async function stopArpanet({ arpanet }: State): Promise<void> {
	if (!arpanet) return;
	const { pid, started } = arpanet;
	const find = () => sameProcess(pid, started);
	if ((await find()).length === 0) return;
	sayCommand(`kill ${pid}   # arpanet`);
	await end(find, "SIGTERM", 15_000);
}

async function removeEngine(folder: string, own: OwnEngine): Promise<void> {
	if (own.process) {
		const { pid, started } = own.process;
		const find = () => sameProcess(pid, started);
		if ((await find()).length > 0) sayCommand(`kill ${pid}   # dockerd`);
		await end(find, "SIGTERM", 20_000);
	}
	await end(() => markedProcesses(folder), "SIGKILL", 10_000);
	for (const cgroup of await cgroupFolders(own.cgroup)) {
		await end(() => processesIn(cgroup), "SIGKILL", 10_000);
	}
	for (const mount of await mountsBelow(folder)) {
		await run("umount", ["-l", mount]);
	}
	for (const link of await newBridges(own)) {
		await run("ip", ["link", "del", link]);
	}
	await cleanFirewall(own.firewall);
	for (const [path, value] of Object.entries(own.settings)) {
		await writeFile(path, value).catch(() => {}); // gone with its interface
	}
	for (const cgroup of await cgroupFolders(own.cgroup)) {
		await removeFolders(cgroup);
	}
	for (const path of await orphanedShims(own)) await rm(path, { force: true });
	for (const path of own.absent.toReversed()) {
		if (path.endsWith(".json")) await rm(path, { force: true });
		else await removeFolders(path);
	}
}

/** What shims that were killed have left; an engine started meanwhile has its own there. */
async function orphanedShims(own: OwnEngine): Promise<string[]> {
	const fresh = (await shimSockets()).filter(
		(path) => !own.shims.includes(path),
	);
	return deadSockets(fresh);
}

async function newBridges(own: OwnEngine): Promise<string[]> {
	return (await links()).filter(
		(link) =>
			(link === "docker0" || BRIDGE.test(link)) && !own.links.includes(link),
	);
}

/** Removes what arpanet wrote into a Consul that held nothing of it. */
async function cleanConsul(consul: string): Promise<void> {
	const ask = (method: string, path: string, body?: unknown) =>
		fetch(`${consul}/v1/${path}`, {
			method,
			body: body === undefined ? undefined : JSON.stringify(body),
		}).catch(() => undefined); // Consul has gone meanwhile, and all with it
	await ask("DELETE", "kv/arpanet/?recurse");
	const nodes = await ask(
		"GET",
		'catalog/nodes?filter=Meta["external-node"]=="true"',
	);
	const rows = nodes?.ok ? ((await nodes.json()) as { Node: string }[]) : [];
	for (const { Node } of rows) {
		if (!Node.startsWith("arpanet-")) continue;
		await ask("PUT", "catalog/deregister", { Node });
	}
}

async function whatIsLeft(state: State): Promise<string[]> {
	const { folder, own, engine } = state;
	await sleep(50); // the kernel may still be burying
	const left = [
		...(await markedProcesses(folder)).map((pid) => `process ${pid}`),
		...(await mountsBelow(folder)).map((mount) => `mount ${mount}`),
	];
	if (own) {
		left.push(
			...(await newBridges(own)).map((link) => `network interface ${link}`),
			...addedByDocker(own.firewall, await readFirewall()),
			...(await cgroupFolders(own.cgroup)).map((path) => `cgroup ${path}`),
			...(await orphanedShims(own)).map((path) => `socket ${path}`),
		);
	} else if (engine) {
		const options = { docker: engine, mayFail: true };
		for (const project of state.projects ?? []) {
			const filter = `label=com.docker.compose.project=${project}`;
			const list = ["ps", "-aq", "--filter", filter];
			const { output } = await command(folder, docker, list, options);
			if (output.trim()) left.push(`containers of ${project}`);
		}
	}
	return left;
}
