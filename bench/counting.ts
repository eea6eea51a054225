import { Agent, createServer, request } from "node:http";
import type { AddressInfo } from "node:net";

/** Requests that Consul got, by kind. */
export interface Counts {
	reads: number;
	writes: number;
	/** Blocking queries that wait for a change. */
	watches: number;
}

/** Stands before a Consul and counts what it is asked. */
export interface CountingProxy {
	/** `http://10.213.1.254:40001` */
	address: string;
	/** So far, or since an earlier count. */
	counts(since?: Counts): Counts;
	/** What was asked since the last call of it: `GET /v1/kv/…`. */
	asked(): string[];
	close(): void;
}

/** @param listen address to listen on @param consul where the real one is */
export async function countingProxy(
	listen: string,
	consul: string,
): Promise<CountingProxy> {
	const upstream = new URL(consul);
	const agent = new Agent({ keepAlive: true, noDelay: true, maxSockets: 128 });
	const so: Counts = { reads: 0, writes: 0, watches: 0 };
	let lines: string[] = [];
	const server = createServer({ noDelay: true }, (incoming, outgoing) => {
		const { method = "GET", url = "/", headers } = incoming;
		lines.push(`${method} ${decodeURIComponent(url)}`);
		if (method !== "GET") so.writes++;
		else if (/[?&]index=[1-9]/.test(url)) so.watches++;
		else so.reads++;
		const asked = request(
			{
				host: upstream.hostname,
				port: upstream.port,
				agent,
				method,
				path: url,
				headers,
			},
			(answer) => {
				outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
				answer.pipe(outgoing);
			},
		);
		asked.on("error", () => outgoing.destroy());
		outgoing.on("close", () => asked.destroy());
		incoming.pipe(asked);
	});
	await new Promise<void>((resolve) => server.listen(0, listen, resolve));
	const { port } = server.address() as AddressInfo;
	return {
		address: `http://${listen}:${port}`,
		counts: (since) => ({
			reads: so.reads - (since?.reads ?? 0),
			writes: so.writes - (since?.writes ?? 0),
			watches: so.watches - (since?.watches ?? 0),
		}),
		asked: () => {
			const all = lines;
			lines = [];
			return all;
		},
		close: () => {
			server.close();
			server.closeAllConnections();
			agent.destroy();
		},
	};
}
