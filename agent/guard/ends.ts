import { isIPv4 } from "node:net";
import type { Chain } from "../firewall.ts";
import type { NetworkHere, Seen } from "./seen.ts";

/** A question for a name of Consul's: it ends in the label `consul`. */
const CONSULS = '-m string --algo bm --icase --hex-string "|06636f6e73756c00|"';
/** Bytes of the largest packet of TCP without data. */
const BARE = 60;

/**
 * The host's end of an internal network answers DNS as Consul does at the host's own address: from such a network no way need
 * lead to there.
 */
export function ends({ here, host }: Seen): Chain[] {
	const rules = here
		.filter(({ body }) => body?.Internal)
		.filter(({ gateway }) => isIPv4(gateway) && isIPv4(host))
		.flatMap(({ subnet, gateway }) =>
			["udp", "tcp"].map(
				(protocol) =>
					`-s ${subnet} -d ${gateway} -p ${protocol} --dport 53 -j DNAT --to-destination ${host}:53`,
			),
		);
	const from = [{ chain: "PREROUTING", match: [] }];
	return [{ name: "ARPANET-DNS-ENDS", table: "nat", from, rules }];
}

/**
 * Rules that refuse what is asked from a network out of which nothing may get: Consul would carry a question for any other
 * name to the name servers of the site, and with it whatever the name says.
 */
export function keptIn({ subnet, body }: NetworkHere): string[] {
	if (!body?.Internal) return [];
	const from = `-s ${subnet}`;
	return [
		`${from} ${CONSULS} -j RETURN`,
		`${from} -p udp -j REJECT`,
		`${from} -p tcp -m length --length ${BARE + 1}: -j REJECT --reject-with tcp-reset`,
	];
}
