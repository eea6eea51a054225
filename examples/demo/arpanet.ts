import { Resolver } from "node:dns/promises";
import { readFile, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parse, stringify } from "yaml";
import { defaultAddress } from "../../cli/boot.ts";
import { projectRoot } from "../images/tools.ts";
import { command, daemon, type Stage, tail } from "./command.ts";
import {
	Interrupted,
	say,
	sayCommand,
	sayOutput,
	secondsSince,
	Trouble,
} from "./narrate.ts";
import { type State, writeState } from "./state.ts";
import { sameProcess, startTime } from "./traces.ts";

/** The `arpanet` command, as typed in the checkout's folder. */
export const ARPANET = "dist/cli/arpanet.js";
/** In arpanet's log. */
const WARN = 40;
const READY_MS = 30_000;

/** Starts `arpanet up` beside whatever runs here already; returns when it serves. */
export async function startArpanet(stage: Stage, state: State): Promise<void> {
	const { folder, signal } = stage;
	const { file, consul, address } = await configure(stage, state);
	const running = await consulRuns(consul);
	say(
		running
			? `Consul runs at ${consul}: arpanet uses it.`
			: "No Consul runs here: arpanet starts one, in memory, and stops it when it stops.",
	);
	if (running) {
		if (!(await isUnused(consul))) {
			throw new Trouble(
				`the Consul at ${consul} holds what an arpanet has written, whose place on this host the demo would take.`,
				"Run it on hosts of its own, in network namespaces: npm run demo -- --hosts 3",
			);
		}
		state.cleanConsul = consul;
	}
	const start = performance.now();
	sayCommand(`node ${ARPANET} up --config ${file} &`);
	const args = [ARPANET, "up", "--config", file];
	const child = daemon(folder, process.execPath, args, logFile(folder));
	const pid = child.pid ?? 0;
	state.arpanet = { pid, started: await startTime(pid) };
	await writeState(state);
	for (;;) {
		if (signal.aborted) throw new Interrupted();
		if (await isOpen(state.gateway as string)) break;
		const ended = child.exitCode !== null;
		if (ended || performance.now() - start > READY_MS) {
			throw new Trouble(
				`arpanet does not come up:\n${tail(await readLog(folder), 5)}`,
			);
		}
		await sleep(100);
	}
	sayOutput(
		`serves Docker's API at ${state.gateway}, ready in ${secondsSince(start)}`,
	);
	if (running) await checkDns(address);
}

/** Lists deployments, copies, addresses and names. */
export async function showDeployments(stage: Stage): Promise<void> {
	const args = [ARPANET, "ps", "--config", configFile(stage.folder)];
	sayCommand(`node ${args.join(" ")}`);
	const { signal } = stage;
	const { output } = await command(stage.folder, "node", args, { signal });
	sayOutput(without(output, ["HOST", "STATE"]));
}

/** After a failure: whether arpanet is still there, and what it had to complain about. */
export async function explainArpanet(state: State): Promise<void> {
	if (!state.arpanet) return;
	const { pid, started } = state.arpanet;
	if ((await sameProcess(pid, started)).length === 0) {
		say("arpanet is not running any more.");
	}
	const log = await readLog(state.folder);
	const complaints = log.split("\n").flatMap((line) => {
		const entry = line.startsWith("{") ? JSON.parse(line) : undefined;
		if (!(entry?.level >= WARN)) return [];
		const { msg, err } = entry;
		return [`arpanet: ${msg}${err ? `: ${err.message ?? err}` : ""}`];
	});
	if (complaints.length > 0) sayOutput(tail(complaints.join("\n"), 5));
}

/** Path of the demo's own powerstrip.yml. */
export function configFile(folder: string): string {
	return join(folder, "powerstrip.yml");
}

/** The shipped powerstrip.yml with the demo's engine, state and ports that are free. */
async function configure({ folder }: Stage, state: State) {
	const config = parse(
		await readFile(join(projectRoot, "powerstrip.yml"), "utf8"),
	);
	const gateway = await freePort(2375);
	const adapter = await freePort(2378);
	state.gateway = `tcp://127.0.0.1:${gateway}`;
	await writeState(state);
	const address = defaultAddress();
	const { arpanet } = config;
	arpanet.engine = state.engine;
	arpanet.host = { address };
	arpanet.stateDir = join(folder, "arpanet");
	arpanet.gateway.listen = [state.gateway];
	arpanet.adapter.listen = `tcp://127.0.0.1:${adapter}`;
	for (const [name, url] of Object.entries<string>(config.adapters)) {
		config.adapters[name] = url.replace(/:\d+\//, `:${adapter}/`);
	}
	const file = configFile(folder);
	await writeFile(file, stringify(config));
	return { file, consul: arpanet.consul.address as string, address };
}

function logFile(folder: string): string {
	return join(folder, "arpanet.log");
}

function readLog(folder: string): Promise<string> {
	return readFile(logFile(folder), "utf8").catch(() => "");
}

async function consulRuns(address: string): Promise<boolean> {
	return fetch(`${address}/v1/status/leader`).then(
		() => true,
		() => false,
	);
}

/** Whether Consul holds nothing of arpanet's: then no arpanet is at work, and what we leave there is ours to remove. */
async function isUnused(consul: string): Promise<boolean> {
	const answer = await fetch(`${consul}/v1/kv/arpanet/?keys`);
	return answer.status === 404;
}

/** A Consul that somebody else started may serve DNS somewhere where containers cannot ask. */
async function checkDns(address: string): Promise<void> {
	const resolver = new Resolver({ timeout: 2_000, tries: 2 });
	resolver.setServers([address]);
	await resolver.resolve4("consul.service.consul").catch(() => {
		throw new Trouble(
			`the Consul that runs here does not answer DNS at ${address}:53, where containers ask.`,
			`Start it with -dns-port 53 -hcl 'addresses { dns = "${address}" }', or stop it: arpanet then starts one.`,
		);
	});
}

/** The port itself if nothing listens there, else any that is free. */
async function freePort(wanted: number): Promise<number> {
	const listen = (port: number) =>
		new Promise<number>((resolve, reject) => {
			const server = createServer();
			server.once("error", reject);
			server.listen(port, "127.0.0.1", () => {
				const { port: got } = server.address() as { port: number };
				server.close(() => resolve(got));
			});
		});
	return listen(wanted).catch(() => listen(0));
}

/** Whether something listens at `tcp://host:port`. */
export function isOpen(url: string): Promise<boolean> {
	const { hostname, port } = new URL(url);
	return new Promise((resolve) => {
		const socket = connect(Number(port), hostname);
		socket.once("connect", () => resolve(true));
		socket.once("error", () => resolve(false));
		socket.once("close", () => socket.destroy());
		socket.once("connect", () => socket.end());
	});
}

/** What `arpanet ps` gives without some of its columns, which would make it too wide for a terminal. */
export function without(text: string, columns: readonly string[]): string {
	let cuts: [number, number][] = [];
	const lines = text.trimEnd().split("\n");
	return lines
		.map((line) => {
			if (/^ +SERVICE /.test(line)) {
				const heads = [...line.matchAll(/\S+ */g)];
				cuts = heads
					.filter(([head]) => columns.includes(head.trim()))
					.map(({ index, 0: head }) => {
						const end = index + head.length;
						return [index, end < line.length ? end : Number.MAX_SAFE_INTEGER];
					});
			}
			if (!line.startsWith(" ")) return line;
			return cuts.reduceRight(
				(rest, [from, to]) => rest.slice(0, from) + rest.slice(to),
				line,
			);
		})
		.join("\n");
}
