import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
	createServer,
	type IncomingMessage,
	type RequestOptions,
	request,
	type Server,
	type ServerResponse,
} from "node:http";
import type { AddressInfo, ListenOptions } from "node:net";
import { buffer } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

/** What waits for news, and belongs to nobody's request. */
const WAITING = /\/events\b|[?&](?:index|wait)=|\/v1\/session\//;
/** Keys that are written by the clock. */
const CLOCK = /^(?:hosts|beats|leader|repairs)\b/;
/** Nobody works any more who has not called for so long. */
const QUIET_MS = 300;

/**
 * Stands between a process and Consul, engines or adapters, hands everything on, and kills the process before or after
 * one call of it: before, nobody was asked; after, it was done and nobody learns of it.
 */
export class Tripwire {
	readonly #servers: Server[] = [];
	readonly #writesOnly: boolean;
	#victim: ChildProcess | undefined;
	/** Points to go until the one that kills. */
	#left = 0;
	#trip: (point: string) => void = () => {};
	#lastCall = 0;

	/** @param options `writesOnly` counts no calls that only read: between two of them nothing has changed */
	constructor({ writesOnly = false } = {}) {
		this.#writesOnly = writesOnly;
	}

	/**
	 * Hands on what comes to an address.
	 * @param to as node's own: `{ socketPath }`, `{ host, port }`
	 * @returns the port, where the address is one of TCP
	 */
	async guard(listen: ListenOptions, to: RequestOptions): Promise<number> {
		const server = createServer((asked, answer) => {
			this.#serve(asked, answer, to).catch(() => answer.destroy());
		});
		server.keepAliveTimeout = 10 * 60_000; // who keeps a connection shall not find it closed
		this.#servers.push(server);
		server.listen(listen);
		await once(server, "listening");
		return (server.address() as AddressInfo).port;
	}

	/**
	 * Kills a process at a point from now on: 0 is before its first call, 1 after it, 2 before the second one.
	 * @returns the point, as soon as it is reached
	 */
	set(victim: ChildProcess, at: number): Promise<string> {
		this.#victim = victim;
		this.#left = at;
		return new Promise((resolve) => {
			this.#trip = resolve;
		});
	}

	/** Kills nobody any more. */
	clear(): void {
		this.#victim = undefined;
	}

	/** Waits until nothing is under way. */
	async quiet(): Promise<void> {
		while (performance.now() - this.#lastCall < QUIET_MS) await sleep(20);
	}

	close(): void {
		for (const server of this.#servers) {
			server.close();
			server.closeAllConnections();
		}
	}

	/** @returns whether the process is dead now */
	#passes(point: string): boolean {
		const victim = this.#victim;
		if (!victim || this.#left-- > 0) return false;
		victim.kill("SIGKILL");
		this.clear();
		this.#trip(point);
		return true;
	}

	async #serve(
		asked: IncomingMessage,
		answer: ServerResponse,
		to: RequestOptions,
	): Promise<void> {
		const { method, url = "", rawHeaders } = asked;
		const body = await buffer(asked); // an image is no text
		const counts =
			!WAITING.test(url) &&
			!isByClock(`${decodeURIComponent(url)} ${body}`) &&
			!(this.#writesOnly && method === "GET");
		const call = `${method} ${url}`;
		if (counts) {
			this.#lastCall = performance.now();
			if (this.#passes(`before ${call}`)) return;
		}
		const options = { ...to, method, path: url, agent: false };
		const forward = request({ ...options, headers: rawHeaders as never });
		answer.on("close", () => forward.destroy());
		forward.end(body);
		const [reply] = (await once(forward, "response")) as [IncomingMessage];
		const status = reply.statusCode ?? 502;
		if (!counts) {
			answer.writeHead(status, reply.rawHeaders);
			reply.on("error", () => answer.destroy());
			reply.pipe(answer);
			return;
		}
		const said = await buffer(reply);
		this.#lastCall = performance.now();
		if (this.#passes(`after ${call}`)) return;
		answer.writeHead(status, reply.rawHeaders);
		answer.end(said);
	}
}

/** Whether all that a call to Consul is about is of that kind. */
function isByClock(text: string): boolean {
	const keys = [...text.matchAll(/arpanet\/([^"?]+)/g)];
	return keys.length > 0 && keys.every(([, key = ""]) => CLOCK.test(key));
}
