import type { ChildProcess } from "node:child_process";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parse, stringify } from "yaml";
import type { Host } from "./lab.ts";

const PROGRAM = fileURLToPath(new URL("../../cli/arpanet.js", import.meta.url));
/** The file that the project ships. */
const SHIPPED = fileURLToPath(
	new URL("../../../powerstrip.yml", import.meta.url),
);

export interface ArpanetOptions {
	/** `up` unless told: `gateway`, `adapter`, `agent`. */
	role?: string;
	/** Changes the shipped powerstrip.yml, as an object, before it is used. */
	// biome-ignore lint/suspicious/noExplicitAny: the file's own shape is what the test is free to break
	configure?: (config: any) => void;
	/** More of the command line. */
	args?: string[];
	/** Path of a module that Node loads first. */
	preload?: string;
	/** Tells one process's files from another's on the same host; `arpanet` unless told. */
	name?: string;
}

/** arpanet on a host of the lab. */
export interface Arpanet {
	/** For `DOCKER_HOST`. */
	docker: string;
	process: ChildProcess;
	/** Path of the powerstrip.yml in use. */
	config: string;
	/** What it has logged so far, a JSON object a line. */
	log(): string;
	/** SIGTERM unless told, and waits for the end. */
	stop(signal?: NodeJS.Signals): Promise<number | null>;
}

/** Path of the `arpanet` command, for `host.exec("node", [arpanetProgram, …])`. */
export const arpanetProgram = PROGRAM;

/** Keys that arpanet has in Consul though there is no container and no network. */
export const LASTING =
	/^arpanet\/(hosts|counts|beats|images|leader|format|repairs|subnets-serial)\b/;

/**
 * Starts `arpanet up` (or one role) on a host with the shipped powerstrip.yml: gateway on
 * `tcp://<host>:2375`, Consul and engine the host's own. Returns when it serves.
 */
export async function startArpanet(
	host: Host,
	options: ArpanetOptions = {},
): Promise<Arpanet> {
	const { role = "up", args = [], name = "arpanet", preload } = options;
	const config = parse(await readFile(SHIPPED, "utf8"));
	config.arpanet.consul.address = host.consul;
	config.arpanet.host = { name: host.name, address: host.address };
	config.arpanet.gateway.listen = [`tcp://${host.address}:2375`];
	config.arpanet.insecure = true; // the lab's wire is all ours
	options.configure?.(config);
	const file = join(host.dataDir, `${name}.yml`);
	await writeFile(file, stringify(config));
	await chmod(PROGRAM, 0o755); // tsc does not
	const node = [...process.execArgv, ...(preload ? ["--import", preload] : [])];
	const child = host.spawn(PROGRAM, [role, "--config", file, ...args], {
		stdio: ["ignore", "pipe", "pipe"],
		env: { ...process.env, NODE_OPTIONS: node.join(" ") },
	});
	let log = "";
	child.stdout?.on("data", (chunk) => (log += chunk));
	child.stderr?.on("data", (chunk) => (log += chunk));
	const ready = {
		up: "gateway listens",
		gateway: "gateway listens",
		adapter: "adapter listens",
		agent: "watching events",
	}[role] as string;
	for (let i = 0; !log.includes(ready); i++) {
		const isDead = child.exitCode !== null || child.signalCode !== null;
		if (isDead || i === 1200) {
			child.kill("SIGKILL");
			throw new Error(`arpanet ${role} does not come up: ${log}`);
		}
		await setTimeout(50);
	}
	const [listen] = config.arpanet.gateway.listen;
	return {
		docker: listen,
		process: child,
		config: file,
		log: () => log,
		stop: async (signal = "SIGTERM") => {
			if (child.exitCode === null && child.signalCode === null) {
				const ended = new Promise((resolve) => child.once("exit", resolve));
				child.kill(signal);
				await ended;
			}
			return child.exitCode;
		},
	};
}
