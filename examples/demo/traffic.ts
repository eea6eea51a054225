import { setTimeout as sleep } from "node:timers/promises";
import { Interrupted, Trouble } from "./narrate.ts";
import type { Copy } from "./shop.ts";

/** How long a web that has just been started may take until it answers. */
const READY_MS = 15_000;
/** At once, as visitors would. */
const AT_ONCE = 3;

/** A page of the shop's web: lines of key and value that say which copies did the work. */
export type Page = Map<string, string>;

/** Sends requests to a web. @throws Trouble with what the shop said if one fails */
export async function visit(
	url: string,
	times: number,
	signal: AbortSignal,
): Promise<Page[]> {
	await ready(url, signal);
	const pages: Page[] = [];
	let left = times;
	const visitor = async () => {
		while (left-- > 0) pages.push(await page(url, signal));
	};
	await Promise.all(Array.from({ length: AT_ONCE }, visitor));
	return pages;
}

/** How the pages were shared among the copies of a service, copies that got none included. */
export function share(
	pages: readonly Page[],
	copies: readonly Copy[],
	service: string,
): { copy: Copy; count: number }[] {
	return copies
		.filter((copy) => copy.service === service)
		.map((copy) => ({
			copy,
			count: pages.filter((each) => each.get(service) === answer(copy)).length,
		}));
}

/** Draws shares as bars, one line each. */
export function bars(shares: readonly { copy: Copy; count: number }[]): string {
	const name = Math.max(...shares.map(({ copy }) => copy.container.length));
	const address = Math.max(...shares.map(({ copy }) => copy.address.length));
	return shares
		.map(({ copy, count }) =>
			[
				copy.container.padEnd(name),
				copy.address.padEnd(address),
				String(count).padStart(3),
				"█".repeat(count),
			].join("  "),
		)
		.join("\n");
}

/**
 * Checks every answer in every page: who gave it must be a copy of that deployment, and of no other.
 * @returns how many answers were looked at
 * @throws Trouble naming the first that is wrong
 */
export function checkOrigin(
	deployment: string,
	pages: readonly Page[],
	copies: readonly Copy[],
	others: readonly Copy[],
): number {
	let answers = 0;
	for (const page of pages) {
		for (const service of ["web", "auth", "catalogue", "pricing"]) {
			const who = page.get(service);
			const own = copies.filter((copy) => copy.service === service);
			if (!own.some((copy) => answer(copy) === who)) {
				throw stranger(deployment, service, who, others);
			}
			answers++;
		}
		for (const key of ["auth-redis", "catalogue-redis"]) {
			const address = page.get(key)?.split(" ")[1]; // redis knows no hostname
			const own = copies.filter((copy) => copy.service === "redis");
			if (!own.some((copy) => copy.address === address)) {
				throw stranger(deployment, "redis", address, others);
			}
			answers++;
		}
	}
	return answers;
}

/** @throws Trouble if a copy got nothing to do */
export function checkShares(
	shares: readonly { copy: Copy; count: number }[],
	wanted: number,
): void {
	const idle = shares.find(({ count }) => count === 0);
	if (idle) {
		throw new Trouble(
			`${idle.copy.container} (${idle.copy.address}) answered none of the requests: its name is not shared among its copies.`,
		);
	}
	if (shares.length !== wanted) {
		throw new Trouble(
			`there are ${shares.length} copies of pricing where ${wanted} were asked for.`,
		);
	}
}

function stranger(
	deployment: string,
	service: string,
	who: string | undefined,
	others: readonly Copy[],
): Trouble {
	const other = others.find(
		(copy) => who && [answer(copy), copy.address].includes(who),
	);
	return new Trouble(
		`in ${deployment}, "${service}" was answered by ${who ?? "nobody"}${other ? `, which is ${other.container}` : ""}: not by a copy of ${deployment}'s own.`,
	);
}

/** How a copy names itself in a page. */
function answer({ hostname, address }: Copy): string {
	return `${hostname} ${address}`;
}

async function ready(url: string, signal: AbortSignal): Promise<void> {
	for (const end = Date.now() + READY_MS; ; await sleep(200)) {
		try {
			await page(url, signal);
			return;
		} catch (error) {
			if (signal.aborted || Date.now() > end) throw error;
		}
	}
}

async function page(url: string, signal: AbortSignal): Promise<Page> {
	if (signal.aborted) throw new Interrupted();
	const limit = AbortSignal.any([signal, AbortSignal.timeout(20_000)]);
	const answer = await fetch(url, { signal: limit }).catch((error) => {
		if (signal.aborted) throw new Interrupted();
		const why = error.cause?.message || error.message;
		throw new Trouble(`${url} does not answer: ${why}`);
	});
	const text = await answer.text();
	if (answer.status !== 200) {
		throw new Trouble(`${url} answered ${answer.status}:\n${text.trimEnd()}`);
	}
	const pairs = text
		.split("\n")
		.filter((line) => line.includes(": "))
		.map((line): [string, string] => {
			const colon = line.indexOf(": ");
			return [line.slice(0, colon), line.slice(colon + 2)];
		});
	return new Map(pairs);
}
