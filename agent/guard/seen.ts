import type { Exposure } from "../../pipeline/state/exposed.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";

/** What the firewall's rules are made from. */
export interface Seen {
	/** All networks of the cluster. */
	all: NetworkRecord[];
	/** Those that this host has. */
	here: NetworkRecord[];
	/** What services open to others. */
	exposed: Exposure[];
	/** Addresses of the other hosts. */
	peers: string[];
}

/** Subnets of the deployments that an exposure is for; undefined: for all. */
export function admitted(
	{ to }: Exposure,
	all: NetworkRecord[],
): string[] | undefined {
	if (to === "all") return undefined;
	return all
		.filter(({ deployment }) => to.includes(deployment))
		.map(({ subnet }) => subnet);
}
