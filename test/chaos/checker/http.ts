import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";

/** Where to ask: an engine's socket, or a gateway. */
export type Where = { socketPath: string } | { host: string; port: number };

/** An answer of Docker's API, parsed where it is JSON. */
export interface Reply {
	status: number;
	// biome-ignore lint/suspicious/noExplicitAny: whatever Docker's API answers
	body: any;
}

/**
 * One request of Docker's API over a connection of its own.
 * @param patience milliseconds without a byte
 * @throws when no answer comes
 */
export function ask(
	where: Where,
	path: string,
	body?: unknown,
	patience = 20_000,
): Promise<Reply> {
	return new Promise((resolve, reject) => {
		const asked = request(
			{
				...where,
				path,
				method: body ? "POST" : "GET",
				headers: { "content-type": "application/json" },
				agent: false,
				timeout: patience,
			},
			(response) => {
				let text = "";
				response.setEncoding("utf8");
				response.on("data", (chunk) => {
					text += chunk;
				});
				response.on("error", reject);
				response.on("end", () => {
					const isJson = response.headers["content-type"]?.includes("json");
					const status = response.statusCode ?? 0;
					resolve({ status, body: isJson && text ? JSON.parse(text) : text });
				});
			},
		);
		asked.on("timeout", () => asked.destroy(new Error(`${path}: late`)));
		asked.on("error", reject);
		asked.end(body ? JSON.stringify(body) : undefined);
	});
}

/**
 * The same where the answer must be a good one.
 * @param until may be tried again till then, by `performance.now()`: a host that has much to do may seem silent
 * @throws also for any other answer
 */
export async function get<T>(
	where: Where,
	path: string,
	until = 0,
): Promise<T> {
	for (;;) {
		const { status, body } = await ask(where, path);
		if (status < 300) return body as T;
		if (status !== 502 || performance.now() > until) {
			throw new Error(`${path}: ${status} ${JSON.stringify(body)}`);
		}
		await sleep(200);
	}
}
