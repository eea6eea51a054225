import { spawn } from "node:child_process";
import { once } from "node:events";
import { command } from "./links.ts";

/** A chain of ours in the host's firewall, and the rule of another chain that leads to it, if one does. */
export interface Chain {
	name: string;
	/** `filter` unless told. */
	table?: "nat";
	from?: { chain: string; match: string[] }[];
	rules: string[];
}

/** Makes our chains what they are to be, in one go, and sees that they are led to. @throws Error with what iptables says */
export async function writeChains(chains: Chain[]): Promise<void> {
	const text = [undefined, "nat" as const]
		.flatMap((table) => ofTable(chains, table))
		.join("\n");
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
	for (const { table, jump } of chains.flatMap(jumps)) {
		await iptables(table, "-C", ...jump).catch(() =>
			iptables(table, "-I", ...jump),
		);
	}
}

function ofTable(chains: Chain[], table: Chain["table"]): string[] {
	const own = chains.filter((chain) => chain.table === table);
	return [
		`*${table ?? "filter"}`,
		...own.map(({ name }) => `:${name} - [0:0]`),
		...own.flatMap(({ name, rules }) =>
			rules.map((rule) => `-A ${name} ${rule}`),
		),
		"COMMIT",
		"",
	];
}

/** Takes our chains away, whatever is in them. */
export async function clearChains(chains: Chain[]): Promise<void> {
	for (const { table, jump } of chains.flatMap(jumps)) {
		await iptables(table, "-D", ...jump).catch(() => {}); // was not there
	}
	for (const verb of ["-F", "-X"]) {
		for (const { table, name } of chains) {
			await iptables(table, verb, name).catch(() => {});
		}
	}
}

function jumps({ name, table, from = [] }: Chain) {
	return from.map(({ chain, match }) => ({
		table,
		jump: [chain, ...match, "-j", name],
	}));
}

async function iptables(
	table: Chain["table"],
	...args: string[]
): Promise<void> {
	await command("iptables", "-w", "5", "-t", table ?? "filter", ...args);
}
