import { spawn } from "node:child_process";
import { lookup } from "node:dns/promises";
import { mkdir, open, readFile, rm, rmdir, writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../pipeline/config.ts";
import { messageOf } from "../pipeline/errors.ts";
import { originOf } from "../pipeline/http-client.ts";
import { nameServers } from "../plugins/dns-search.ts";
import { ask } from "./ask.ts";
import { DNS_PORT, mustBeFreeForDns } from "./dns-port.ts";
import { findProgram } from "./files.ts";
import { end, identify, isAlive, type ProcessId } from "./processes.ts";

/** Consul is up in well under a second, and has a leader soon after. */
const START_MS = 20_000;
const STOP_MS = 3_000;
const ASK_MS = 2_000;
const WATCH_MS = 1_000;

/** A Consul that this arpanet has to stop. */
export interface OwnConsul {
	stop(): Promise<void>;
}

/** The files by which a later arpanet knows a Consul that an earlier one has started. */
interface Files {
	config: string;
	/** Written by Consul itself. */
	pid: string;
	/** Process that has to stop it. */
	owner: string;
	log: string;
}

/**
 * Makes sure that there is a Consul. Where there is none, and none to wait for, one is started
 * as `consul agent -dev`, which outlives a kill -9 of arpanet: the next `arpanet up` finds it and owns it again.
 * @param dns IPv4 address of this host at which containers reach it
 * @returns what has to be stopped with arpanet; undefined for a Consul that is somebody else's
 * @throws Error naming what is missing and the remedy
 */
export async function ensureConsul(
	config: Config,
	dns: string,
	log: Logger,
	signal: AbortSignal,
): Promise<OwnConsul | undefined> {
	const { consul, stateDir } = config.arpanet;
	const files: Files = {
		config: join(stateDir, "consul.json"),
		pid: join(stateDir, "consul.pid"),
		owner: join(stateDir, "consul.owner"),
		log: join(stateDir, "consul.log"),
	};
	const ifAbsent = async (signal: AbortSignal) =>
		(await isAbsent(config)) ? start(config, dns, files, signal) : undefined;
	const started = await ifAbsent(signal);
	if (started) {
		log.info({ ...started, log: files.log }, "started a Consul of our own");
		return own(started, files, log, ifAbsent);
	}
	const agent = await left(files);
	if (agent && config.arpanet.host.engine) {
		throw new Error(
			`consul: a trial's still runs here (pid ${agent.pid}), started by arpanet, and knows of no other host; kill ${agent.pid}, and start this host's own`,
		);
	}
	if (!agent || !(await isOrphan(files))) return undefined;
	log.info({ ...agent }, "goes on with the Consul of an earlier arpanet");
	await waitForLeader(consul.address, agent, files, signal);
	await writeOwner(files);
	return own(agent, files, log, ifAbsent);
}

/**
 * Whether there is no Consul, and none to wait for: the configured address is this machine's and nothing listens there. A
 * host whose engine is there for others is one of several, and theirs may only be down: another in its place would split them.
 * @throws Error for a name that does not resolve
 */
export async function isAbsent({ arpanet }: Config): Promise<boolean> {
	const { address } = arpanet.consul;
	if (arpanet.host.engine || !address.startsWith("http://")) return false;
	const { host, port } = originOf(address);
	if (!(await isLocal(host))) return false;
	try {
		await ask({ host, port }, "/v1/status/leader", ASK_MS);
		return false;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code === "ECONNREFUSED";
	}
}

async function isLocal(host: string): Promise<boolean> {
	const { address } = await lookup(host, { family: 4 }).catch(() => {
		throw new Error(
			`consul: the name ${host} does not resolve; correct arpanet.consul.address`,
		);
	});
	if (address.startsWith("127.")) return true;
	return Object.values(networkInterfaces())
		.flat()
		.some((own) => own?.address === address);
}

async function start(
	config: Config,
	dns: string,
	files: Files,
	signal: AbortSignal,
): Promise<ProcessId> {
	const { address } = config.arpanet.consul;
	const program = findProgram("consul");
	if (!program) {
		throw new Error(
			`consul: nothing answers at ${address}, and there is no consul on PATH to start; install it, or set arpanet.consul.address to one that runs`,
		);
	}
	await mustBeFreeForDns(dns);
	const settings = await settingsOf(config, dns, files);
	await mkdir(config.arpanet.stateDir, { recursive: true }).catch((error) => {
		throw new Error(
			`cannot make ${config.arpanet.stateDir}: ${messageOf(error)}; run arpanet as root, or set arpanet.stateDir`,
		);
	});
	await writeFile(files.config, JSON.stringify(settings, null, "\t"));
	const log = await open(files.log, "w");
	const child = spawn(
		program,
		["agent", "-dev", "-config-file", files.config],
		// a session of its own: neither our end nor our terminal's is its end
		{ cwd: "/", detached: true, stdio: ["ignore", log.fd, log.fd] },
	);
	const failed = new Promise<never>((_, reject) => child.once("error", reject));
	child.unref();
	await log.close();
	const agent = await Promise.race([identify(child.pid ?? 0), failed]);
	if (!agent) throw new Error(await complaint(files));
	try {
		await writeOwner(files);
		await waitForLeader(address, agent, files, signal);
	} catch (error) {
		await end(agent, STOP_MS);
		throw error;
	}
	return agent;
}

/** What `agent -dev` does not give: DNS where containers can ask, for other names too, and with all copies. */
async function settingsOf(
	config: Config,
	dns: string,
	files: Files,
): Promise<object> {
	const { host, port } = originOf(config.arpanet.consul.address);
	const http = (await lookup(host, { family: 4 })).address;
	return {
		node_name: config.arpanet.host.name,
		bind_addr: "127.0.0.1",
		addresses: { http, dns },
		ports: { http: port, https: -1, grpc: -1, serf_wan: -1, dns: DNS_PORT },
		recursors: nameServers().filter((server) => server !== dns),
		// over UDP it answers 3 of many unless told, and does not say that there are more
		dns_config: { udp_answer_limit: 100, enable_truncate: true },
		pid_file: files.pid,
		log_level: "WARN",
		disable_update_check: true,
	};
}

async function waitForLeader(
	address: string,
	agent: ProcessId,
	files: Files,
	signal: AbortSignal,
): Promise<void> {
	const limit = performance.now() + START_MS;
	for (;;) {
		signal.throwIfAborted();
		if (!(await isAlive(agent))) throw new Error(await complaint(files));
		const answer = await ask(
			originOf(address),
			"/v1/status/leader",
			ASK_MS,
		).catch(() => undefined);
		if (answer?.status === 200 && answer.text.length > '""'.length) return;
		if (performance.now() > limit) {
			throw new Error(
				`consul: no leader after ${START_MS / 1000} s; its log is ${files.log}`,
			);
		}
		await setTimeout(50);
	}
}

/** Why Consul ended, in its own words. */
async function complaint(files: Files): Promise<string> {
	const text = await readFile(files.log, "utf8").catch(() => "");
	const lines = text.split("\n").filter(Boolean);
	const last =
		lines.findLast((line) => line.includes("[ERROR]")) ?? lines.at(-1);
	return `consul: ended as soon as it was started: ${last?.trim() ?? "it said nothing"} (its log is ${files.log})`;
}

/**
 * Takes a Consul as ours: one that ends before we do is started again, and the agents put back
 * on record what it knew.
 */
function own(
	agent: ProcessId,
	files: Files,
	log: Logger,
	again: (signal: AbortSignal) => Promise<ProcessId | undefined>,
): OwnConsul {
	const done = new AbortController();
	const { signal } = done;
	let current = agent;
	const watching = (async () => {
		while (!signal.aborted) {
			await setTimeout(WATCH_MS, undefined, { signal }).catch(() => {});
			if (signal.aborted || (await isAlive(current))) continue;
			try {
				const next = await again(signal);
				if (!next) continue; // somebody else's runs in its place
				current = next;
				log.error({ ...next }, "our Consul had ended; started another");
			} catch (error) {
				if (signal.aborted) return;
				log.error({ err: messageOf(error) }, "our Consul has ended");
			}
		}
	})();
	return {
		stop: async () => {
			done.abort();
			await watching;
			await end(current, STOP_MS);
			for (const file of Object.values(files)) await rm(file, { force: true });
			await rmdir(dirname(files.pid)).catch(() => {}); // others may have files there
			log.info({ ...current }, "stopped our Consul");
		},
	};
}

/** The Consul that an earlier arpanet has started with these files, if it runs. */
async function left(files: Files): Promise<ProcessId | undefined> {
	const pid = Number(await readFile(files.pid, "utf8").catch(() => ""));
	if (!pid) return undefined;
	const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(
		() => "",
	);
	// another process may have that pid by now
	if (!command.split("\0").includes(files.config)) return undefined;
	return identify(pid);
}

/** Whether the arpanet that had to stop it has died. */
async function isOrphan(files: Files): Promise<boolean> {
	let owner: ProcessId;
	try {
		owner = JSON.parse(await readFile(files.owner, "utf8"));
	} catch {
		return true; // he died before he had written it
	}
	return !(await isAlive(owner));
}

async function writeOwner(files: Files): Promise<void> {
	await writeFile(files.owner, JSON.stringify(await identify(process.pid)));
}
