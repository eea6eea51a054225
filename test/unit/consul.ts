import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { ask } from "../../cli/ask.ts";
import { findBinary } from "../../examples/images/tools.ts";
import { originOf } from "../../pipeline/http-client.ts";

/** A Consul of its own on loopback, empty at first. */
export interface TestConsul {
	/** `http://127.0.0.1:…` */
	address: string;
	stop(): Promise<void>;
	/** Starts it again after a stop: empty, at the same address. */
	start(): Promise<void>;
}

/** How often other ports are tried: another may be faster to take one that was free. */
const MAX_TRIES = 3;
/** It is up within two seconds where the machine has little to do. */
const READY_MS = 40_000;
const ANSWER_MS = 5_000;
const PASSING = "/v1/health/state/passing";

/** Starts `consul agent -dev` on free ports; it dies with the test, however that ends. */
export async function startConsul(): Promise<TestConsul> {
	for (let i = 1; ; i++) {
		try {
			return await startOn(await freePorts(3));
		} catch (error) {
			if (i === MAX_TRIES) throw error;
		}
	}
}

/** @throws when it ends, or does not come up */
async function startOn([http, server, serf]: number[]): Promise<TestConsul> {
	const address = `http://127.0.0.1:${http}`;
	let child: ChildProcess | undefined;
	const start = async () => {
		child = spawn(
			"setpriv",
			[
				...["--pdeathsig", "KILL", findBinary("consul"), "agent", "-dev"],
				...["-bind", "127.0.0.1", "-client", "127.0.0.1", "-log-level", "err"],
				...["-http-port", `${http}`, "-server-port", `${server}`],
				...["-serf-lan-port", `${serf}`, "-serf-wan-port", "-1"],
				...["-dns-port", "-1", "-grpc-port", "-1"],
			],
			{ stdio: "ignore" },
		);
		const end = performance.now() + READY_MS;
		while (child.exitCode === null && performance.now() < end) {
			// it has a leader, and takes sessions of its own node
			// in time: another may have the port by now, and answer nothing
			const checks = await ask(originOf(address), PASSING, ANSWER_MS).catch(
				() => undefined,
			);
			if (checks?.text.includes('"serfHealth"')) return;
			await sleep(50);
		}
		await stop();
		throw new Error("consul does not come up");
	};
	const stop = async () => {
		if (!child || child.exitCode !== null || child.signalCode !== null) return;
		child.kill("SIGKILL");
		await once(child, "exit");
	};
	await start();
	return { address, start, stop };
}

async function freePorts(count: number): Promise<number[]> {
	const servers = Array.from({ length: count }, () =>
		createServer().listen(0, "127.0.0.1"),
	);
	await Promise.all(servers.map((server) => once(server, "listening")));
	const ports = servers.map((server) => (server.address() as AddressInfo).port);
	await Promise.all(
		servers.map((server) => {
			server.close();
			return once(server, "close");
		}),
	);
	return ports;
}
