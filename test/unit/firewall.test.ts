import test from "ava";
import type { Chain } from "../../agent/firewall.ts";
import { findBinary, runOk } from "../../examples/images/tools.ts";

const MODULE = new URL("../../agent/firewall.js", import.meta.url).href;

const CHAINS: Chain[] = [
	{
		name: "ARPANET-A",
		from: ["udp", "tcp"].map((protocol) => ({
			chain: "INPUT",
			match: ["-p", protocol, "--dport", "53"],
		})),
		rules: ["-s 10.32.1.0/24 -j ARPANET-B"],
	},
	{ name: "ARPANET-B", rules: ["-p udp -j REJECT"] },
	{
		name: "ARPANET-C",
		from: [{ chain: "DOCKER-USER", match: [] }],
		rules: ["-d 10.32.1.7/32 -j ACCEPT"],
	},
	{
		name: "ARPANET-N",
		table: "nat",
		from: [{ chain: "PREROUTING", match: [] }],
		rules: [],
	},
	{
		name: "ARPANET-R",
		table: "raw",
		from: [{ chain: "PREROUTING", match: [] }],
		rules: ["-d 10.32.1.7/32 -j ACCEPT"],
	},
];

test("the firewall's chains are written in one go, each led to once, and go without a trace", async (t) => {
	const [once, repaired, again, cleared, twice] = await inEmptyNetwork(`
		execFileSync("iptables", ["-N", "DOCKER-USER"]);
		await writeChains(chains);
		show();
		for (const rule of ["INPUT -p udp --dport 53 -j ARPANET-A", "ARPANET-B -p udp -j REJECT"]) {
			execFileSync("iptables", ["-D", ...rule.split(" ")]);
		}
		execFileSync("iptables", ["-I", "INPUT", "-j", "ACCEPT"]); // before ours
		await writeChains(chains);
		show();
		await writeChains(chains);
		show();
		await clearChains(chains);
		show();
		await clearChains(chains);
		show();
	`);
	const led = /^-A (INPUT|PREROUTING|DOCKER-USER) .*/gm;
	t.deepEqual(once?.match(led), [
		"-A INPUT -p tcp -m tcp --dport 53 -j ARPANET-A",
		"-A INPUT -p udp -m udp --dport 53 -j ARPANET-A",
		"-A DOCKER-USER -j ARPANET-C",
		"-A PREROUTING -j ARPANET-N",
	]);
	t.regex(once ?? "", /^-A ARPANET-A -s 10.32.1.0\/24 -j ARPANET-B$/m);
	t.regex(repaired ?? "", /^-A ARPANET-B -p udp -j REJECT/m);
	const [tcp, udp, ...rest] = once?.match(led) ?? [];
	t.deepEqual(repaired?.match(led), [
		...[tcp, udp, "-A INPUT -j ACCEPT"],
		...rest,
	] as string[]);
	t.is(again, repaired);
	t.notRegex(cleared ?? "ARPANET", /ARPANET/);
	t.is(twice, cleared);
});

test("where Docker's chain is missing FORWARD leads to ours, until it is there", async (t) => {
	const [without, back] = await inEmptyNetwork(`
		await writeChains(chains);
		show();
		execFileSync("iptables", ["-N", "DOCKER-USER"]);
		await writeChains(chains);
		show();
	`);
	t.regex(without ?? "", /^-A FORWARD -j ARPANET-C$/m);
	t.regex(without ?? "", /-p udp .*-j ARPANET-A/);
	t.notRegex(back ?? "FORWARD", /^-A FORWARD/m);
	t.regex(back ?? "", /^-A DOCKER-USER -j ARPANET-C$/m);
});

test("what Docker drops before its own chain is asked is let through there", async (t) => {
	const drop = "PREROUTING -d 10.32.1.7/32 ! -i br-1 -j DROP";
	const [shown, cleared] = await inEmptyNetwork(`
		execFileSync("iptables", ["-t", "raw", "-A", ...${JSON.stringify(drop)}.split(" ")]);
		await writeChains(chains);
		show("raw");
		await clearChains(chains);
		show("raw");
	`);
	t.deepEqual(shown?.match(/^-A PREROUTING.*/gm), [
		"-A PREROUTING -j ARPANET-R",
		`-A ${drop}`,
	]);
	t.regex(shown ?? "", /^-A ARPANET-R -d 10.32.1.7\/32 -j ACCEPT$/m);
	t.notRegex(cleared ?? "ARPANET", /ARPANET/);
});

/** Runs a script in a network namespace of its own, with an empty firewall. @returns what it has shown */
async function inEmptyNetwork(script: string): Promise<string[]> {
	const program = `
		const { execFileSync } = await import("node:child_process");
		const { writeChains, clearChains } = await import("${MODULE}");
		const chains = ${JSON.stringify(CHAINS)};
		const shown = [];
		const show = (...names) => {
			const tables = (names.length > 0 ? names : ["filter", "nat"]).map((table) =>
				String(execFileSync("iptables-save", ["-t", table])));
			shown.push(tables.join("").replace(/^#.*\\n/gm, ""));
		};
		${script}
		console.log(JSON.stringify(shown));
	`;
	const told = await runOk(findBinary("unshare"), [
		...["--net", process.execPath, "--input-type=module", "--eval", program],
	]);
	return JSON.parse(told) as string[];
}
