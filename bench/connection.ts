import { connect, type Socket } from "node:net";

/** Where a server listens. */
export type Target = { socketPath: string } | { host: string; port: number };

export interface Answer {
	status: number;
	body: string;
}

/** A hung engine shall end the bench with a message, not with silence. */
const LIMIT = 60_000;

interface Pending {
	resolve(answer: Answer): void;
	reject(error: Error): void;
}

/** A kept connection for one request at a time; the same light client in front of every way that is measured. */
export class Connection {
	readonly #socket: Socket;
	#pending: Pending | undefined;
	#bytes: Buffer = Buffer.alloc(0);
	/** Of the answer that is coming: where its body begins, and what is known of its end. */
	#head: { start: number; status: number; end: number } | undefined;
	/** In a chunked body: where the next chunk begins. */
	#chunk = 0;
	#parts: Buffer[] = [];

	private constructor(socket: Socket) {
		this.#socket = socket;
		socket.on("data", (chunk: Buffer) => {
			this.#bytes =
				this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
			this.#read();
		});
		socket.on("error", (error) => this.#fail(error));
		socket.on("close", () => this.#fail(new Error("connection closed")));
		socket.on("timeout", () => {
			if (this.#pending) {
				socket.destroy(new Error(`no answer within ${LIMIT} ms`));
			}
		});
	}

	static open(target: Target): Promise<Connection> {
		const where = "socketPath" in target ? { path: target.socketPath } : target;
		return new Promise((resolve, reject) => {
			const socket = connect({ ...where, noDelay: true, timeout: LIMIT });
			socket.once("error", reject);
			socket.once("connect", () => {
				socket.off("error", reject);
				resolve(new Connection(socket));
			});
		});
	}

	/** The other side has hung up, as a server may that was not asked for a while. */
	get closed(): boolean {
		return this.#socket.destroyed || this.#socket.readableEnded;
	}

	/** Sends bytes that are one request, and reads its answer. */
	send(request: Buffer): Promise<Answer> {
		return new Promise((resolve, reject) => {
			if (this.closed) throw new Error("connection closed");
			this.#pending = { resolve, reject };
			this.#socket.write(request);
		});
	}

	/**
	 * Sends a request and reads its answer.
	 * @throws when the status is not below 400
	 */
	async ask(method: string, path: string, body?: unknown): Promise<Answer> {
		const answer = await this.send(encode(method, path, body));
		if (answer.status < 400) return answer;
		throw new Error(
			`${method} ${path}: ${answer.status} ${answer.body.trim()}`,
		);
	}

	close(): void {
		this.#socket.destroy();
	}

	#read(): void {
		this.#head ??= this.#readHead();
		if (!this.#head) return;
		const { start, end, status } = this.#head;
		if (end >= 0) {
			if (this.#bytes.length < end) return;
			this.#done(status, this.#bytes.toString("utf8", start, end));
		} else if (this.#readChunks()) {
			this.#done(status, Buffer.concat(this.#parts).toString());
		}
	}

	#readHead(): { start: number; status: number; end: number } | undefined {
		const at = this.#bytes.indexOf("\r\n\r\n");
		if (at < 0) return undefined;
		const text = this.#bytes.toString("latin1", 0, at + 2);
		const status = Number(text.slice(9, 12));
		const length = /\r\ncontent-length: *(\d+)/i.exec(text)?.[1];
		const chunked = /\r\ntransfer-encoding: *chunked/i.test(text);
		this.#chunk = at + 4;
		return {
			start: at + 4,
			status,
			end: chunked ? -1 : at + 4 + Number(length ?? 0),
		};
	}

	#readChunks(): boolean {
		for (;;) {
			const line = this.#bytes.indexOf("\r\n", this.#chunk);
			if (line < 0) return false;
			const size = Number.parseInt(
				this.#bytes.toString("latin1", this.#chunk, line),
				16,
			);
			const end = line + 2 + size;
			if (this.#bytes.length < end + 2) return false;
			if (size === 0) return true;
			this.#parts.push(this.#bytes.subarray(line + 2, end));
			this.#chunk = end + 2;
		}
	}

	#done(status: number, body: string): void {
		const pending = this.#pending;
		this.#pending = undefined;
		this.#head = undefined;
		this.#bytes = Buffer.alloc(0);
		this.#parts = [];
		pending?.resolve({ status, body });
	}

	#fail(error: Error): void {
		this.#pending?.reject(error);
		this.#pending = undefined;
	}
}

/** A request as bytes, so that sending it many times costs nothing. */
export function encode(method: string, path: string, body?: unknown): Buffer {
	const text = body === undefined ? "" : JSON.stringify(body);
	const fields =
		body === undefined
			? ""
			: `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(text)}\r\n`;
	return Buffer.from(
		`${method} ${path} HTTP/1.1\r\nHost: docker\r\n${fields}\r\n${text}`,
	);
}

/** Kept connections to one target, for requests at the same time. */
export class Client {
	readonly target: Target;
	readonly #idle: Connection[] = [];

	constructor(target: Target) {
		this.target = target;
	}

	/** @throws when the status is not below 400 */
	async ask(method: string, path: string, body?: unknown): Promise<Answer> {
		const connection = this.#take() ?? (await Connection.open(this.target));
		const answer = await connection.ask(method, path, body).catch((error) => {
			connection.close();
			throw error;
		});
		this.#idle.push(connection);
		return answer;
	}

	close(): void {
		for (const connection of this.#idle.splice(0)) connection.close();
	}

	#take(): Connection | undefined {
		for (;;) {
			const connection = this.#idle.pop();
			if (!connection?.closed) return connection;
		}
	}
}
