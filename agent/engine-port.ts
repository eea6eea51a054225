import { connect, createServer, type Server, type Socket } from "node:net";
import type { Logger } from "pino";
import { type EngineAddress, parseEngineUrl } from "../pipeline/engine.ts";
import { listening } from "../pipeline/listen.ts";
import type { Tls } from "../pipeline/tls.ts";
import { tlsServer } from "../pipeline/tls-server.ts";

/**
 * Lets the other hosts' gateways reach this host's engine: bytes both ways, each direction ended by itself.
 * @param listen `tcp://10.0.0.1:2377`
 * @param engine `unix:///var/run/docker.sock`
 * @param tls whoever connects must show a host's certificate of the same authority: past the gateway there
 * are no hooks, so a client has no business here
 * @throws Error naming an address that cannot be had
 */
export async function openEnginePort(
	listen: string,
	engine: string,
	log: Logger,
	tls?: Tls,
): Promise<Server> {
	const { host, port } = parseEngineUrl(listen) as {
		host: string;
		port: number;
	};
	const target = dial(parseEngineUrl(engine));
	const settings = { allowHalfOpen: true, noDelay: true };
	const server = tls
		? tlsServer(tls, settings, "hosts", join)
		: createServer(settings, join);

	function join(from: Socket): void {
		const to = connect({ ...target, ...settings });
		from.pipe(to);
		to.pipe(from);
		from.on("error", () => to.destroy());
		to.on("error", () => from.destroy());
		from.on("close", () => to.destroy());
		to.on("close", () => from.destroy());
	}

	const address = `${listen} (host.engine)`;
	await listening(server, { host, port }, { address, log });
	log.info({ address: listen }, "engine port listens");
	return server;
}

function dial(address: EngineAddress) {
	return "socketPath" in address ? { path: address.socketPath } : address;
}
