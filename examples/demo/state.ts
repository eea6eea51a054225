import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import type { Firewall } from "./firewall.ts";

/** Where a demo writes down what it has put on the machine; a fixed place, so that the next one finds it. */
const FILE = "/run/arpanet-demo.json";

/** A process, told from a later one with its pid. */
export interface ProcessId {
	pid: number;
	started: string | undefined;
}

/** All that it takes to remove a demo from the machine, whoever does it: it, a later one, or `--down`. */
export interface State {
	/** The demo that is at work; a kept one has ended. */
	owner: ProcessId;
	/** Left up on purpose. */
	kept?: true;
	folder: string;
	/** The engine, for `DOCKER_HOST`. */
	engine?: string;
	/** Set when the engine is the demo's own. */
	own?: OwnEngine;
	/** Images that the demo loaded into somebody else's engine. */
	loaded?: string[];
	/** Untagged images that somebody else's engine had before. */
	dangling?: string[];
	arpanet?: ProcessId;
	/** The gateway, for `DOCKER_HOST`. */
	gateway?: string;
	/** Consul's HTTP API, if it was running before and held nothing of arpanet's. */
	cleanConsul?: string;
	/** Projects that were put up. */
	projects?: string[];
}

/** What an engine of the demo's own will have to leave as it was. */
export interface OwnEngine {
	process?: ProcessId;
	cgroup: string;
	links: string[];
	firewall: Firewall;
	/** Kernel settings that an engine changes, by path. */
	settings: Record<string, string>;
	/** Sockets of containers' keepers, which containerd puts into one place whoever starts it. */
	shims: string[];
	/** Files and folders that an engine makes and that were not there. */
	absent: string[];
}

/** The demo that is or was on this machine. */
export async function readState(): Promise<State | undefined> {
	const text = await readFile(FILE, "utf8").catch(() => undefined);
	return text === undefined ? undefined : (JSON.parse(text) as State);
}

/** To be called before what the state tells of is done: then nothing can be left that is not on record. */
export async function writeState(state: State): Promise<void> {
	await mkdir("/run", { recursive: true });
	await writeFile(FILE, JSON.stringify(state), { mode: 0o600 });
}

export async function removeState(): Promise<void> {
	await rm(FILE, { force: true });
}
