import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { arpanetProgram } from "../../test/lab/arpanet.ts";
import type { Bench } from "../bench.ts";
import { Client } from "../connection.ts";
import { median, timed } from "../figures.ts";
import { socketOf } from "../stage.ts";

/** From nothing to the first request served, and the memory of a process that then has nothing to do. */
export async function startup({ report, stage, quick }: Bench): Promise<void> {
	report.section("arpanet up: start to first request, memory when idle");
	const { arpanet } = await stage.more("up", "start"); // for its configuration file
	await arpanet.stop();
	const served: number[] = [];
	const idle: number[] = [];
	const bare: number[] = [];
	for (let round = 0; round < (quick ? 2 : 5); round++) {
		bare.push(
			await timed(() => stage.host.exec(process.execPath, ["-e", "0"])),
		);
		const start = performance.now();
		// as a user starts it, without what the tests add
		const child = stage.host.spawn(
			arpanetProgram,
			["up", "--config", arpanet.config],
			{ stdio: "ignore" },
		);
		const ended = once(child, "exit");
		await firstAnswer(socketOf(stage.host, "start"));
		served.push(performance.now() - start);
		await sleep(round === 0 ? 3_000 : 200);
		idle.push(await memory(child.pid, "VmRSS"));
		child.kill();
		await ended;
	}
	report.note(
		`served after ${served.map(Math.round).join(", ")} ms; a Node that does nothing takes ${Math.round(median(bare))} ms`,
	);
	report.budget("start to first request", median(served) / 1000, {
		most: 1.5,
		stretch: 0.5,
		unit: " s",
	});
	report.budget("memory, idle", idle[0] ?? Number.NaN, {
		most: 80,
		stretch: 60,
		unit: " MB",
	});
}

/** Returns when an arpanet answers on its socket. */
export async function firstAnswer(socketPath: string): Promise<void> {
	const client = new Client({ socketPath });
	for (let tries = 0; ; tries++) {
		try {
			await client.ask("GET", "/_ping");
			client.close();
			return;
		} catch (error) {
			if (tries === 3_000) throw error;
			await sleep(5);
		}
	}
}

/** @param field of /proc/<pid>/status: `VmRSS` now, `VmHWM` the most so far @returns MB */
export async function memory(
	pid: number | undefined,
	field: "VmRSS" | "VmHWM",
): Promise<number> {
	const status = await readFile(`/proc/${pid}/status`, "utf8");
	return (
		Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1]) / 1024
	);
}
