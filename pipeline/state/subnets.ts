import { Netmask } from "netmask";
import type { NetworkInspect } from "../docker.ts";
import { HttpError } from "../errors.ts";
import { toAddress, toNumber } from "./leases.ts";

/** What a deployment's network must be granted from. */
export interface Pool {
	/** `10.32.0.0/12` */
	pool: string;
	/** Ranges within the pool that are never granted. */
	reserved: string[];
}

/**
 * The subnet that a user asks for, written from its base address on.
 * @param used subnets that are granted @throws HttpError 409 when it overlaps one of these, 400 when it is none
 */
export function claim(subnet: string, used: string[]): string {
	let block: Netmask;
	try {
		block = new Netmask(subnet);
	} catch {
		throw new HttpError(
			400,
			`dhcp: "${subnet}" is no subnet; write one such as 10.32.0.0/12`,
		);
	}
	const taken = used.find((other) => overlap(block, new Netmask(other)));
	if (taken) {
		throw new HttpError(
			409,
			`dhcp: subnet ${subnet} overlaps ${taken}, which another network has; ask for another or for none`,
		);
	}
	return block.toString();
}

/**
 * The lowest subnet of a pool that is big enough and overlaps nothing used.
 * @param size addresses asked for, of which a host's bridge takes one
 * @param used ranges that are granted, or are not to be
 * @throws HttpError 503 when the pool has no such subnet left
 */
export function choose(size: number, pool: string, used: string[]): string {
	// network and broadcast address cannot be leased
	const bits = Math.max(2, Math.ceil(Math.log2(size + 2)));
	const step = 2 ** bits;
	const whole = new Netmask(pool);
	const end = toNumber(whole.base) + whole.size;
	const blocks = used
		.map((each) => new Netmask(each))
		.map((block) => ({
			from: toNumber(block.base),
			to: toNumber(block.base) + block.size,
		}))
		.sort((a, b) => a.from - b.from);
	let base = toNumber(whole.base);
	for (const block of blocks) {
		if (block.to <= base) continue;
		if (block.from >= base + step) break;
		base = Math.ceil(block.to / step) * step;
	}
	if (base + step > end) {
		throw new HttpError(
			503,
			`dhcp: no free subnet for ${size} addresses in ${pool} (${used.length} in use); widen "pool", or remove deployments`,
		);
	}
	return `${toAddress(base)}/${32 - bits}`;
}

/** The ranges that a network has in its engine; those of IPv6 are Docker's. */
export function subnetsOf({ IPAM }: NetworkInspect): Netmask[] {
	return (IPAM?.Config ?? [])
		.map(({ Subnet = "" }) => Subnet)
		.filter((subnet) => /^[\d.]+\/\d+$/.test(subnet))
		.map((subnet) => new Netmask(subnet));
}

/** Whether two subnets share an address. */
export function overlap(a: Netmask, b: Netmask): boolean {
	return a.contains(b.base) || b.contains(a.base);
}
