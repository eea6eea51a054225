import { Agent, createServer, request } from "node:http";
import type { Duplex } from "node:stream";

/**
 * The proxy that anybody would write in Node: http on both sides and `pipe`. What the gateway is measured
 * against; run as `node node-proxy.js ENGINE-SOCKET SOCKET`.
 */
const [engine, socket] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true, maxSockets: 256 });

const server = createServer({ noDelay: true }, (incoming, outgoing) => {
	const asked = request(
		{
			socketPath: engine,
			agent,
			method: incoming.method,
			path: incoming.url,
			headers: incoming.headers,
		},
		(answer) => {
			outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
			answer.pipe(outgoing);
		},
	);
	asked.on("error", (error) => outgoing.destroy(error));
	outgoing.on("close", () => asked.destroy());
	incoming.pipe(asked);
});

server.on("upgrade", (incoming, client: Duplex, early: Buffer) => {
	const asked = request({
		socketPath: engine,
		method: incoming.method,
		path: incoming.url,
		headers: incoming.headers,
	});
	asked.on("upgrade", (answer, upstream, first) => {
		const fields = answer.rawHeaders.map((text, i) =>
			i % 2 === 0 ? `${text}: ` : `${text}\r\n`,
		);
		client.write(
			`HTTP/1.1 101 ${answer.statusMessage}\r\n${fields.join("")}\r\n`,
		);
		client.write(first);
		upstream.write(early);
		upstream.pipe(client).pipe(upstream);
		upstream.on("error", () => client.destroy());
	});
	client.on("error", () => asked.destroy());
	asked.on("error", () => client.destroy());
	asked.end();
});

server.keepAliveTimeout = 10 * 60_000; // no request is to meet a connection that is just being closed
server.listen(socket, () => console.log("ready"));
