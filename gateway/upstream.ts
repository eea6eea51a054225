import { connect, isIPv6, type Socket } from "node:net";
import { type ConnectionOptions, connect as connectTls } from "node:tls";
import type { EngineAddress } from "../pipeline/engine.ts";
import { type Fate, Inflow } from "./inflow.ts";

/** Who is told what the engine's connection does. */
export interface UpstreamSink {
	/** @returns the chunk's fate; once it is written its memory is used again */
	upstreamData(chunk: Buffer): Fate;
	/** The engine has sent its last byte; it may still read. */
	upstreamEnd(): void;
	upstreamDrain(): void;
	upstreamClosed(error: Error | undefined): void;
}

/** One connection to the engine, lent to one request at a time. */
export interface Upstream {
	readonly socket: Socket;
	/** What the engine sends; to be paused and resumed here, not at the socket. */
	readonly inflow: Inflow;
	sink: UpstreamSink | null;
	/** It has served a request before, so the engine may have closed it meanwhile. */
	reused: boolean;
	/** When it became idle, on `performance`'s clock. */
	idleSince: number;
}

/** So many idle connections are kept at most, and for so long. */
const MAX_IDLE = 64;
const IDLE_MS = 20_000;
const CONNECT_LIMIT_MS = 10_000;
/** After so long without a byte the kernel asks whether the host is still there; ten seconds without an answer end the connection. */
const KEEP_ALIVE_MS = 5_000;
/** How soon an engine that is being started again is asked again. */
export const RETRY_MS = 100;
/**
 * Bytes that a slow reader may be behind before the writer is held back. Node's 16 KiB are less than
 * one read, so every chunk would stop and start the stream.
 */
export const WINDOW = 512 * 1024;

/** Kept-alive connections to one engine. */
export class EnginePool {
	readonly address: EngineAddress;
	/** Whether it is worth while to wait if the engine refuses connections now: it is being started again. */
	readonly isReturning: () => boolean;
	readonly #idle: Upstream[] = [];
	#closed = false;

	constructor(address: EngineAddress, isReturning = () => false) {
		this.address = address;
		this.isReturning = isReturning;
	}

	/** As users write it: `unix:///var/run/docker.sock`, `tcp://10.0.0.1:2375`. */
	get name(): string {
		const { address } = this;
		if ("socketPath" in address) return `unix://${address.socketPath}`;
		const host = isIPv6(address.host) ? `[${address.host}]` : address.host;
		return `tcp://${host}:${address.port}`;
	}

	/**
	 * A connection that can be written to at once; how it fails, the sink is told.
	 * @param once what is to be sent cannot be sent again: then it is one that was in use a moment ago. The other end of an older one
	 *   may have given it up without our hearing of it, when this host was cut off.
	 */
	take(sink: UpstreamSink, once = false): Upstream {
		const upstream = this.#idle.pop();
		if (!upstream) return this.fresh(sink);
		if (once && performance.now() - upstream.idleSince > KEEP_ALIVE_MS) {
			upstream.socket.destroy();
			return this.fresh(sink);
		}
		upstream.socket.setTimeout(0);
		upstream.sink = sink;
		upstream.reused = true;
		return upstream;
	}

	/** The same, and never one that the engine may have given up already. */
	fresh(sink: UpstreamSink): Upstream {
		const { address } = this;
		const where =
			"socketPath" in address ? { path: address.socketPath } : address;
		const inflow = new Inflow((chunk) => {
			if (upstream.sink) return upstream.sink.upstreamData(chunk);
			this.#discard(upstream); // nobody asked
			return "written";
		});
		const options = {
			allowHalfOpen: true,
			highWaterMark: WINDOW,
			onread: inflow.onread,
		};
		const tls = "tls" in address && address.tls;
		const socket = tls
			? connectTls({ ...where, ...options, ...tls } as ConnectionOptions)
			: connect({ ...where, ...options });
		inflow.attach(socket);
		const upstream: Upstream = {
			socket,
			inflow,
			sink,
			reused: false,
			idleSince: 0,
		};
		const limit = setTimeout(() => {
			socket.destroy(
				new Error(`no connection in ${CONNECT_LIMIT_MS / 1000} s`),
			);
		}, CONNECT_LIMIT_MS);
		let error: Error | undefined;
		// a process that is frozen accepts connections, and says nothing on them
		socket.once(tls ? "secureConnect" : "connect", () => clearTimeout(limit));
		socket.once("connect", () => {
			socket.setNoDelay(true); // connectTls does not take these as options
			socket.setKeepAlive(true, KEEP_ALIVE_MS); // a host that loses its power ends nothing
		});
		socket.on("end", () => {
			if (upstream.sink) upstream.sink.upstreamEnd();
			else this.#discard(upstream);
		});
		socket.on("drain", () => upstream.sink?.upstreamDrain());
		socket.on("timeout", () => this.#discard(upstream));
		socket.on("error", (cause) => {
			error = cause;
		});
		socket.on("close", () => {
			clearTimeout(limit);
			this.#discard(upstream);
			upstream.sink?.upstreamClosed(error);
		});
		return upstream;
	}

	/** Gives back a connection whose response has been read to its end. */
	release(upstream: Upstream): void {
		upstream.sink = null;
		const { socket } = upstream;
		const usable =
			!socket.destroyed && !socket.readableEnded && socket.writable;
		if (this.#closed || !usable || this.#idle.length >= MAX_IDLE) {
			socket.destroy();
			return;
		}
		upstream.inflow.renew();
		upstream.idleSince = performance.now();
		socket.setTimeout(IDLE_MS);
		this.#idle.push(upstream);
	}

	/** Nobody is to be lent it any more, from this moment: that it is closed is told later. */
	#discard(upstream: Upstream): void {
		const at = this.#idle.indexOf(upstream);
		if (at >= 0) this.#idle.splice(at, 1);
		upstream.socket.destroy();
	}

	/** Ends what is idle, and lets nothing become idle any more. */
	close(): void {
		this.#closed = true;
		for (const { socket } of this.#idle) socket.destroy();
	}
}
