import { readdir, readFile, readlink, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { MARK } from "./command.ts";

const SHIMS = "/run/containerd/s";
const CGROUPS = "/sys/fs/cgroup";

/** The processes that a demo with that folder has started, their children too, wherever they hang now. */
export async function markedProcesses(folder: string): Promise<number[]> {
	const wanted = `${MARK}=${folder}`;
	const found: number[] = [];
	for (const pid of await pids()) {
		if (pid === process.pid) continue;
		const environ = await read(`/proc/${pid}/environ`);
		if (environ?.split("\0").includes(wanted)) found.push(pid);
	}
	return found;
}

/** Engines that share this process's network, and so its firewall rules. */
export async function enginesInThisNetwork(): Promise<number[]> {
	const own = await readlink("/proc/self/ns/net");
	const found: number[] = [];
	for (const pid of await pids()) {
		if ((await read(`/proc/${pid}/comm`))?.trim() !== "dockerd") continue;
		const net = await readlink(`/proc/${pid}/ns/net`).catch(() => undefined);
		if (net === own) found.push(pid);
	}
	return found;
}

/** When a process started, in clock ticks since boot: tells it from a later one with its pid. */
export async function startTime(pid: number): Promise<string | undefined> {
	const stat = await read(`/proc/${pid}/stat`);
	// field 22, counted after the name, which may hold blanks
	return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

/** Sends a signal and waits until none of the processes lives. @returns whether that is so in time */
export async function end(
	find: () => Promise<number[]>,
	signal: NodeJS.Signals,
	milliseconds: number,
): Promise<boolean> {
	const told = new Set<number>();
	for (const until = Date.now() + milliseconds; ; await sleep(50)) {
		const alive = await find();
		if (alive.length === 0) return true;
		for (const pid of alive) {
			if (told.has(pid)) continue;
			told.add(pid);
			try {
				process.kill(pid, signal);
			} catch {} // ended by itself
		}
		if (Date.now() > until) return false;
	}
}

/** A process that still is the one it was, as a list for `end`. */
export async function sameProcess(
	pid: number,
	started: string | undefined,
): Promise<number[]> {
	const stat = await read(`/proc/${pid}/stat`);
	if (!stat || stat[stat.lastIndexOf(")") + 2] === "Z") return [];
	return (await startTime(pid)) === started ? [pid] : [];
}

/** Mount points below a folder, the inner ones first. */
export async function mountsBelow(folder: string): Promise<string[]> {
	const table = (await read("/proc/self/mountinfo")) ?? "";
	return table
		.split("\n")
		.map((line) => line.split(" ")[4] ?? "")
		.filter((path) => path.startsWith(`${folder}/`))
		.reverse();
}

/** The folders of a cgroup in every hierarchy that has it. */
export async function cgroupFolders(name: string): Promise<string[]> {
	const names = await readdir(CGROUPS);
	const candidates = [CGROUPS, ...names.map((each) => join(CGROUPS, each))];
	const found: string[] = [];
	for (const parent of candidates) {
		const inside: string[] = await readdir(parent).catch(() => []);
		if (inside.includes(name)) found.push(join(parent, name));
	}
	return found;
}

/** Processes in a cgroup and below it. */
export async function processesIn(folder: string): Promise<number[]> {
	const own = (await read(join(folder, "cgroup.procs"))) ?? "";
	const below = await Promise.all((await subfolders(folder)).map(processesIn));
	return [...own.split("\n").filter(Boolean).map(Number), ...below.flat()];
}

/** Removes a tree that holds nothing but folders, as far as that is so. */
export async function removeFolders(folder: string): Promise<void> {
	for (const inner of await subfolders(folder)) await removeFolders(inner);
	for (let tries = 0; tries < 20; tries++) {
		const error = await rmdir(folder).then(
			() => undefined,
			(failure: NodeJS.ErrnoException) => failure,
		);
		if (error?.code !== "EBUSY") return;
		await sleep(20); // the kernel is still burying a cgroup's last process
	}
}

/** Sockets that containerd's shims have made, dead ones too. */
export async function shimSockets(): Promise<string[]> {
	const names = await readdir(SHIMS).catch(() => []);
	return names.map((name) => join(SHIMS, name));
}

/** Those of some sockets at which nobody listens. */
export async function deadSockets(paths: string[]): Promise<string[]> {
	const table = (await read("/proc/net/unix")) ?? "";
	const alive = new Set(
		table.split("\n").map((line) => line.split(" ").at(-1)),
	);
	return paths.filter((path) => !alive.has(path));
}

/** Names of all network interfaces here. */
export function links(): Promise<string[]> {
	return readdir("/sys/class/net");
}

async function subfolders(folder: string): Promise<string[]> {
	const entries = await readdir(folder, { withFileTypes: true }).catch(
		() => [],
	);
	return entries
		.filter((entry) => entry.isDirectory())
		.map((entry) => join(folder, entry.name));
}

async function pids(): Promise<number[]> {
	return (await readdir("/proc")).map(Number).filter((pid) => pid > 0);
}

function read(path: string): Promise<string | undefined> {
	return readFile(path, "utf8").catch(() => undefined);
}
