import { inTime } from "../pipeline/deadline.ts";
import { HttpClient, type Origin } from "../pipeline/http-client.ts";

/**
 * One GET over a connection of its own.
 * @param timeout milliseconds for the whole of it
 * @throws Error with Node's code (`ECONNREFUSED`, …) when there is no answer
 */
export async function ask(
	origin: Origin,
	path: string,
	timeout: number,
	headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
	const client = new HttpClient(origin);
	try {
		return await inTime(
			client.ask({ method: "GET", path, headers }),
			timeout,
			() => new Error(`no answer within ${timeout} ms`),
		);
	} finally {
		client.close();
	}
}
