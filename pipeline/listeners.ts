import { readdir, readFile, readlink } from "node:fs/promises";
import { createServer } from "node:net";
import { basename } from "node:path";

/** A program that listens on a port or socket. */
interface Listener {
	pid: number;
	/** Its command line, word by word. */
	command: string[];
}

/** Where to look: a TCP or UDP port, or the path of a unix socket. */
type Place = { port: number } | { path: string };

/** How `/proc/net/tcp` writes the state of a listening socket, and `/proc/net/udp` that of any. */
const LISTENING = new Set(["0A", "07"]);

/**
 * The program that listens at a place on this machine, as far as /proc tells: for the
 * sockets of others it takes root.
 * @returns undefined when nothing listens there, or it is not to be seen
 */
export async function listenerAt(place: Place): Promise<Listener | undefined> {
	const inodes = new Set(
		"path" in place ? await unixInodes(place.path) : await inodesOf(place.port),
	);
	if (inodes.size === 0) return undefined;
	const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
	for (const pid of pids) {
		if (!(await holdsOne(pid, inodes))) continue;
		const text = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
		return { pid: Number(pid), command: text.split("\0").filter(Boolean) };
	}
	return undefined;
}

/**
 * Listens at an address for a moment.
 * @param port 0 is any that is free: then it is the address alone that counts
 * @throws Error with Node's code (`EADDRINUSE`, `EADDRNOTAVAIL`, …) when it cannot
 */
export function bindTcp(address: string, port: number): Promise<void> {
	const server = createServer();
	return new Promise((resolve, reject) => {
		server.once("error", reject);
		server.listen(port, address, () => server.close(() => resolve()));
	});
}

/** `dnsmasq (pid 812)`, or without the right to know: `another program`. */
export function describe(listener: Listener | undefined): string {
	if (!listener) return "another program";
	const { command, pid } = listener;
	const name = isArpanet(listener) ? "arpanet" : basename(command[0] ?? "");
	return `${name || "a program"} (pid ${pid})`;
}

/** Whether a listener is an arpanet process. */
export function isArpanet(listener: Listener | undefined): boolean {
	return (
		listener?.command.some((word) => /^arpanet(\.js)?$/.test(basename(word))) ??
		false
	);
}

async function inodesOf(port: number): Promise<string[]> {
	const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
	const rows = await Promise.all(["tcp", "tcp6", "udp", "udp6"].map(table));
	return rows
		.flat()
		.filter((row) => row[1]?.endsWith(suffix) && LISTENING.has(row[3] ?? ""))
		.map((row) => row[9] ?? "");
}

async function unixInodes(path: string): Promise<string[]> {
	const rows = await table("unix");
	return rows.filter((row) => row[7] === path).map((row) => row[6] ?? "");
}

async function table(name: string): Promise<string[][]> {
	const text = await readFile(`/proc/net/${name}`, "utf8").catch(() => "");
	return text
		.split("\n")
		.slice(1)
		.map((line) => line.trim().split(/\s+/));
}

async function holdsOne(pid: string, inodes: Set<string>): Promise<boolean> {
	const folder = `/proc/${pid}/fd`;
	const names = await readdir(folder).catch(() => []);
	for (const name of names) {
		const target = await readlink(`${folder}/${name}`).catch(() => "");
		const inode = /^socket:\[(\d+)\]$/.exec(target)?.[1];
		if (inode && inodes.has(inode)) return true;
	}
	return false;
}
