import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import { hostIn, type Tls } from "../pipeline/tls.ts";

export interface Answer {
	status: number;
	/** As it came; see `json`. */
	text: string;
}

/** Where to ask, and over TLS if there is anything to show or to trust. */
export type Address = ({ socketPath: string } | Port) & {
	tls?: Partial<Tls>;
};

interface Port {
	host: string;
	port: number;
}

/**
 * One GET over a socket of its own.
 * @param timeout milliseconds for the whole of it
 * @throws Error with Node's code (`ECONNREFUSED`, …) when there is no answer
 */
export function ask(
	{ tls, ...address }: Address,
	path: string,
	timeout: number,
	headers: Record<string, string> = {},
): Promise<Answer> {
	return new Promise((resolve, reject) => {
		const signal = AbortSignal.timeout(timeout);
		const late = () => reject(new Error(`no answer within ${timeout} ms`));
		signal.addEventListener("abort", late);
		const request = tls ? requestHttps : requestHttp;
		const asked = request(
			{ ...address, ...tls, path, headers, agent: false, signal },
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

/**
 * Where a `http://` or `https://` URL leads.
 * @param tls what to trust and show for https
 */
export function addressOf(url: string, tls: Partial<Tls> = {}): Address & Port {
	const parsed = new URL(url);
	const { port, protocol } = parsed;
	const host = hostIn(parsed);
	return protocol === "https:"
		? { host, port: Number(port) || 443, tls }
		: { host, port: Number(port) || 80 };
}
