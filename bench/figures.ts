/** The middle one; of an even number the mean of the two in the middle. */
export function median(values: readonly number[]): number {
	return percentile(values, 0.5);
}

/** @param share 0.95 for the value that 95 % are not above, interpolated */
export function percentile(values: readonly number[], share: number): number {
	const sorted = [...values].sort((a, b) => a - b);
	const at = (sorted.length - 1) * share;
	const low = sorted[Math.floor(at)] ?? Number.NaN;
	const high = sorted[Math.ceil(at)] ?? Number.NaN;
	return low + (high - low) * (at - Math.floor(at));
}

/** Milliseconds that it takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
	const start = performance.now();
	await work();
	return performance.now() - start;
}

/**
 * Measures several things against each other: one round after the other, each round all of them and each
 * round another first, so that what disturbs the machine disturbs them alike.
 *
 * @param measure gives the figures of one turn
 * @returns per name all figures of all rounds
 */
export async function interleave<N extends string>(
	names: readonly N[],
	rounds: number,
	measure: (name: N, round: number) => Promise<number | number[]>,
): Promise<Record<N, number[]>> {
	const found = Object.fromEntries(
		names.map((name) => [name, [] as number[]]),
	) as Record<N, number[]>;
	for (let round = 0; round < rounds; round++) {
		for (let i = 0; i < names.length; i++) {
			const name = names[(i + round) % names.length] as N;
			found[name].push(...[await measure(name, round)].flat());
		}
	}
	return found;
}

/** Runs work `count` times, so many at once, and returns what each took in ms. */
export async function atOnce(
	count: number,
	width: number,
	work: (i: number) => Promise<unknown>,
): Promise<number[]> {
	const took: number[] = [];
	let next = 0;
	const worker = async () => {
		while (next < count) {
			const i = next++;
			took.push(await timed(() => work(i)));
		}
	};
	await Promise.all(Array.from({ length: width }, worker));
	return took;
}
