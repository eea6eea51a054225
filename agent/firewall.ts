import { spawn } from "node:child_process";
import { once } from "node:events";
import { command } from "./commands.ts";

/** A chain of ours in the host's firewall, and the rules of other chains that lead to it. */
export interface Chain {
	name: string;
	/** `filter` unless told. */
	table?: "nat" | "raw";
	from?: { chain: string; match: string[] }[];
	rules: string[];
}

/** The firewall of IPv4 or of IPv6. */
type Family = "iptables" | "ip6tables";

/** Docker asks it before its own rules; it has none with `--iptables=false`, nor with nftables. */
const DOCKERS = "DOCKER-USER";

/**
 * Makes our chains what they are to be, and the rules that lead to them the first where they stand, in one go. Where Docker's
 * own chain is not there, FORWARD leads to ours: what is dropped there is dropped, whoever else would let it through.
 * @throws Error with what iptables says
 */
export async function writeChains(
	chains: Chain[],
	family: Family = "iptables",
): Promise<void> {
	await restore(family, chains, ({ name, from = [], rules }, standing) => [
		...rules.map((rule) => `-A ${name} ${rule}`),
		...from.map(({ chain, match }) => {
			const isMissing =
				chain === DOCKERS && !standing.includes(`\n:${DOCKERS} `);
			const at = isMissing ? "FORWARD" : chain;
			return ["-I", at, ...match, "-j", name].join(" ");
		}),
	]);
}

/** Takes our chains away, whatever is in them and leads to them. @throws Error with what iptables says */
export async function clearChains(
	chains: Chain[],
	family: Family = "iptables",
): Promise<void> {
	await restore(family, chains, ({ name }) => [`-X ${name}`]);
}

/**
 * Empties our chains, takes away what leads to them and does the rest, all in one transaction of each table.
 * @param rest what iptables-restore is to do for a chain; gets the table as iptables-save tells it
 */
async function restore(
	family: Family,
	chains: Chain[],
	rest: (chain: Chain, standing: string) => string[],
): Promise<void> {
	const saved = (await command(`${family}-save`)).split(/^\*/m);
	const text = (["filter", "nat", "raw"] as const).flatMap((table) => {
		const standing = saved.find((each) => each.startsWith(`${table}\n`)) ?? "";
		if (table === "raw" && !standing) return []; // nobody has rules there, and the kernel may not have it
		const own = chains.filter((chain) => (chain.table ?? "filter") === table);
		if (own.length === 0) return [];
		const names = own.map(({ name }) => name);
		return [
			`*${table}`,
			...names.map((name) => `:${name} - [0:0]`), // empties it
			...standing
				.split("\n")
				.filter((rule) => names.some((name) => rule.endsWith(` -j ${name}`)))
				.filter((rule) => !names.some((name) => rule.startsWith(`-A ${name} `)))
				.map((rule) => rule.replace(/^-A/, "-D")),
			...own.flatMap((chain) => rest(chain, standing)),
			"COMMIT",
			"",
		];
	});
	const child = spawn(`${family}-restore`, ["--noflush", "-w", "5"], {
		stdio: ["pipe", "ignore", "pipe"],
		timeout: 10_000,
	});
	let said = "";
	child.stderr.on("data", (chunk) => {
		said += chunk;
	});
	child.stdin.on("error", () => {}); // its exit tells more
	child.stdin.end(text.join("\n"));
	const [code] = await once(child, "close");
	if (code !== 0) throw new Error(`${family}-restore: ${said.trim()}`);
}
