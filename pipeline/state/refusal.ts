/** What Consul answered instead of 200, in the shape of the errors of `consul`, and without the request that these hold, token and all. */
export class Refusal extends Error {
	readonly response: { statusCode: number; body: string };

	constructor(statusCode: number, body: string) {
		super(`Consul says ${statusCode}: ${body.trim().slice(0, 200)}`);
		this.response = { statusCode, body };
	}
}

/** HTTP status that Consul answered an error with; undefined when it did not answer. */
export function statusOf(error: unknown): number | undefined {
	return (error as { response?: { statusCode?: number } }).response?.statusCode;
}

/** What Consul said with an error: the package `consul` has parsed it if it was JSON. */
export function bodyOf(error: unknown): string {
	const { response } = error as { response?: { body?: unknown } };
	const { body = "" } = response ?? {};
	return typeof body === "string" ? body : JSON.stringify(body);
}

/** The operations of a transaction that was rolled back which failed, by their positions, and why; undefined if it failed otherwise. */
export function failedOperations(
	error: unknown,
): Map<number, string> | undefined {
	if (statusOf(error) !== 409) return undefined;
	const answer = JSON.parse(bodyOf(error)) as {
		Errors?: { OpIndex: number; What: string }[];
	};
	return new Map(answer.Errors?.map((each) => [each.OpIndex, each.What]));
}

/** Whether Consul says that its ACLs deny an operation; a whole request gets status 403. */
export function isDenial(what: string): boolean {
	return /permission denied|acl not found/i.test(what);
}

/** Whether an answer says nothing of the request: Consul has no leader or too much to do, or what stands before it has no Consul. */
export function isAway(status: number): boolean {
	return status === 429 || status >= 500;
}
