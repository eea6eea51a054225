import type { Exposure } from "../../pipeline/state/exposed.ts";
import type { Guest } from "../../pipeline/state/guests.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";

/** What the firewall's rules are made from. */
export interface Seen {
	/** All networks of the cluster. */
	all: NetworkRecord[];
	/** Those that this host has. */
	here: NetworkHere[];
	/** Subnets that this host has and Consul does not know. */
	lost: string[];
	/** What services open to others. */
	exposed: Exposure[];
	/** Bridges of all of the engine's networks, whosever they are, but for one by which this host speaks to the others. */
	bridges: string[];
	/** Those among them of deployments' networks that have a range of IPv6. */
	ipv6: string[];
	/** That of Docker's own network `bridge`, where no container has a deployment's address. */
	plain: string | undefined;
	/** Containers in networks that are not of their deployment. */
	guests: Guest[];
	/** This host's address, where Consul answers DNS. */
	host: string;
	/** Addresses of the other hosts. */
	peers: string[];
	/** Hosts that are not to be heard in a network, by their addresses. */
	keptOut: { address: string; vni: number }[];
}

/** A network that this host has. */
export interface NetworkHere extends NetworkRecord {
	/** The host's address in it. */
	gateway: string;
}

/** Where containers of some deployments ask from: their subnets, and their addresses in networks of others. */
export function sources(
	isMeant: (deployment: string) => boolean,
	{ all, guests }: Pick<Seen, "all" | "guests">,
): string[] {
	return [
		...all
			.filter(({ deployment }) => isMeant(deployment))
			.map(({ subnet }) => subnet),
		...guests
			.filter(({ deployment }) => isMeant(deployment))
			.map(({ address }) => address),
	].filter((source) => /^[\d./]+$/.test(source));
}

/** Where those ask from that an exposure is for; undefined: it is for all. */
export function admitted({ to }: Exposure, seen: Seen): string[] | undefined {
	if (to === "all") return undefined;
	return sources((deployment) => to.includes(deployment), seen);
}
