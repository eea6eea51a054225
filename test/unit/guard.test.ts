import test from "ava";
import { apart } from "../../agent/guard/apart.ts";
import { forwarding } from "../../agent/guard/forwarding.ts";
import { names } from "../../agent/guard/names.ts";
import type { NetworkHere, Seen } from "../../agent/guard/seen.ts";
import { findBinary, run } from "../../examples/images/tools.ts";

function network(scope: string, number: number): NetworkHere {
	return {
		...{ scope, deployment: scope, name: `${scope}_default`, host: "h1" },
		...{ subnet: `10.32.${number}.0/24`, vni: number, implicit: true },
		gateway: `10.32.${number}.1`,
	};
}

function seen(...networks: NetworkHere[]): Seen {
	return {
		...{ all: networks, here: networks, lost: [], bridges: [], ipv6: [] },
		plain: "docker0",
		...{ exposed: [], guests: [], keptOut: [] },
		...{ host: "10.0.0.1", peers: ["10.0.0.2"] },
	};
}

function exposure(scope: string, service: string, to: "all" | string[]) {
	return { scope, service, to, address: "10.32.1.9", deployment: scope };
}

test("what is exposed to a deployment is also to its containers in networks of others", (t) => {
	const guest = { deployment: "xyz", scope: "shared", address: "10.32.3.7" };
	const all = seen(network("abc", 1), network("xyz", 2), network("shared", 3));
	const chains = (guests: Seen["guests"]) => {
		const exposed = [exposure("abc", "api", ["xyz"])];
		const given = { ...all, guests, exposed } as Seen;
		return [...names(given), ...forwarding(given)].map(({ rules }) => rules);
	};
	const without = chains([]).flat();
	const more = chains([guest] as never)
		.flat()
		.filter((rule) => !without.includes(rule));
	const [toldOf, ...others] = more.filter((rule) => rule.includes("10.32.3.7"));
	t.regex(toldOf ?? "", /^-s 10.32.3.7 .* -j RETURN$/);
	t.true(others.includes("-s 10.32.3.7 -d 10.32.1.9 -j ACCEPT"));
});

test("iptables takes the rules of names however long they are, and passes over what is no name", async (t) => {
	const long = "x".repeat(63);
	const all = seen(network(long, 1), network("xyz", 2));
	const exposed = [long, "y".repeat(50), "", "\u4fa1".repeat(40)].map(
		(service) => exposure(long, service, "all"),
	);
	const chains = names({ ...all, exposed } as Seen);
	const rules = chains.flatMap(({ name, rules }) =>
		rules.map((rule) => `-A ${name} ${rule}`),
	);
	t.is(rules.filter((rule) => rule.includes("-j RETURN")).length, 2 + 2 + 2);
	const text = ["*filter", ...chains.map(({ name }) => `:${name} - [0:0]`)];
	const table = [...text, ...rules, "COMMIT", ""].join("\n");
	const script = `printf '%s' "$0" | iptables-restore --test`;
	const inside = ["--net", "sh", "-c", script, table];
	const { code, stderr } = await run(findBinary("unshare"), inside);
	t.is(code, 0, stderr);
});

test("of the overlay a host takes nothing at another address than the one that it tells of", (t) => {
	const chains = forwarding(seen(network("abc", 1), network("xyz", 258)));
	const rulesOf = (wanted: string) =>
		chains.find(({ name }) => name === wanted)?.rules ?? [];
	t.true(
		rulesOf("ARPANET-VXLAN").includes(
			"! -d 10.0.0.1 -j ARPANET-VXLAN-ELSEWHERE",
		),
	);
	const matched = rulesOf("ARPANET-VXLAN-ELSEWHERE").map(
		(rule) => /"\|(\w+)\|" -j DROP$/.exec(rule)?.[1],
	);
	t.deepEqual(matched, ["08000000000001", "08000000000102"]);
});

test("by IPv6 nothing gets from a deployment's network to any other of the engine's, or into it", (t) => {
	const chains = apart({
		...seen(),
		...{ bridges: ["docker0", "br-a", "br-b"], ipv6: ["br-a"] },
	});
	t.deepEqual(
		Object.fromEntries(chains.map((each) => [each.name, each.rules])),
		{
			"ARPANET-FORWARD": [
				"-i br-a -o br-a -j RETURN",
				"-i br-a -j ARPANET-OUT",
				"-i docker0 -j ARPANET-IN",
				"-i br-b -j ARPANET-IN",
			],
			"ARPANET-OUT": ["docker0", "br-a", "br-b"].map(
				(to) => `-o ${to} -j DROP`,
			),
			"ARPANET-IN": ["-o br-a -j DROP"],
		},
	);
});
