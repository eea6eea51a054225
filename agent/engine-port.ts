import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setImmediate, setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import { type EngineAddress, parseEngineUrl } from "../pipeline/engine.ts";
import { listening } from "../pipeline/listen.ts";
import type { Tls } from "../pipeline/tls.ts";
import { tlsServer } from "../pipeline/tls-server.ts";

/** Milliseconds that what other gateways have asked may take when the port closes: as long as in the gateway. */
const PATIENCE_MS = 20_000;
/** A connection on which nothing is awaited is hung up when it has been quiet for so many milliseconds. */
const QUIET_MS = 100;
/** By then the other gateways have heard that this host's arpanet stops, and wait for it. */
const NOTICE_MS = 300;
/** After so long without a byte the kernel asks whether the gateway's host is still there. */
const KEEP_ALIVE_MS = 60_000;
/** How often is looked whether anything is still to be waited for. */
const LOOK_MS = 20;

/** A host's engine, open to the other hosts. */
interface EnginePort {
	/** Where it listens: what was given for port 0. */
	port: number;
	/** Goes on until what was asked is answered, then accepts nothing more and hangs up. */
	close(): Promise<void>;
}

/** A connection of another gateway. */
interface Joined {
	from: Socket;
	/** The last bytes came from the gateway: an answer is awaited. */
	asked: boolean;
	/** When they came, by a monotonic clock. */
	at: number;
}

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
): Promise<EnginePort> {
	const { host, port } = parseEngineUrl(listen) as {
		host: string;
		port: number;
	};
	const target = dial(parseEngineUrl(engine));
	const settings = {
		allowHalfOpen: true,
		noDelay: true,
		keepAlive: true, // a gateway whose host loses its power ends nothing
		keepAliveInitialDelay: KEEP_ALIVE_MS,
	};
	const server = tls
		? tlsServer(tls, settings, "hosts", join)
		: createServer(settings, join);

	const open = new Set<Joined>();

	function join(from: Socket): void {
		const to = connect({ ...target, ...settings });
		const joined: Joined = { from, asked: false, at: performance.now() };
		open.add(joined);
		const came = (asked: boolean) => {
			joined.asked = asked;
			joined.at = performance.now();
		};
		from.on("data", () => came(true));
		to.on("data", () => came(false));
		from.pipe(to);
		to.pipe(from);
		from.on("error", () => to.destroy());
		to.on("error", () => from.destroySoon());
		from.on("close", () => {
			open.delete(joined);
			to.destroy();
		});
		to.on("close", () => from.destroySoon()); // what came before is still to be read there
	}

	const address = `${listen} (host.engine)`;
	await listening(server, { host, port }, { address, log });
	log.info({ address: listen }, "engine port listens");
	return {
		port: (server.address() as AddressInfo).port,
		async close() {
			const end = performance.now() + PATIENCE_MS;
			await setTimeout(NOTICE_MS);
			const isAsked = () => [...open].some(({ asked }) => asked);
			while (isAsked() && performance.now() < end) await setTimeout(LOOK_MS);
			await setImmediate(); // who has connected is accepted: the kernel would reset him
			server.close();
			while (open.size > 0) {
				await setTimeout(LOOK_MS);
				await setImmediate(); // what came while we were busy is read before
				const now = performance.now();
				for (const { from, asked, at } of open) {
					const isQuiet = !asked && now - at > QUIET_MS;
					if (isQuiet || now > end) from.destroy();
				}
			}
		},
	};
}

function dial(address: EngineAddress) {
	return "socketPath" in address ? { path: address.socketPath } : address;
}
