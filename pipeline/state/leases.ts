import { isIPv4 } from "node:net";
import { Netmask } from "netmask";
import { HttpError } from "../errors.ts";
import type { Facts } from "../plugin.ts";
import type { NetworkRecord } from "./networks.ts";
import type { Store } from "./store.ts";

/** Addresses that are leased, by network. */
export const LEASES = "arpanet/leases/";
/** Addresses of hosts' bridges, by network and host: they are leased, too. */
export const GATEWAYS = "arpanet/gateways/";

/** Networks whose addresses are remembered at most; of any other the next pick reads them. */
const MAX_RANGES = 1_000;

/**
 * Who holds an address, under `arpanet/leases/<scope>/<address>`. A host's lease is the gateway
 * address of its bridge and names no container.
 */
export interface Lease {
	host: string;
	deployment: string;
	container?: string;
	service?: string;
	/** Id of a container that is none of arpanet's and on no record: it was only connected to the network. */
	foreign?: string;
	/** When that was, so that no two leases of it are the same. */
	at?: string;
}

/** What stands under an address of a container. @param record name under which it is on record */
export function leaseOf(
	{ host = "", deployment = "", service }: Facts,
	record: string,
): Lease {
	return {
		host,
		deployment,
		container: record,
		...(service ? { service } : {}),
	};
}

/** Key of the lease that a container's facts tell of; undefined for one without an address. */
export function leaseKeyOf({ network, address }: Facts): string | undefined {
	return network && address ? leaseKey(network, address) : undefined;
}

/** Key of the lease of an address in a network. */
export function leaseKey(scope: string, address: string): string {
	return `${LEASES}${scope}/${address}`;
}

/** Whether a key is that of a lease. */
export function isLease(key: string): boolean {
	return key.startsWith(LEASES);
}

/** The address in a lease's key. */
export function leasedAddress(key: string): string {
	return key.slice(key.lastIndexOf("/") + 1);
}

/** The scope of the network in a lease's key. */
export function leasedScope(key: string): string {
	return key.slice(LEASES.length, key.lastIndexOf("/"));
}

/** The network and the host in a key of `GATEWAYS`. */
export function gatewayIn(key: string): { scope: string; host: string } {
	const [scope = "", host = ""] = key.slice(GATEWAYS.length).split("/");
	return { scope, host };
}

interface Range {
	subnet: string;
	/** First and last address that can be leased, as numbers. */
	first: number;
	last: number;
	taken: Set<number>;
	/** Those among the taken that were picked here. */
	picked: Set<number>;
	cursor: number;
}

/**
 * Picks free addresses. Whether an address really is free, only the commit of its lease decides
 * (`create` fails if it exists); what is kept here is a guess that saves a read. Each process walks
 * its networks from a random place in the largest gap, so that two seldom want the same address and an
 * address that was given back rests for a while. Who runs into another looks for another place.
 */
export class Leases {
	readonly #store: Store;
	readonly #ranges = new Map<string, Range>();
	/** First reads under way: a deployment's creates come together, and one read serves them all. */
	readonly #loading = new Map<string, Promise<Range>>();

	constructor(store: Store) {
		this.#store = store;
	}

