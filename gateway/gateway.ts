import { chmodSync } from "node:fs";
import { rm, stat } from "node:fs/promises";
import {
	type AddressInfo,
	connect,
	createServer,
	type Server,
	type Socket,
} from "node:net";
import { setImmediate, setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import type { Endpoint } from "../pipeline/config.ts";
import type { EngineAddress } from "../pipeline/engine.ts";
import { listening } from "../pipeline/listen.ts";
import type { Adapter } from "../pipeline/protocol.ts";
import { type Tls, tcpAddress } from "../pipeline/tls.ts";
import { tlsServer } from "../pipeline/tls-server.ts";
import { ClientConnection, type GatewayContext } from "./connection.ts";
import { endpointMatcher } from "./endpoints.ts";
import type { GatewayServices } from "./engines.ts";
import { HookRunner } from "./hooks.ts";
import { Router } from "./router.ts";
import { WINDOW } from "./upstream.ts";

export interface GatewayOptions {
	/** The engine of this host. */
	engine: EngineAddress;
	/** All hosts and what Consul knows; this host's engine alone without it. */
	services?: GatewayServices;
	endpoints: Endpoint[];
	/** Certificates for TCP: then a client must show one of the same authority. */
	tls?: Tls;
	/** By the name that endpoints call them. */
	adapters: Record<string, Adapter>;
	/** Milliseconds that one hook may take. */
	hookTimeout: number;
	/** Bytes that a body may have which hooks read. */
	maxBody: number;
	log: Logger;
}

export interface Gateway {
	/**
	 * @param addresses `tcp://127.0.0.1:2375`, `unix:///run/arpanet.sock`; port 0 is any free one
	 * @returns the same, with the ports that were given
	 * @throws Error naming the address that could not be had; then it listens nowhere
	 */
	listen(addresses: string[]): Promise<string[]>;
	/**
	 * Goes on until what was asked is answered, for `PATIENCE_MS` at most, and only then accepts nothing more. Streams,
	 * whose answers have begun, are ended after `GRACE_MS`.
	 */
	close(): Promise<void>;
}

/** Milliseconds for what is not answered yet when the gateway closes: a stop takes ten seconds, and an image is carried. */
const PATIENCE_MS = 20_000;
/** The same for streams. */
const GRACE_MS = 3_000;
/** How often is looked whether anything is still to be waited for. */
const LOOK_MS = 20;
/** TCP keep-alive, so that a client whose machine died does not stay for ever. */
const KEEP_ALIVE_MS = 60_000;

/** Docker's API in front of all hosts' engines, with powerstrip's hooks. */
export function createGateway(options: GatewayOptions): Gateway {
	const { log } = options;
	const router = new Router(options.services, options.engine);
	const context: GatewayContext = {
		hooksOf: endpointMatcher(options.endpoints),
		router,
		hooks: new HookRunner(options.adapters, options.hookTimeout, log),
		maxBody: options.maxBody,
		log,
	};
	const connections = new Set<ClientConnection>();
	const servers: Server[] = [];
	let closing = false;

	function accept(socket: Socket): void {
		const connection = new ClientConnection(socket, context);
		connections.add(connection);
		if (closing) connection.close();
		socket.once("close", () => connections.delete(connection));
	}

	function serve(address: string): Server {
		const settings = {
			allowHalfOpen: true,
			noDelay: true,
			highWaterMark: WINDOW,
			keepAlive: true,
			keepAliveInitialDelay: KEEP_ALIVE_MS,
		};
		// as with dockerd: whoever can open the unix socket needs no certificate
		const server =
			options.tls && address.startsWith("tcp://")
				? tlsServer(options.tls, settings, "clients", accept)
				: createServer(settings, accept);
		servers.push(server);
		return server;
	}

	async function close(): Promise<void> {
		closing = true;
		const began = performance.now();
		const within = (ms: number) => performance.now() - began < ms;
		const early = [...connections];
		for (const connection of early) connection.close();
		while (early.some(({ waits }) => waits) && within(PATIENCE_MS)) {
			await setTimeout(LOOK_MS);
		}
		await setImmediate(); // who has connected is accepted: the kernel would reset him
		const closed = servers.map(
			(server) => new Promise((resolve) => server.close(resolve)),
		);
		const waiting = () => [...connections].some(({ waits }) => waits);
		while (connections.size > 0 && (within(GRACE_MS) || waiting())) {
			if (!within(PATIENCE_MS)) break;
			await setTimeout(LOOK_MS);
		}
		for (const { socket } of connections) socket.destroy();
		await Promise.all(closed);
		router.close();
	}

	return {
		async listen(addresses) {
			try {
				const bound: string[] = [];
				for (const address of addresses)
					bound.push(await bind(serve(address), address, log));
				log.info(
					{ addresses: bound, engine: router.local.name },
					"gateway listens",
				);
				return bound;
			} catch (error) {
				await close();
				throw error;
			}
		},
		close,
	};
}

async function bind(
	server: Server,
	address: string,
	log: Logger,
): Promise<string> {
	const path = /^unix:\/\/(\/.+)$/.exec(address)?.[1];
	if (path) {
		await removeStaleSocket(path);
		await listening(server, { path }, { address, log });
		chmodSync(path, 0o660);
		return address;
	}
	const tcp = tcpAddress(address);
	if (!tcp) {
		throw new Error(
			`cannot listen on "${address}": write tcp://127.0.0.1:2375 or unix:///run/arpanet.sock`,
		);
	}
	await listening(server, tcp, { address, log });
	const { port } = server.address() as AddressInfo;
	return address.replace(/\d+$/, String(port));
}

/** A program that was killed leaves its socket's file; one that answers keeps it, and any other file stays. */
async function removeStaleSocket(path: string): Promise<void> {
	const code = await new Promise<string | undefined>((resolve) => {
		const probe = connect(path, () => {
			probe.destroy();
			resolve(undefined);
		});
		probe.once("error", (error: NodeJS.ErrnoException) => resolve(error.code));
	});
	if (code === "ECONNREFUSED" && (await stat(path)).isSocket()) {
		await rm(path, { force: true });
	}
}
