import { randomInt } from "node:crypto";
import {
	mkdtemp,
	readdir,
	readFile,
	rename,
	rm,
	rmdir,
	writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findBinary, run } from "../../examples/images/tools.ts";

/**
 * Everything that a lab leaves on the machine is named after its number, so that whoever finds its folder
 * can remove the rest: the test itself, its guard process, or a later test run.
 */
export class Remains {
	static readonly prefix = "arpanet-lab-";
	readonly number: number;

	constructor(number: number) {
		this.number = number;
	}

	get folder(): string {
		return join(tmpdir(), `${Remains.prefix}${this.number}`);
	}

	get bridge(): string {
		return `arpa${this.number}`;
	}

	/** The machine's own address in the lab. */
	get gateway(): string {
		return `10.213.${this.number}.254`;
	}

	get cgroup(): string {
		return `${Remains.prefix}${this.number}`;
	}

	/** Traffic between two hosts crosses FORWARD, which an engine outside the lab sets to DROP. */
	get firewallRule(): string[] {
		return ["FORWARD", "-i", this.bridge, "-o", this.bridge, "-j", "ACCEPT"];
	}

	/** The end in the root namespace of a host's cable. */
	cable(host: number): string {
		return `${this.bridge}h${host}`;
	}

	address(host: number): string {
		return `10.213.${this.number}.${host}`;
	}
}

interface Owner {
	pid: number;
	/** From /proc: tells a process from a later one with the same pid. */
	started: string;
}

const CGROUPS = "/sys/fs/cgroup";

/** Takes a free number for a lab of this process, and makes its folder. */
export async function claim(): Promise<Remains> {
	const owner: Owner = {
		pid: process.pid,
		started: (await startTime(process.pid)) ?? "",
	};
	const links = await networkLinks();
	const fresh = await mkdtemp(join(tmpdir(), "arpanet-claim-"));
	try {
		await writeFile(join(fresh, "owner.json"), JSON.stringify(owner));
		const first = randomInt(254); // not a number just given up, which another process may still be cleaning
		for (let tries = 0; tries < 254; tries++) {
			const remains = new Remains(1 + ((first + tries) % 254));
			if (links.includes(remains.bridge)) continue; // its folder is gone, yet something lives
			// a folder that holds something is never replaced, so one process alone wins it
			const won = await rename(fresh, remains.folder).then(
				() => true,
				() => false,
			);
			if (won) return remains;
		}
	} finally {
		await rm(fresh, { recursive: true, force: true });
	}
	throw new Error("lab: all 254 subnets of 10.213.0.0/16 are taken");
}

/** Removes what labs of dead processes have left (a run that was killed with -9); living ones are not touched. */
export async function cleanStaleLabs(): Promise<void> {
	for (const name of await readdir(tmpdir())) {
		const number = Number(name.slice(Remains.prefix.length));
		if (!name.startsWith(Remains.prefix) || !Number.isInteger(number)) continue;
		const remains = new Remains(number);
		if (await ownerLives(remains)) continue;
		await remove(remains);
	}
}

/**
 * Removes a lab from the machine: processes, containers, cables, bridge, firewall rule, cgroups, folder.
 * Mounts and network namespaces end with the last process in them. What is gone already is success.
 *
 * @throws when something cannot be removed, naming it
 */
export async function remove(remains: Remains): Promise<void> {
	await killCgroup(remains.cgroup);
	for (const link of await networkLinks()) {
		if (link.startsWith(`${remains.bridge}h`))
			await run("ip", ["link", "del", link]);
	}
	await run("ip", ["link", "del", remains.bridge]);
	const iptables = findBinary("iptables");
	while (
		(await run(iptables, ["-w", "-D", ...remains.firewallRule])).code === 0
	);
	for (const hierarchy of await hierarchies())
		await removeCgroup(join(hierarchy, remains.cgroup));
	await rm(remains.folder, {
		recursive: true,
		force: true,
		maxRetries: 5,
		retryDelay: 200,
	});
}

/** The folders under which each lab makes its cgroup: every hierarchy of cgroup v1, or the one of v2. */
export async function hierarchies(): Promise<string[]> {
	const names = await readdir(CGROUPS);
	return names.includes("cgroup.controllers") ? [CGROUPS] : subfolders(CGROUPS);
}

/** The folder of a lab's cgroup in the hierarchy that tells which processes are the lab's. */
export async function processCgroup(cgroup: string): Promise<string> {
	const all = await hierarchies();
	return join(
		all.find((path) => path.endsWith("/pids")) ?? (all[0] as string),
		cgroup,
	);
}

/**
 * Kills every process in a cgroup and below it: daemons, containers and what tests have started.
 *
 * @param cgroup its path below the hierarchy, such as `arpanet-lab-1/h2`
 * @throws when some live on after 20 s
 */
export async function killCgroup(cgroup: string): Promise<void> {
	const folder = await processCgroup(cgroup);
	for (const hierarchy of await hierarchies()) {
		await thaw(join(hierarchy, cgroup));
	}
	const end = Date.now() + 20_000;
	for (let empty = 0; empty < 2; ) {
		const pids = await pidsBelow(folder);
		empty = pids.length === 0 ? empty + 1 : 0; // twice: one may have been forked while we looked
		for (const pid of pids) {
			try {
				process.kill(pid, "SIGKILL");
			} catch {} // ended by itself
		}
		if (Date.now() > end)
			throw new Error(
				`lab: processes ${pids.join(", ")} of ${cgroup} do not die`,
			);
		if (pids.length > 0) await sleep(20);
	}
}

/** A container that is paused is not killed before it goes on. */
async function thaw(folder: string): Promise<void> {
	for (const [file, text] of [
		["freezer.state", "THAWED"], // cgroup v1
		["cgroup.freeze", "0"],
	] as const) {
		await writeFile(join(folder, file), text, { flag: "r+" }).catch(() => {});
	}
	for (const inner of await subfolders(folder)) await thaw(inner);
}

async function pidsBelow(folder: string): Promise<number[]> {
	const own = await readFile(join(folder, "cgroup.procs"), "utf8").catch(
		() => "",
	);
	const below = await Promise.all((await subfolders(folder)).map(pidsBelow));
	return [...own.split("\n").filter(Boolean).map(Number), ...below.flat()];
}

async function removeCgroup(folder: string): Promise<void> {
	for (const inner of await subfolders(folder)) await removeCgroup(inner);
	for (let tries = 0; tries < 50; tries++) {
		try {
			return await rmdir(folder);
		} catch (error) {
			if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
			await sleep(20); // the kernel is still burying the last process
		}
	}
	throw new Error(`lab: cannot remove cgroup ${folder}`);
}

async function subfolders(folder: string): Promise<string[]> {
	const entries = await readdir(folder, { withFileTypes: true }).catch(
		() => [],
	);
	return entries
		.filter((entry) => entry.isDirectory())
		.map((entry) => join(folder, entry.name));
}

async function networkLinks(): Promise<string[]> {
	return readdir("/sys/class/net");
}

async function ownerLives(remains: Remains): Promise<boolean> {
	const text = await readFile(join(remains.folder, "owner.json"), "utf8").catch(
		() => "{}",
	);
	const { pid, started } = JSON.parse(text) as Partial<Owner>;
	return pid !== undefined && (await startTime(pid)) === started;
}

/** When a process started, in clock ticks since boot; undefined when there is none. */
async function startTime(pid: number): Promise<string | undefined> {
	const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(
		() => undefined,
	);
	// field 22, counted after the name, which may hold blanks
	return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}
