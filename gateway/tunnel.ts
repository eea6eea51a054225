import type { ClientConnection, Exchange } from "./connection.ts";
import type { Fate } from "./inflow.ts";
import type { Upstream, UpstreamSink } from "./upstream.ts";

/**
 * Milliseconds between the head that opens a stream and the engine's first bytes: docker-py reads the head through a
 * buffer, and what it finds there behind it is lost to it.
 */
const GAP_MS = 20;

/** A hijacked connection: bytes both ways, each direction ended by itself. */
export class Tunnel implements Exchange, UpstreamSink {
	readonly #connection: ClientConnection;
	readonly #upstream: Upstream;
	/** The engine's first bytes, while they wait. */
	#held: Buffer | null = null;
	#opening = true;
	#over = false;

	/**
	 * @param head of the answer that opens the stream, to the byte
	 * @param first stream bytes that the engine sent with it
	 * @param early stream bytes that the client has sent already
	 */
	constructor(
		connection: ClientConnection,
		upstream: Upstream,
		head: Buffer,
		first: Buffer,
		early: Buffer | null,
	) {
		this.#connection = connection;
		this.#upstream = upstream;
		connection.exchange = this;
		upstream.sink = this;
		connection.socket.write(head);
		if (first.length > 0) this.#held = first;
		upstream.inflow.pause();
		setTimeout(() => this.#release(), GAP_MS);
		if (early) this.clientData(early);
		if (!connection.socket.isPaused()) return;
		if (!upstream.socket.writableNeedDrain) connection.socket.resume();
	}

	#release(): void {
		if (!this.#opening) return;
		this.#opening = false;
		const held = this.#held;
		this.#held = null;
		if (!held || this.#connection.socket.write(held)) {
			this.#upstream.inflow.resume();
		}
		if (this.#over) this.#connection.socket.end();
	}

	clientData(chunk: Buffer): void {
		if (!this.#upstream.socket.write(chunk)) this.#connection.socket.pause();
	}

	clientEnd(): void {
		this.#upstream.socket.end();
	}

	clientDrain(): void {
		if (!this.#opening) this.#upstream.inflow.drained();
	}

	clientClosed(): void {
		this.#held = null;
		this.#upstream.sink = null;
		this.#upstream.socket.destroy();
	}

	upstreamData(chunk: Buffer): Fate {
		if (this.#opening) {
			// TLS hands out all that it has deciphered, also when it is paused
			this.#held = Buffer.concat([this.#held ?? Buffer.alloc(0), chunk]);
			return "written";
		}
		const { socket } = this.#connection;
		if (socket.writableLength === 0) this.#upstream.inflow.written(); // TLS is never done at once
		if (!socket.write(chunk)) this.#upstream.inflow.pause();
		return socket.writableLength > 0 ? "waiting" : "written";
	}

	upstreamEnd(): void {
		this.#over = true; // node tells a paused socket's end as well
		if (!this.#opening) this.#connection.socket.end();
	}

	upstreamDrain(): void {
		this.#connection.socket.resume();
	}

	/** A reset as well: what came before it has still to reach the client. */
	upstreamClosed(): void {
		this.#upstream.sink = null;
		this.#release();
		this.#connection.finish();
	}
}
