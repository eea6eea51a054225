import { readFile } from "node:fs/promises";
import { setTimeout } from "node:timers/promises";

/** A process that a later one with the same pid is not taken for. */
export interface ProcessId {
	pid: number;
	/** Clock ticks from boot to its start. */
	started: string;
}

/** What tells a running process from others; undefined if there is none of that pid, or it is a zombie. */
export async function identify(pid: number): Promise<ProcessId | undefined> {
	const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
	// counted after the name, which may hold blanks
	const [state, ...fields] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
	const started = fields[18];
	if (!started || state === "Z") return undefined;
	return { pid, started };
}

/** Whether that very process still runs. */
export async function isAlive(process: ProcessId): Promise<boolean> {
	return (await identify(process.pid))?.started === process.started;
}

/**
 * Ends a process: SIGTERM, and SIGKILL if it still runs after a time. One that has ended is success.
 * @param grace milliseconds between the two
 */
export async function end(id: ProcessId, grace: number): Promise<void> {
	const limit = performance.now() + grace;
	let signal: NodeJS.Signals | undefined = "SIGTERM";
	while (await isAlive(id)) {
		if (signal) {
			try {
				process.kill(id.pid, signal);
			} catch {
				return; // ended just now
			}
		}
		await setTimeout(20);
		signal = performance.now() > limit ? "SIGKILL" : undefined;
	}
}
