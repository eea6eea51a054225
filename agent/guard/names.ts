import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import type { Chain } from "../firewall.ts";
import { keptIn } from "./ends.ts";
import { admitted, type Seen } from "./seen.ts";

/** Who asks: only containers of deployments are looked at. */
export const ASKERS = "ARPANET-DNS";
/** What they ask for. */
const NAMES = "ARPANET-DNS-NAMES";
/** Consul answers `<scope>.service.consul` and `<scope>.service.<datacenter>.consul`. */
const SERVICE = "service";

/**
 * Keeps a deployment's names to itself: Consul's DNS answers whoever asks, so the host's firewall refuses what a
 * container of another deployment asks for.
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
	const isOwn = (each: { deployment: string }) =>
		each.deployment === deployment;
	const own = [
		...seen.all.filter(isOwn).map(({ subnet }) => subnet),
		// a container asks by way of one of its networks, which may be another deployment's
		...seen.guests.filter(isOwn).map(({ address }) => address),
	].filter((source) => /^[\d./]+$/.test(source));
	const exposed = new Set(
		seen.exposed
			.filter((each) => each.scope === scope && isLabel(each.service))
			.flatMap((each) => {
				const asked = matches([each.service, scope, SERVICE]);
				const subnets = admitted(each, seen.all);
				return subnets
					? subnets.map((subnet) => `-s ${subnet} ${asked} -j RETURN`)
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

function isLabel(name: string): boolean {
	return name.length > 0 && name.length <= 63;
}

/** Matches labels that follow each other in a DNS question, where each stands behind its length. */
function matches(labels: string[]): string {
	const bytes = labels.map((label) =>
		Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]),
	);
	const hex = Buffer.concat(bytes).toString("hex");
	return `-m string --algo bm --icase --hex-string "|${hex}|"`;
}
