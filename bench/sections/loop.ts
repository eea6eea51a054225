import { once } from "node:events";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { arpanetProgram } from "../../test/lab/arpanet.ts";
import type { Bench } from "../bench.ts";
import { encode } from "../connection.ts";
import { bareRate } from "./ping.ts";
import { firstAnswer } from "./startup.ts";
import { BIG, buildBig, download } from "./streams.ts";

const PING = encode("GET", "/_ping");
const PROBE = fileURLToPath(new URL("../loop-probe.js", import.meta.url));

/** How late the gateway's event loop is, under 32 connections and under one stream at full speed. */
export async function loop({ report, stage, quick }: Bench): Promise<void> {
	report.section("Event-loop delay of the gateway, p99 in ms");
	const file = join(stage.host.dataDir, "loop-delay");
	const { arpanet, way } = await stage.more("gateway", "loop"); // for its configuration file
	await arpanet.stop();
	const child = stage.host.spawn(
		arpanetProgram,
		["gateway", "--config", arpanet.config],
		{
			stdio: "ignore",
			env: {
				...process.env,
				NODE_OPTIONS: `--import ${PROBE}`,
				LOOP_PROBE: file,
			},
		},
	);
	const ended = once(child, "exit");
	await firstAnswer(way.socketPath);
	async function look(): Promise<number> {
		await rm(file, { force: true });
		child.kill("SIGUSR2");
		for (let tries = 0; tries < 200; tries++) {
			await sleep(10);
			const text = await readFile(file, "utf8").catch(() => "");
			if (text) return Number(text);
		}
		throw new Error("the probe does not answer");
	}
	await bareRate(way.socketPath, PING, 1_000); // warm
	await look();
	await bareRate(way.socketPath, PING, quick ? 1_000 : 5_000);
	report.budget("event-loop delay p99, 32 connections", await look(), {
		most: 5,
		unit: " ms",
	});
	await buildBig(stage);
	await download(way, BIG);
	await look();
	for (let round = 0; round < (quick ? 1 : 5); round++) {
		await download(way, BIG);
	}
	report.budget("event-loop delay p99, one full-speed stream", await look(), {
		most: 10,
		unit: " ms",
	});
	child.kill();
	await ended;
}
