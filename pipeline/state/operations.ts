/**
 * One operation of a commit. `create` fails if the key exists, `update` and an indexed
 * `delete` if it was written since, `check` if it was written since or is gone, `absent` if it exists.
 * `lock` writes a key for as long as a session lives and fails if another session has it;
 * `held` fails unless that very session has it.
 */
export type Operation =
	| { verb: "create"; key: string; value: unknown }
	| { verb: "update"; key: string; value: unknown; index: number }
	| { verb: "set"; key: string; value: unknown }
	| { verb: "delete"; key: string; index?: number }
	| { verb: "check"; key: string; index: number }
	| { verb: "absent"; key: string }
	| { verb: "lock"; key: string; value: unknown; session: string }
	| { verb: "held"; key: string; session: string }
	| { verb: "catalog"; operation: CatalogOperation };

/** An operation on Consul's catalog, in the shapes of its `/v1/txn`. */
type CatalogOperation =
	| { Node: { Verb: "set" | "delete"; Node: Record<string, unknown> } }
	| {
			Service: {
				Verb: "set" | "cas" | "delete-cas";
				Node: string;
				Service: Record<string, unknown>;
			};
	  }
	| { Check: { Verb: "set"; Check: Record<string, unknown> } };

/** The key that an operation is about; undefined for none, and for one on the catalog. */
export function keyIn(operation: Operation | undefined): string | undefined {
	return operation && "key" in operation ? operation.key : undefined;
}

/** A commit that lost against another: nothing of it was written. `operation` is the one that failed. */
export class Conflict extends Error {
	readonly operation: Operation;

	constructor(operation: Operation, what: string) {
		super(what);
		this.name = "Conflict";
		this.operation = operation;
	}
}

/**
 * Waits for a commit; one that lost is as good as done: another has done it, or is doing it.
 * @returns whether this one was written
 */
export async function ignoreConflict(commit: Promise<void>): Promise<boolean> {
	try {
		await commit;
		return true;
	} catch (error) {
		if (!(error instanceof Conflict)) throw error;
		return false;
	}
}

/** Operations that have room in a commit with others: Consul takes 64. */
const MAX_LEFT = 32;

/**
 * Writes ahead, in several commits, what is too much for the one that says that all is done.
 * @param beside goes with each of them
 * @returns what is left for that last one: at most 32 operations
 * @throws as `commit`
 */
export async function commitOverflow(
	store: { commit(operations: Operation[]): Promise<void> },
	operations: readonly Operation[],
	beside: readonly Operation[] = [],
): Promise<Operation[]> {
	const rest = [...operations];
	while (rest.length > MAX_LEFT) {
		await store.commit([...beside, ...rest.splice(0, MAX_LEFT)]);
	}
	return rest;
}

/** The operation that makes a commit fail if what was read under a key was written since, or is gone. */
export function unchanged(entry: { key: string; index: number }): Operation {
	return { verb: "check", key: entry.key, index: entry.index };
}

/**
 * The operation that puts a value in the place of what was read under a key, and fails if another was written since.
 * @param entry what was read; undefined: nothing
 */
export function replacing(
	key: string,
	entry: { index: number } | undefined,
	value: unknown,
): Operation {
	return entry
		? { verb: "update", key, value, index: entry.index }
		: { verb: "create", key, value };
}
