import { findBinary, isExecutable, run } from "../images/tools.ts";

/** One table: chains with their policies (`-` for one that is not built in) and rules in order. */
interface Table {
	chains: Record<string, string>;
	rules: string[];
}

/** What the firewall held at one moment: program → table → content. */
export type Firewall = Record<string, Record<string, Table>>;

/**
 * What is Docker's in a firewall, and arpanet's own: their chains, rules that name these or its bridges, and those by which
 * a container reaches its own published port.
 */
const DOCKERS =
	/\bDOCKER\b|\bARPANET-|\bdocker0\b|\bbr-[0-9a-f]{12}\b|-s (\S+) -d \1 .*-j MASQUERADE/;

/** Reads the firewall's rules, changing nothing. */
export async function readFirewall(): Promise<Firewall> {
	const firewall: Firewall = {};
	for (const program of ["iptables", "ip6tables"]) {
		const result = await run(findBinary(`${program}-save`), []).catch(() => {});
		if (result?.code === 0) firewall[program] = parse(result.stdout);
	}
	return firewall;
}

/** Docker's chains and rules, and policies, that are there now and were not before. */
export function addedByDocker(before: Firewall, now: Firewall): string[] {
	return differences(before, now).map(
		({ program, args }) => `${program} ${args.join(" ")}`,
	);
}

/** Takes away what an engine that has ended left in the firewall. What others changed meanwhile stays. */
export async function cleanFirewall(before: Firewall): Promise<void> {
	const now = await readFirewall();
	for (const { program, args } of differences(before, now)) {
		await run(findBinary(program), ["-w", ...args]);
	}
	await dropEmptyTables(before, now);
}

/** The commands that undo what Docker added, in an order that works. */
function differences(
	before: Firewall,
	now: Firewall,
): { program: string; args: string[] }[] {
	const commands: { program: string; args: string[] }[] = [];
	for (const [program, tables] of Object.entries(now)) {
		for (const [table, { chains, rules }] of Object.entries(tables)) {
			const old = before[program]?.[table] ?? { chains: {}, rules: [] };
			const kept = [...old.rules];
			const added = rules.filter((rule) => {
				const index = kept.indexOf(rule);
				if (index >= 0) kept.splice(index, 1);
				return index < 0 && DOCKERS.test(rule);
			});
			const fresh = Object.keys(chains).filter(
				(chain) => !(chain in old.chains) && DOCKERS.test(chain),
			);
			const policies = Object.entries(chains).filter(
				([chain, policy]) =>
					chain === "FORWARD" &&
					policy === "DROP" && // as an engine sets it
					(old.chains[chain] ?? "ACCEPT") === "ACCEPT",
			);
			const undo = [
				...policies.map(([chain]) => ["-P", chain, "ACCEPT"]),
				...added.map((rule) => ["-D", ...rule.split(" ").slice(1)]),
				...fresh.map((chain) => ["-F", chain]),
				...fresh.map((chain) => ["-X", chain]),
			];
			for (const args of undo) {
				commands.push({ program, args: ["-t", table, ...args] });
			}
		}
	}
	return commands;
}

/** With nf_tables a table exists once it was used; nobody misses one that is new and holds nothing. */
async function dropEmptyTables(before: Firewall, was: Firewall): Promise<void> {
	// only tidiness: nft need not be installed. By path, as npm's PATH has a bundler of that name.
	const nft = ["/usr/sbin/nft", "/sbin/nft"].find(isExecutable);
	if (!nft) return;
	const now = await readFirewall();
	for (const [program, tables] of Object.entries(was)) {
		const { stdout } = await run(findBinary(program), ["--version"]);
		if (!stdout.includes("nf_tables")) continue;
		const family = program === "iptables" ? "ip" : "ip6";
		for (const table of Object.keys(tables)) {
			const content = now[program]?.[table];
			if (!content || before[program]?.[table]) continue;
			const plain = Object.values(content.chains).every(
				(policy) => policy === "ACCEPT",
			);
			if (!plain || content.rules.length > 0) continue;
			await run(nft, ["delete", "table", family, table]);
		}
	}
}

function parse(text: string): Record<string, Table> {
	const tables: Record<string, Table> = {};
	let table: Table = { chains: {}, rules: [] };
	for (const line of text.split("\n")) {
		if (line.startsWith("*")) {
			table = { chains: {}, rules: [] };
			tables[line.slice(1)] = table;
		} else if (line.startsWith(":")) {
			const [chain = "", policy = ""] = line.slice(1).split(" ");
			table.chains[chain] = policy;
		} else if (line.startsWith("-A")) {
			table.rules.push(line);
		}
	}
	return tables;
}
