import { HttpError } from "../pipeline/errors.ts";
import { BodyReader } from "./body-reader.ts";
import type { ClientConnection, Exchange, Incoming } from "./connection.ts";
import { field, Malformed } from "./http1.ts";

/** Reads a request's body for its hooks. */
export class Gather implements Exchange {
	/** The request as far as it has come. */
	readonly incoming: Incoming;
	readonly #connection: ClientConnection;
	#payload: Buffer[] | undefined = [];
	#raw: Buffer[];
	#size = 0;
	#limit = Number.POSITIVE_INFINITY;
	#settle: (result: "gone" | "over" | "done") => void = () => {};

	constructor(connection: ClientConnection, incoming: Incoming) {
		this.#connection = connection;
		this.incoming = { ...incoming };
		this.#raw = [incoming.sent];
	}

	/**
	 * @param limit bytes
	 * @returns the body without its framing; "over": it is larger, and `incoming` holds what has
	 * been read of it; "gone": the client hung up or sent no HTTP, and has been answered
	 */
	async read(limit: number): Promise<Buffer | "over" | "gone"> {
		const { head, sent, headSize } = this.incoming;
		if (head.bodyLength > limit) return "over";
		this.#limit = limit;
		// what came with the head was framed then; only chunks have to be taken apart again
		const again = new BodyReader(head.bodyLength);
		again.read(sent, headSize, this.#payload);
		this.#size = sent.length - headSize;
		const result = await this.#receive();
		this.incoming.sent = Buffer.concat(this.#raw);
		return result === "done" ? Buffer.concat(this.#payload ?? []) : result;
	}

	/** Reads the body and forgets it. @returns whether it came to its end */
	async skip(): Promise<boolean> {
		this.#payload = undefined;
		return (await this.#receive()) === "done";
	}

	async #receive(): Promise<"gone" | "over" | "done"> {
		const { head, body } = this.incoming;
		if (this.#size > this.#limit) return "over";
		if (body.done) return "done";
		const connection = this.#connection;
		if (connection.ended || connection.closed) return this.#brokenOff();
		return new Promise((resolve) => {
			this.#settle = resolve;
			connection.exchange = this;
			if (connection.socket.isPaused()) connection.socket.resume();
			if (/^100-continue$/i.test(field(head, "expect") ?? "")) {
				connection.socket.write("HTTP/1.1 100 Continue\r\n\r\n");
			}
		});
	}

	clientData(chunk: Buffer): void {
		const { incoming } = this;
		let end: number;
		try {
			end = incoming.body.read(chunk, 0, this.#payload);
		} catch (error) {
			if (!(error instanceof Malformed)) throw error;
			this.#connection.refuse(400, error.message);
			this.#settle("gone");
			return;
		}
		if (this.#payload) this.#raw.push(chunk.subarray(0, end));
		this.#size += end;
		if (end < chunk.length) incoming.early = chunk.subarray(end);
		if (incoming.body.done || this.#size > this.#limit) {
			this.#connection.socket.pause();
			this.#settle(incoming.body.done ? "done" : "over");
		}
	}

	clientEnd(): void {
		this.#settle(this.#brokenOff());
	}

	clientClosed(): void {
		this.#settle("gone");
	}

	clientDrain(): void {}

	#brokenOff(): "gone" {
		this.#connection.answerError(
			new HttpError(400, "the request's body breaks off"),
			this.incoming,
		);
		return "gone";
	}
}
