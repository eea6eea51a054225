import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type BaseImage, baseImagesTar } from "../images/base-images.ts";
import { findBinary, projectRoot } from "../images/tools.ts";
import { command, daemon, type Stage, tail } from "./command.ts";
import { readFirewall } from "./firewall.ts";
import {
	Interrupted,
	say,
	sayCommand,
	sayOutput,
	secondsSince,
	Trouble,
} from "./narrate.ts";
import { type State, writeState } from "./state.ts";
import {
	enginesInThisNetwork,
	links,
	shimSockets,
	startTime,
} from "./traces.ts";

const USUAL = "unix:///var/run/docker.sock";
const READY_MS = 40_000;
const IMAGES: readonly BaseImage[] = ["busybox", "redis"];

/** What an engine of our own may make outside of its folder. */
const MAKES = [
	"/etc/docker",
	"/etc/docker/key.json",
	"/run/docker",
	"/run/docker/plugins",
	"/run/containerd",
	"/run/containerd/s",
	"/opt/containerd",
];
const SETTINGS = [
	"/proc/sys/net/ipv4/ip_forward",
	"/proc/sys/net/ipv6/conf/all/forwarding",
	"/proc/sys/net/ipv6/conf/default/forwarding",
	"/proc/sys/net/bridge/bridge-nf-call-iptables",
	"/proc/sys/net/bridge/bridge-nf-call-ip6tables",
];

/** The docker CLI: the distribution's, which fits its engine, else the first on PATH. */
export const docker: string = existsSync("/usr/bin/docker")
	? "/usr/bin/docker"
	: "docker";

/** Finds the engine that runs here, or starts one; then makes sure that it has the base images. */
export async function useEngine(stage: Stage, state: State): Promise<void> {
	const given = process.env.DOCKER_HOST;
	const engine = given || USUAL;
	const version = await engineVersion(stage.folder, engine);
	if (version) {
		say(`Docker Engine ${version} runs at ${engine}: using it.`);
		state.engine = engine;
		state.dangling = await danglingImages(stage.folder, engine);
		await writeState(state);
	} else if (given) {
		throw new Trouble(
			`no Docker Engine answers at DOCKER_HOST=${given}.`,
			"Start it, or unset DOCKER_HOST: the demo then starts an engine of its own.",
		);
	} else {
		await startEngine(stage, state);
	}
	await loadImages(stage, state);
}

/** The engine's version; undefined if none answers. */
export async function engineVersion(
	folder: string,
	engine: string,
): Promise<string | undefined> {
	const { code, output } = await command(
		folder,
		docker,
		["version", "--format", "{{.Server.Version}}"],
		{ docker: engine, mayFail: true, timeout: 10_000 },
	).catch(() => ({ code: 1, output: "" }));
	return code === 0 ? output.trim().split("\n").at(-1) : undefined;
}

/** Ids of the images without a name. */
export async function danglingImages(
	folder: string,
	engine: string,
): Promise<string[]> {
	const { output } = await command(
		folder,
		docker,
		["images", "-q", "--no-trunc", "--filter", "dangling=true"],
		{ docker: engine },
	);
	return output.split("\n").filter(Boolean);
}

async function startEngine(stage: Stage, state: State): Promise<void> {
	const { folder, signal } = stage;
	const others = await enginesInThisNetwork();
	if (others.length > 0) {
		throw new Trouble(
			`a Docker Engine runs here (process ${others.join(", ")}), but not at ${USUAL}. Two would overwrite each other's firewall rules.`,
			"Set DOCKER_HOST to the socket of the one that runs, or stop it.",
		);
	}
	say(`No Docker Engine at ${USUAL}: starting one, all its data in a folder.`);
	const cgroup = basename(folder);
	const socket = join(folder, "docker.sock");
	const config = join(folder, "daemon.json");
	const log = join(folder, "engine.log");
	await writeFile(
		config,
		JSON.stringify({
			hosts: [`unix://${socket}`],
			"data-root": join(folder, "engine"),
			"exec-root": join(folder, "exec"),
			pidfile: join(folder, "engine.pid"),
			// a cgroup of its own tells its containers from all others, should they outlive it
			"cgroup-parent": `/${cgroup}`,
			"exec-opts": ["native.cgroupdriver=cgroupfs"],
		}),
	);
	const settings: Record<string, string> = {};
	for (const path of SETTINGS) {
		const value = await readFile(path, "utf8").catch(() => undefined);
		if (value !== undefined) settings[path] = value.trim();
	}
	state.engine = `unix://${socket}`;
	state.own = {
		cgroup,
		links: await links(),
		firewall: await readFirewall(),
		settings,
		shims: await shimSockets(),
		absent: MAKES.filter((path) => !existsSync(path)),
	};
	await writeState(state);

	const start = performance.now();
	sayCommand(`dockerd --config-file ${config}`);
	const program = findBinary("dockerd");
	const child = daemon(folder, program, ["--config-file", config], log);
	const pid = child.pid ?? 0;
	state.own.process = { pid, started: await startTime(pid) };
	await writeState(state);
	for (;;) {
		if (signal.aborted) throw new Interrupted();
		const version = existsSync(socket)
			? await engineVersion(folder, state.engine)
			: undefined;
		if (version) {
			sayOutput(`Docker Engine ${version}, ready in ${secondsSince(start)}`);
			return;
		}
		const ended = child.exitCode !== null;
		if (ended || performance.now() - start > READY_MS) {
			const said = tail(await readFile(log, "utf8").catch(() => ""), 5);
			throw new Trouble(
				`the Docker Engine does not come up; it said:\n${said}`,
				"Start one yourself and run the demo again: it uses the one that runs.",
			);
		}
		await sleep(100);
	}
}

async function loadImages(stage: Stage, state: State): Promise<void> {
	const { folder, signal } = stage;
	const options = { docker: state.engine as string, signal };
	const missing: BaseImage[] = [];
	for (const name of IMAGES) {
		const inspect = ["image", "inspect", `${name}:latest`];
		const mayFail = { ...options, mayFail: true };
		const { code } = await command(folder, docker, inspect, mayFail);
		if (code !== 0) missing.push(name);
	}
	if (missing.length === 0) return;
	say();
	say(
		`It lacks ${missing.join(" and ")}: made from Debian's packages, no registry is asked.`,
	);
	const tar = await baseImagesTar(missing);
	state.loaded = missing.map((name) => `${name}:latest`);
	await writeState(state);
	const shown = relative(projectRoot, tar);
	sayCommand(`docker load -i ${shown}`);
	const { output } = await command(
		folder,
		docker,
		["load", "-q", "-i", tar],
		options,
	);
	sayOutput(output);
}
