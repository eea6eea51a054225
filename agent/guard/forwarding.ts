import { isIPv4 } from "node:net";
import type { Chain } from "../firewall.ts";
import { ASKERS } from "./names.ts";
import { admitted, type Seen } from "./seen.ts";

/** The port at which hosts take the overlay's packets. */
const VXLAN = ["-p", "udp", "--dport", "4789"];

/** The ports at which Consul's agents take each other's word: whoever joins them can write all that arpanet goes by. */
const CONSUL = [
	["-p", "tcp", "--dport", "8300:8302"],
	["-p", "udp", "--dport", "8301:8302"],
];

/** Matches the overlay's packets of one network: VXLAN's header (RFC 7348) follows those of IPv4 and UDP. */
function within(vni: number): string {
	const header = Buffer.alloc(7);
	header.writeUInt8(8); // its number is there
	header.writeUIntBE(vni, 4, 3);
	const hex = header.toString("hex");
	return `-m string --algo bm --from 28 --to 64 --hex-string "|${hex}|"`;
}

/** Where packets from deployments go by what is exposed to all of them. */
const EXPOSED = "ARPANET-EXPOSED";
/** Where questions go by the host that is asked: each host's Consul knows all that this one's does. */
const ASKED = "ARPANET-HOSTS-DNS";
/** Where packets go that no container may send to a host. */
const BARRED = "ARPANET-HOSTS";
/** Where the overlay's packets go that come to another address of this host than the one at which hosts speak to each other. */
const ELSEWHERE = "ARPANET-VXLAN-ELSEWHERE";

/**
 * Lets through what services expose, which Docker would keep from one network to another; and keeps containers from
 * asking other hosts what their own refuses, and from speaking to any host, their own too, as though they were a host: the overlay,
 * by which they would be in any network, or Consul. Which addresses a host has besides the one that it tells of no other knows, so it
 * takes nothing of the overlay there itself; what is not arpanet's at that port is left alone. A host that is back with
 * copies of what was started elsewhere is not heard in their networks until it has stopped them.
 *
 * Every packet of the host goes through ARPANET-DIRECT or ARPANET-FORWARD, and each rule there takes some 30 ns of it: what there is one of for
 * each host, or for each service with each deployment, stands in chains to which few packets are led.
 */
export function forwarding(seen: Seen): Chain[] {
	const peers = seen.peers.filter(isIPv4);
	const exposed = seen.exposed.filter(({ address }) => isIPv4(address));
	const deployments = seen.here.map(({ subnet }) => subnet);
	const toAll = exposed.filter((exposure) => !admitted(exposure, seen));
	const there = [
		// "all" are the containers of all deployments, and nothing else that can send this host a packet
		...(toAll.length > 0 ? deployments : []).map(
			(source) => `-s ${source} -j ${EXPOSED}`,
		),
		...exposed.flatMap((exposure) =>
			(admitted(exposure, seen) ?? []).map(
				(source) => `-s ${source} -d ${exposure.address} -j ACCEPT`,
			),
		),
	];
	const open = toAll.map(({ address }) => `-d ${address} -j ACCEPT`);
	const back = exposed.map(
		({ address }) =>
			`-s ${address} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT`,
	);
	const fromContainers = [
		...seen.bridges.map((bridge) => `-i ${bridge} -j DROP`),
		...seen.here.map(({ subnet }) => `-s ${subnet} -j DROP`),
	];
	return [
		{
			name: "ARPANET-FORWARD",
			from: [{ chain: "DOCKER-USER", match: [] }],
			rules: [
				...["udp", "tcp"].map(
					(protocol) => `-p ${protocol} --dport 53 -j ${ASKED}`,
				),
				...[VXLAN, ...CONSUL].map((to) => `${to.join(" ")} -j ${BARRED}`),
				...there,
				...back,
			],
		},
		{ name: ASKED, rules: peers.map((peer) => `-d ${peer} -j ${ASKERS}`) },
		{ name: BARRED, rules: peers.map((peer) => `-d ${peer} -j DROP`) },
		{ name: EXPOSED, rules: open },
		{ name: EXPOSED, table: "raw", rules: open },
		{
			// what comes to a container from another bridge Docker 28 drops here, before DOCKER-USER is asked (moby, iptabler/endpoint.go)
			name: "ARPANET-DIRECT",
			table: "raw",
			from: [{ chain: "PREROUTING", match: [] }],
			rules: there,
		},
		{
			name: "ARPANET-CONSUL",
			from: CONSUL.map((match) => ({ chain: "INPUT", match })),
			rules: fromContainers,
		},
		{
			name: "ARPANET-VXLAN",
			from: [{ chain: "INPUT", match: VXLAN }],
			rules: [
				...fromContainers,
				...(isIPv4(seen.host) ? [`! -d ${seen.host} -j ${ELSEWHERE}`] : []),
				...seen.keptOut
					.filter(({ address }) => isIPv4(address))
					.map(({ address, vni }) => `-s ${address} ${within(vni)} -j DROP`),
			],
		},
		{
			name: ELSEWHERE,
			rules: seen.here.map(({ vni }) => `${within(vni)} -j DROP`),
		},
	];
}
