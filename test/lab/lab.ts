import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { findBinary, runOk } from "../../examples/images/tools.ts";
import { claim, cleanStaleLabs, type Remains, remove } from "./clean.ts";
import { Host, type HostOptions } from "./host.ts";

export type { Host } from "./host.ts";

export interface LabOptions extends HostOptions {
	/** How many hosts; 1 unless told. */
	hosts?: number;
}

/** Hosts on one wire, and nothing else: there is no way out of the machine. */
export interface Lab {
	hosts: Host[];
	/** The machine's own address on the wire, by which hosts reach what listens in the test process. */
	gateway: string;
	/** Removes everything that the lab put on the machine. Once more does no harm. */
	stop(): Promise<void>;
}

/**
 * Starts hosts, each a full Docker host with its own address, engine and Consul, all in network namespaces of
 * this machine. Needs root. Labs do not disturb each other; what dead test runs have left is removed first.
 *
 *     const lab = await startLab({ hosts: 3 });
 *     t.teardown(() => lab.stop());
 *
 * @throws when something does not come up in time, with the tail of its log; nothing is left then
 */
export async function startLab(options: LabOptions = {}): Promise<Lab> {
	if (process.getuid?.() !== 0)
		throw new Error("lab: network namespaces and engines need root");
	await cleanStaleLabs();

	const count = options.hosts ?? 1;
	const remains = await claim();
	const guard = startGuard(remains);
	const hosts = Array.from(
		{ length: count },
		(_, index) => new Host(remains, index + 1, count, options),
	);
	let stopped: Promise<void> | undefined;
	const stop = () => {
		stopped ??= (async () => {
			guard.kill("SIGKILL"); // the number may be another lab's as soon as this one is gone
			await remove(remains);
		})();
		return stopped;
	};

	try {
		await stringWire(remains);
		await Promise.all(hosts.map((host) => host.boot()));
	} catch (error) {
		await stop();
		throw error;
	}
	return { hosts, gateway: remains.gateway, stop };
}

async function stringWire({
	bridge,
	gateway,
	firewallRule,
}: Remains): Promise<void> {
	await runOk("ip", ["link", "add", bridge, "type", "bridge"]);
	await runOk("ip", ["address", "add", `${gateway}/24`, "dev", bridge]);
	await runOk("ip", ["link", "set", bridge, "up"]);
	await runOk(findBinary("iptables"), ["-w", "-I", ...firewallRule]);
}

function startGuard({ number }: Remains): ChildProcess {
	const program = fileURLToPath(new URL("guard.js", import.meta.url));
	const guard = spawn(process.execPath, [program, String(number)], {
		detached: true, // outlives Ctrl-C
		stdio: ["pipe", "ignore", "ignore"],
		env: { PATH: process.env.PATH, TMPDIR: process.env.TMPDIR },
	});
	guard.unref();
	(guard.stdin as unknown as { unref(): void }).unref(); // a pipe is a socket, which its type does not say
	return guard;
}
