import { spawn } from "node:child_process";
import { once } from "node:events";
import { command } from "./links.ts";

/** A chain of ours in the host's firewall, and the rule of another chain that leads to it, if one does. */
export interface Chain {
	name: string;
	from?: { chain: string; match: string[] }[];
	rules: string[];
}

/** Makes our chains what they are to be, in one go, and sees that they are led to. @throws Error with what iptables says */
export async function writeChains(chains: Chain[]): Promise<void> {
	const text = [
		"*filter",
		...chains.map(({ name }) => `:${name} - [0:0]`),
		...chains.flatMap(({ name, rules }) =>
			rules.map((rule) => `-A ${name} ${rule}`),
		),
		"COMMIT",
		"",
	].join("\n");
	const restore = spawn("iptables-restore", ["--noflush", "-w", "5"], {
		stdio: ["pipe", "ignore", "pipe"],
		timeout: 10_000,
	});
	let said = "";
	restore.stderr.on("data", (chunk) => {
		said += chunk;
	});
	restore.stdin.on("error", () => {}); // its exit tells more
	restore.stdin.end(text);
	const [code] = await once(restore, "close");
	if (code !== 0) throw new Error(`iptables-restore: ${said.trim()}`);
	for (const jump of chains.flatMap(jumps)) {
		await iptables("-C", ...jump).catch(() => iptables("-I", ...jump));
	}
}

/** Takes our chains away, whatever is in them. */
export async function clearChains(chains: Chain[]): Promise<void> {
	for (const jump of chains.flatMap(jumps)) {
		await iptables("-D", ...jump).catch(() => {}); // was not there
	}
	for (const verb of ["-F", "-X"]) {
		for (const { name } of chains) await iptables(verb, name).catch(() => {});
	}
}

function jumps({ name, from = [] }: Chain): string[][] {
	return from.map(({ chain, match }) => [chain, ...match, "-j", name]);
}

async function iptables(...args: string[]): Promise<void> {
	await command("iptables", "-w", "5", ...args);
}
