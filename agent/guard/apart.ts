import type { Chain } from "../firewall.ts";
import type { Seen } from "./seen.ts";

/** Where packets go that leave the network of a deployment. */
const OUT = "ARPANET-OUT";
/** Where packets go that come from any other network of the engine's. */
const IN = "ARPANET-IN";

/**
 * What Docker does for IPv4 alone, unless it is told `ip6tables` (before 27 an experiment): from one network's containers nothing gets to
 * another's. Of networks neither of which is a deployment's it is none of our business. Nothing is exposed in IPv6.
 */
export function apart({ ipv6, bridges }: Seen): Chain[] {
	const others = bridges.filter((bridge) => !ipv6.includes(bridge));
	const to = (all: string[]) => all.map((bridge) => `-o ${bridge} -j DROP`);
	return [
		{
			name: "ARPANET-FORWARD",
			from: [{ chain: "DOCKER-USER", match: [] }],
			rules: [
				...ipv6.flatMap((bridge) => [
					`-i ${bridge} -o ${bridge} -j RETURN`,
					`-i ${bridge} -j ${OUT}`,
				]),
				...others.map((bridge) => `-i ${bridge} -j ${IN}`),
			],
		},
		{ name: OUT, rules: to(bridges) },
		{ name: IN, rules: to(ipv6) },
	];
}