	/**
	 * An address that seems to be free.
	 * @throws HttpError 503 when all are leased, with the count of them
	 */
	async pick(network: NetworkRecord): Promise<string> {
		const known = this.#ranges.get(network.scope);
		const range =
			known?.subnet === network.subnet ? known : await this.#first(network);
		const picked = next(range);
		if (picked !== undefined) return picked;
		const fresh = await this.#load(network); // what we took for leased may have been given back
		const found = next(fresh);
		if (found !== undefined) return found;
		const all = fresh.last - fresh.first + 1 - (await this.#gateways(network));
		throw new HttpError(
			503,
			`dhcp: no free address in ${network.subnet} (${all} of ${all} leased); remove containers, or make the deployment anew with a larger arpanet.size`,
		);
	}

	/**
	 * As `pick`, for the bridge of a further host: where the user fixes addresses himself, from the upper end, since his begin at
	 * the lower one.
	 */
	async pickForBridge(network: NetworkRecord): Promise<string> {
		if (!network.asked) return this.pick(network);
		const range = await this.#load(network);
		for (let each = range.last; each >= range.first; each--) {
			if (range.taken.has(each)) continue;
			range.taken.add(each);
			range.picked.add(each);
			return toAddress(each);
		}
		return this.pick(network); // says that there is none
	}

	/** All leases of a network, from Consul. */
	async list(scope: string): Promise<{ address: string; lease: Lease }[]> {
		const entries = await this.#store.list<Lease>(`${LEASES}${scope}/`);
		return entries.map(({ key, value }) => ({
			address: leasedAddress(key),
			lease: value,
		}));
	}

	/** Forgets what is known of a network, because it was seen to be wrong. */
	forget(scope: string): void {
		this.#ranges.delete(scope);
	}

	/**
	 * A picked address turned out to be another's, who then picks from the same place: the next pick reads anew
	 * and goes elsewhere, unless one has done so since.
	 */
	taken(scope: string, address: string): void {
		const range = this.#ranges.get(scope);
		if (range?.picked.has(toNumber(address))) this.forget(scope);
	}

	#first(network: NetworkRecord): Promise<Range> {
		const key = `${network.scope} ${network.subnet}`;
		const underWay = this.#loading.get(key);
		if (underWay) return underWay;
		const load = this.#load(network).finally(() => this.#loading.delete(key));
		this.#loading.set(key, load);
		return load;
	}

	async #load(network: NetworkRecord): Promise<Range> {
		const block = new Netmask(network.range ?? network.subnet);
		const [keys, gateways] = await Promise.all([
			this.#store.keys(`${LEASES}${network.scope}/`),
			this.#store.list<string>(`${GATEWAYS}${network.scope}/`),
		]);
		const [first, last] = leasable(block, new Netmask(network.subnet));
		const leased = keys.map(leasedAddress);
		// a bridge cannot get another: its address is not free for want of a lease that somebody has deleted
		const bridges = gateways.map(({ value }) => value).filter(isIPv4);
		const taken = new Set(
			[...leased, ...bridges, ...(network.reserved ?? [])]
				.map(toNumber)
				.filter((address) => address >= first && address <= last),
		);
		const gap = largestGap(first, last, taken);
		const range: Range = {
			subnet: network.subnet,
			first,
			last,
			taken,
			picked: new Set(),
			// as Docker does: whoever fixes some addresses of his subnet finds that the others begin at its lower end
			cursor: network.asked
				? first
				: gap.from + Math.floor(Math.random() * gap.size),
		};
		this.#ranges.set(network.scope, range);
		const [oldest = ""] = this.#ranges.keys();
		if (this.#ranges.size > MAX_RANGES) this.#ranges.delete(oldest);
		return range;
	}

	async #gateways(network: NetworkRecord): Promise<number> {
		const leases = await this.list(network.scope);
		return leases.filter(({ lease }) => !lease.container).length;
	}
}

/** First and last address of a range that are neither the subnet's own nor its broadcast address. */
function leasable(range: Netmask, subnet: Netmask): [number, number] {
	const from = toNumber(range.base);
	return [
		Math.max(from, toNumber(subnet.first)),
		Math.min(from + range.size - 1, toNumber(subnet.last)),
	];
}

/** The longest run of addresses that nobody has: who walks upwards from within it meets others last. */
function largestGap(
	first: number,
	last: number,
	taken: ReadonlySet<number>,
): { from: number; size: number } {
	const ends = [...taken].sort((a, b) => a - b);
	let best = { from: first, size: 1 };
	let from = first;
	for (const end of [...ends, last + 1]) {
		if (end - from > best.size) best = { from, size: end - from };
		from = end + 1;
	}
	return best;
}

/** The next address after the cursor that is not known to be taken; from then on it is. */
function next(range: Range): string | undefined {
	const size = range.last - range.first + 1;
	if (range.taken.size >= size) return undefined;
	for (let i = 0; i < size; i++) {
		const candidate = range.cursor;
		range.cursor = candidate === range.last ? range.first : candidate + 1;
		if (range.taken.has(candidate)) continue;
		range.taken.add(candidate);
		range.picked.add(candidate);
		return toAddress(candidate);
	}
	return undefined;
}

/** `10.32.1.7` as a number. */
export function toNumber(address: string): number {
	return address
		.split(".")
		.reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

/** A number as `10.32.1.7`. */
export function toAddress(number: number): string {
	return [24, 16, 8, 0].map((shift) => (number >>> shift) & 255).join(".");
}
