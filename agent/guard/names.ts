import { isAlias } from "../../pipeline/state/aliases.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import type { Chain } from "../firewall.ts";
import { keptIn } from "./ends.ts";
import { admitted, type Seen, sources } from "./seen.ts";

/** Who asks: only containers are looked at. */
export const ASKERS = "ARPANET-DNS";
/** What they ask for. */
const NAMES = "ARPANET-DNS-NAMES";
/** Consul answers `<scope>.service.consul` and `<scope>.service.<datacenter>.consul`. */
const SERVICE = "service";
/** Bytes that iptables takes as a pattern (xt_string.h, less the end of the text). */
const MAX_PATTERN = 127;

/**
 * Keeps a deployment's names to itself: Consul's DNS answers whoever asks, so the host's firewall refuses what a
 * container of another deployment, or on Docker's own bridge, asks for.
 */
export function names(seen: Seen): Chain[] {
	const from = ["udp", "tcp"].map((protocol) => ({
		chain: "INPUT",
		match: ["-p", protocol, "--dport", "53"],
	}));
	const closed = seen.all.filter(({ shared }) => !shared); // those of a shared one are for all
	return [
		{
			name: ASKERS,
			from,
			rules: [
				...seen.here.flatMap((network) => [
					`-s ${network.subnet} -j ${NAMES}`,
					...keptIn(network),
				]),
				// whosever they are, the others' names are none of theirs
				...seen.lost.map((subnet) => `-s ${subnet} -j ${NAMES}`),
				// nor of those on Docker's own bridge; on one that a user has made there may be containers of deployments, too
				...(seen.plain ? [`-i ${seen.plain} -j ${NAMES}`] : []),
			],
		},
		{
			name: NAMES,
			rules: closed.flatMap((network) => rulesFor(network, seen)),
		},
	];
}

/** Its own deployment may ask for names of a network, others for those of services that are exposed to them. */
function rulesFor({ scope, deployment }: NetworkRecord, seen: Seen): string[] {
	const own = sources((each) => each === deployment, seen);
	const exposed = new Set(
		seen.exposed
			.filter((each) => each.scope === scope && isAlias(each.service))
			.flatMap((each) => {
				const asked = service(each.service, scope);
				const to = admitted(each, seen);
				return to
					? to.map((source) => `-s ${source} ${asked} -j RETURN`)
					: [`${asked} -j RETURN`];
			}),
	);
	const questions = [
		matches([scope, SERVICE]),
		`${matches([`_${scope}`])} ${matches([SERVICE])}`, // RFC 2782: _abc._pricing.service.consul
	];
	return [
		...exposed,
		...questions.flatMap((asked) => [
			...own.map((source) => `-s ${source} ${asked} -j RETURN`),
			`-p udp ${asked} -j REJECT`,
			`-p tcp ${asked} -j REJECT --reject-with tcp-reset`,
		]),
	];
}

/** Matches a question for a service. What is too long for one pattern of iptables becomes two, which overlap. */
function service(name: string, scope: string): string {
	const whole = [name, scope, SERVICE];
	if (whole.reduce((sum, { length }) => sum + 1 + length, 0) <= MAX_PATTERN)
		return matches(whole);
	const lengthOfScope = scope.length.toString(16).padStart(2, "0");
	return `${matches([name], lengthOfScope)} ${matches([scope, SERVICE])}`;
}

/** Matches labels that follow each other in a DNS question, where each stands behind its length. @param more bytes that follow, in hex */
function matches(labels: string[], more = ""): string {
	const bytes = labels.map((label) =>
		Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]),
	);
	const hex = Buffer.concat(bytes).toString("hex");
	return `-m string --algo bm --icase --hex-string "|${hex}${more}|"`;
}
