import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout } from "node:timers/promises";
import { promisify } from "node:util";
import { messageOf } from "../pipeline/errors.ts";
import type { Services } from "../pipeline/plugin.ts";
import type { NetworkRecord } from "../pipeline/state/networks.ts";

const run = promisify(execFile);

const LOOK_MS = 1_000;
/** How often the rules are written although nothing changed: someone may have flushed them. */
const REFRESH_MS = 30_000;
/** Who asks: only containers of deployments are looked at. */
const ASKERS = "ARPANET-DNS";
/** What they ask for. */
const NAMES = "ARPANET-DNS-NAMES";
/** Consul answers `<scope>.service.consul` and `<scope>.service.<datacenter>.consul`. */
const SERVICE = "service";
/** What may stand in a rule: it comes from Consul and goes to root's firewall. */
const SAFE = { scope: /^[a-z0-9-]{1,100}$/, subnet: /^[\d./]+$/ };
const PROTOCOLS = ["udp", "tcp"];

/**
 * Keeps a deployment's names to itself. Consul's DNS answers whoever asks, so the host's firewall
 * refuses what a container of another deployment asks for. The rules stay in the kernel
 * while this does not run, and go with the last network.
 */
export async function guardNames(
	services: Services,
	signal: AbortSignal,
): Promise<void> {
	let written = "";
	let next = 0;
	let complained = "";
	while (!signal.aborted) {
		try {
			const rules = await rulesOf(services);
			if (rules !== written || performance.now() > next) {
				if (rules) await write(rules);
				else if (written || next === 0) await clear();
				written = rules;
				next = performance.now() + REFRESH_MS;
			}
			complained = "";
		} catch (error) {
			const message = messageOf(error);
			if (message !== complained) {
				services.log.warn({ err: message }, "names are not guarded");
			}
			complained = message;
		}
		await setTimeout(LOOK_MS, undefined, { signal }).catch(() => {});
	}
	if (written && (await rulesOf(services).catch(() => written)) === "") {
		await clear().catch(() => {});
	}
}

/** The rules for iptables-restore; empty where no network is on this host. */
async function rulesOf({ engine, networks }: Services): Promise<string> {
	const here = await engine().listNetworks("arpanet.network");
	const all = (await networks.list())
		.map(({ value }) => value)
		.filter(
			(each) => SAFE.scope.test(each.scope) && SAFE.subnet.test(each.subnet),
		);
	const scopes = new Set(here.map(({ Labels }) => Labels?.["arpanet.network"]));
	const askers = all.filter(({ scope }) => scopes.has(scope));
	if (askers.length === 0) return "";
	return [
		"*filter",
		`:${ASKERS} - [0:0]`,
		`:${NAMES} - [0:0]`,
		...askers.map(({ subnet }) => `-A ${ASKERS} -s ${subnet} -j ${NAMES}`),
		...all.flatMap((network) => rulesFor(network, all)),
		"COMMIT",
		"",
	].join("\n");
}

/** Its own deployment may ask for names of a network, nobody else. */
function rulesFor(
	{ scope, deployment }: NetworkRecord,
	all: NetworkRecord[],
): string[] {
	const own = all.filter((each) => each.deployment === deployment);
	const questions = [
		matches([scope, SERVICE]),
		`${matches([`_${scope}`])} ${matches([SERVICE])}`, // RFC 2782: _abc._pricing.service.consul
	];
	return questions.flatMap((asked) => [
		...own.map(({ subnet }) => `-A ${NAMES} -s ${subnet} ${asked} -j RETURN`),
		`-A ${NAMES} -p udp ${asked} -j REJECT`,
		`-A ${NAMES} -p tcp ${asked} -j REJECT --reject-with tcp-reset`,
	]);
}

/** Matches labels that follow each other in a DNS question, where each stands behind its length. */
function matches(labels: string[]): string {
	const bytes = labels.map((label) =>
		Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]),
	);
	const hex = Buffer.concat(bytes).toString("hex");
	return `-m string --algo bm --icase --hex-string "|${hex}|"`;
}

async function write(rules: string): Promise<void> {
	const restore = spawn("iptables-restore", ["--noflush", "-w", "5"], {
		stdio: ["pipe", "ignore", "pipe"],
		timeout: 10_000,
	});
	let said = "";
	restore.stderr.on("data", (chunk) => {
		said += chunk;
	});
	restore.stdin.on("error", () => {}); // its exit tells more
	restore.stdin.end(rules);
	const [code] = await once(restore, "close");
	if (code !== 0) throw new Error(`iptables-restore: ${said.trim()}`);
	for (const protocol of PROTOCOLS) {
		const jump = jumpFor(protocol);
		await iptables("-C", ...jump).catch(() => iptables("-I", ...jump));
	}
}

async function clear(): Promise<void> {
	for (const protocol of PROTOCOLS) {
		await iptables("-D", ...jumpFor(protocol)).catch(() => {}); // was not there
	}
	for (const verb of ["-F", "-X"]) {
		for (const chain of [ASKERS, NAMES]) {
			await iptables(verb, chain).catch(() => {});
		}
	}
}

function jumpFor(protocol: string): string[] {
	return ["INPUT", "-p", protocol, "--dport", "53", "-j", ASKERS];
}

async function iptables(...args: string[]): Promise<void> {
	await run("iptables", ["-w", "5", ...args], { timeout: 10_000 });
}
