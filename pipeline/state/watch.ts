import type Consul from "consul";

/** How long Consul may be back before it is asked again; the package's own limit is 30 s. */
const RETRY_MS = 2_000;

/** An entry of the key/value store as Consul sends it. */
export interface KvItem {
	Key: string;
	/** In plain text: the package decodes it. */
	Value: string | null;
	ModifyIndex: number;
}

/**
 * Follows what is under a prefix, until the returned function is called, also past times when Consul is away. The package tells
 * of answers with another index than the last; the first after a failure is told whatever its index is, since a Consul that has
 * forgotten everything may be at the same one again.
 *
 * @param options of Consul's blocking query
 * @param question sends it: for a watch the package answers with the response and what is in it
 * @param changed what it throws is a fault of ours and no failure of Consul's: it becomes a warning, and the next change is told
 */
export function followPrefix(
	consul: Consul,
	options: object,
	question: (options: object) => Promise<unknown>,
	changed: (items: KvItem[] | null) => void,
	failed: () => void = () => {},
): () => void {
	let failing = false;
	let ended = false;
	let watch: ReturnType<Consul["watch"]>;
	let again: NodeJS.Timeout | undefined;
	const tell = (items: KvItem[] | null) => {
		if (ended) return; // a question may have been on its way
		try {
			changed(items);
		} catch (error) {
			process.emitWarning(error as Error);
		}
	};
	const method = async (given: object) => {
		// it would wait for what comes after an index that may not have been reached again
		const answer = await question(
			failing ? { ...given, index: undefined } : given,
		);
		const [, items] = answer as [unknown, KvItem[] | null];
		if (failing) tell(items);
		failing = false;
		return answer;
	};
	const begin = () => {
		watch = consul.watch({
			method,
			options,
			backoffMax: RETRY_MS,
		} as never);
		watch.on("change", tell);
		watch.on("error", () => {
			failing = true;
			failed();
		});
		// the package gives up after an answer that is not Consul's: one without an index, or a 400
		watch.on("end", () => {
			if (!ended) again = setTimeout(begin, RETRY_MS);
		});
	};
	begin();
	return () => {
		ended = true;
		clearTimeout(again);
		watch.end();
	};
}
