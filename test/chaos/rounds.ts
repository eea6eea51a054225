import { setTimeout as sleep } from "node:timers/promises";
import type { Violation } from "./checker/judge.ts";
import { look } from "./checker/look.ts";
import { FAULTS, strike } from "./nemesis.ts";
import { Random } from "./random.ts";
import type { Stage } from "./stage.ts";
import { work } from "./workload.ts";

/** What came of one round. */
export interface Round {
	seed: number;
	faults: string[];
	/** Requests with an answer that is no failure. */
	answered: number;
	/** Until all was right again. */
	seconds: number;
	violations: Violation[];
}

/**
 * One round: clients at work, faults one after the other or all at once, then all must be right again within the time that
 * the design gives.
 */
export async function round(
	stage: Stage,
	seed: number,
	count = 2,
): Promise<Round> {
	const clients = new Random(seed);
	const nemesis = new Random(seed + 1_000_003);
	const done = new AbortController();
	const working = work(stage, clients, done.signal);
	const struck: string[] = [];
	const seen: Violation[] = [];
	const names = nemesis.some(Object.keys(FAULTS), count);
	const together = nemesis.between(1, 3) === 1;
	try {
		await sleep(1_000);
		for (const each of together ? [names] : names.map((name) => [name])) {
			const { faults, violations } = await strike(stage, nemesis, each);
			struck.push(faults.join(" with "));
			seen.push(...violations);
		}
	} finally {
		done.abort();
		await working;
	}
	const { answered, unanswered, ledger } = await working;
	if (!names.some((name) => FAULTS[name]?.silences)) seen.push(...unanswered);
	await stage.isWhole();
	const { violations, seconds } = await stage.settle();
	if (!names.some((name) => FAULTS[name]?.stops)) {
		seen.push(...ledger.wrong(await look(stage.hosts, [])));
	}
	return {
		...{ seed, faults: struck, answered, seconds },
		violations: [...seen, ...violations],
	};
}
