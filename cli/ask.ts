import { request } from "node:http";
import type { EngineAddress } from "../pipeline/engine.ts";

export interface Answer {
	status: number;
	/** As it came; see `json`. */
	text: string;
}

/**
 * One GET over a socket of its own.
 * @param timeout milliseconds for the whole of it
 * @throws Error with Node's code (`ECONNREFUSED`, …) when there is no answer
 */
export function ask(
	address: EngineAddress,
	path: string,
	timeout: number,
	headers: Record<string, string> = {},
): Promise<Answer> {
	return new Promise((resolve, reject) => {
		const signal = AbortSignal.timeout(timeout);
		const late = () => reject(new Error(`no answer within ${timeout} ms`));
		signal.addEventListener("abort", late);
		const asked = request(
			{ ...address, path, headers, agent: false, signal },
			(answer) => {
				let text = "";
				answer.setEncoding("utf8");
				answer.on("data", (chunk) => {
					text += chunk;
				});
				answer.on("end", () =>
					resolve({ status: answer.statusCode ?? 0, text }),
				);
				answer.on("error", reject);
			},
		);
		asked.on("error", reject);
		asked.end();
	});
}

/** The host and port of a `http://` URL. */
export function addressOf(url: string): { host: string; port: number } {
	const { hostname, port } = new URL(url);
	return { host: hostname.replace(/[[\]]/g, ""), port: Number(port) || 80 };
}
