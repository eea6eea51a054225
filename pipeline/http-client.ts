import {
	type Agent,
	Agent as HttpAgent,
	type IncomingMessage,
	request as requestHttp,
} from "node:http";
import { Agent as HttpsAgent, request as requestHttps } from "node:https";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import type { Tls } from "./tls.ts";

/** Where a server listens: at a unix socket, or at a port; with `tls`, over TLS. */
export type Origin = { socketPath: string } | PortOrigin;

interface PortOrigin {
	/** An address of IPv6 has no brackets. */
	host: string;
	port: number;
	tls?: Partial<Tls> | undefined;
}

/**
 * Where a `http://` or `https://` URL leads.
 * @param tls what to trust and to show for https
 */
export function originOf(url: string, tls: Partial<Tls> = {}): PortOrigin {
	const { hostname, port, protocol } = new URL(url);
	const host = hostname.replace(/[[\]]/g, "");
	return protocol === "https:"
		? { host, port: Number(port) || 443, tls }
		: { host, port: Number(port) || 80 };
}

export interface Request {
	method: string;
	/** With its query. */
	path: string;
	headers?: Record<string, string>;
	body?: string | Readable;
	/** Milliseconds without a byte after which the request fails; 0 or none: never. */
	timeout?: number;
	signal?: AbortSignal;
}

export interface Reply {
	status: number;
	/** Names and values in turn, as they are spelt. */
	headers: string[];
	/** To be read to its end, or destroyed. */
	body: IncomingMessage;
}

/** An idle connection is closed after so many milliseconds: sooner than servers do, which are content with 5 s. */
const IDLE_MS = 4_000;

/** Requests to one server over connections that are kept. */
export class HttpClient {
	readonly #agent: Agent;
	readonly #request: typeof requestHttp;
	readonly #where: Origin;

	/** @param maxSockets more requests than this at once wait for each other */
	constructor(origin: Origin, maxSockets = Number.POSITIVE_INFINITY) {
		const secure = "tls" in origin && origin.tls !== undefined;
		const options = { keepAlive: true, noDelay: true, maxSockets };
		this.#agent = secure
			? new HttpsAgent({ ...options, timeout: IDLE_MS, ...origin.tls })
			: new HttpAgent({ ...options, timeout: IDLE_MS });
		this.#request = secure ? requestHttps : requestHttp;
		this.#where = origin;
	}

	/**
	 * Resolves with the head of the answer.
	 * @throws Error with Node's code (`ECONNREFUSED`, …) when there is none
	 */
	send(request: Request): Promise<Reply> {
		return this.#once(request, request.method === "GET"); // RFC 9110, 9.2.2 says what may be asked twice
	}

	/** The same with the whole body as text. */
	async ask(request: Request): Promise<Omit<Reply, "body"> & { text: string }> {
		const { body, ...head } = await this.send(request);
		return { ...head, text: await text(body) };
	}

	/** Ends its connections, and the requests on them. */
	close(): void {
		this.#agent.destroy();
	}

	/** @param again ask once more if a kept connection turns out to be closed: the server may have done so just then */
	#once(request: Request, again: boolean): Promise<Reply> {
		const { body, timeout = 0, signal, ...head } = request;
		return new Promise((resolve, reject) => {
			let isAnswered = false;
			const asked = this.#request({
				...this.#where,
				...head,
				...(signal ? { signal } : {}),
				agent: this.#agent,
				timeout,
			});
			asked.once("response", (answer) => {
				isAnswered = true;
				const { statusCode = 0, rawHeaders } = answer;
				resolve({ status: statusCode, headers: rawHeaders, body: answer });
			});
			asked.on("timeout", () => {
				asked.destroy(new Error(`nothing came for ${timeout / 1000} s`));
			});
			asked.on("error", (error: NodeJS.ErrnoException) => {
				const isStale = asked.reusedSocket && error.code === "ECONNRESET";
				if (isAnswered || !isStale || !again || signal?.aborted) reject(error);
				else resolve(this.#once(request, false));
			});
			if (typeof body !== "object") {
				asked.end(body);
				return;
			}
			body.on("error", (error) => asked.destroy(error));
			body.pipe(asked);
		});
	}
}
