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
	const { body = "" } = (error as { response: { body?: unknown } }).response;
	return typeof body === "string" ? body : JSON.stringify(body);
}

/** Whether an answer says nothing of the request: Consul has no leader or too much to do, or what stands before it has no Consul. */
export function isAway(status: number): boolean {
	return status === 429 || status >= 500;
}
