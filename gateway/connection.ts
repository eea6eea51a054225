import { once } from "node:events";
import { STATUS_CODES } from "node:http";
import type { Socket } from "node:net";
import type { Logger } from "pino";
import type { HttpError } from "../pipeline/errors.ts";
import { asLogged } from "../pipeline/verbs.ts";
import { BodyReader } from "./body-reader.ts";
import type { HookNames } from "./endpoints.ts";
import { isForm } from "./form.ts";
import { readAndWritten } from "./garbage.ts";
import { HookedExchange } from "./hooked.ts";
import type { HookRunner } from "./hooks.ts";
import {
	field,
	headEnd,
	Malformed,
	mayBecomeRequest,
	parseRequestHead,
	type RequestHead,
} from "./http1.ts";
import { Pass } from "./pass.ts";
import type { Router } from "./router.ts";
import type { OwnAnswer } from "./treatments/treatment.ts";
import { EnginePool } from "./upstream.ts";

/** What every connection of one gateway shares. */
export interface GatewayContext {
	/** The hooks of a request; null when it has none. */
	hooksOf(method: string, path: string): HookNames | null;
	router: Router;
	hooks: HookRunner;
	/** Bytes. */
	maxBody: number;
	log: Logger;
}

/** One request, from its head to the last byte of its answer. */
export interface Exchange {
	clientData(chunk: Buffer): void;
	/** The client has sent its last byte; it may still read. */
	clientEnd(): void;
	clientDrain(): void;
	clientClosed(): void;
}

/** A request as far as it has come. */
export interface Incoming {
	head: RequestHead;
	/** Head and body as they came, or what stands for them. */
	sent: Buffer;
	/** Bytes of `sent` that are the head. */
	headSize: number;
	/** Where its body is: not done while the client still sends. */
	body: BodyReader;
	/** What the client sent after the request's end: the next one, or a hijacked stream's start. */
	early: Buffer | null;
}

/**
 * Of a gateway that closes: a connection is hung up when no request has come for so many milliseconds after an answer. A
 * client has its next one on the way at once, or not at all.
 */
const IDLE_MS = 500;

/** Bytes of a path without its query: the endpoints' patterns take the square of that. */
const MAX_PATH = 16_384;

const NO_HOOKS: HookNames = { pre: [], post: [] };

/** How long a client that is not done sending may take to read a last answer. */
const LINGER_MS = 30_000;
const BREAKS_OFF = "the request breaks off";
const NOTHING = (): void => {};

/** Swallows what a client still sends, so that it reads its answer and no reset. */
const DISCARD: Exchange = {
	clientData: NOTHING,
	clientEnd: NOTHING,
	clientDrain: NOTHING,
	clientClosed: NOTHING,
};

/** A client: serves its requests one after the other. */
export class ClientConnection {
	readonly socket: Socket;
	readonly context: GatewayContext;
	exchange: Exchange | null = null;
	/** The client has sent its last byte. */
	ended = false;
	/** The client is gone. */
	closed = false;
	/** To be called when the request is answered. */
	#afterwards: (() => void)[] = [];
	#closing = false;
	/** Bytes written before the request that is being served. */
	#written = 0;
	#partial: Buffer | null = null;
	/** Of the request that is being served. */
	#head: RequestHead | undefined;

	constructor(socket: Socket, context: GatewayContext) {
		this.socket = socket;
		this.context = context;
		socket.on("data", (chunk: Buffer) => {
			if (this.exchange) this.exchange.clientData(chunk);
			else this.#serve(chunk);
			readAndWritten(chunk.length);
		});
		socket.on("end", () => {
			this.ended = true;
			if (this.exchange) this.exchange.clientEnd();
			else if (this.#partial) this.refuse(400, BREAKS_OFF);
			else socket.end();
		});
		socket.on("drain", () => this.exchange?.clientDrain());
		socket.on("error", NOTHING); // resets are how many clients leave; "close" follows
		socket.on("close", () => {
			this.closed = true;
			this.exchange?.clientClosed();
			this.#over();
		});
	}

	#serve(chunk: Buffer): void {
		const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
		let incoming: Incoming | null;
		try {
			incoming = readRequest(bytes, this.#partial?.length ?? 0);
		} catch (error) {
			if (!(error instanceof Malformed)) throw error;
			this.refuse(400, error.message);
			return;
		}
		this.#partial = incoming ? null : bytes;
		if (!incoming) {
			if (this.ended) this.refuse(400, BREAKS_OFF); // while the one before was served
			return;
		}
		this.#written = this.socket.bytesWritten;

		const { head } = incoming;
		this.#head = head;
		if (head.path.length > MAX_PATH) {
			this.refuse(
				414,
				`the path is over ${MAX_PATH} bytes: nothing has such a name`,
			);
			return;
		}
		const { router } = this.context;
		const passed = router.passing(head.method, head.path);
		if (passed) this.afterwards(passed);
		const hookNames = this.context.hooksOf(head.method, head.path);
		if (hookNames || isForm(head)) {
			HookedExchange.start(this, incoming, hookNames ?? NO_HOOKS);
			return;
		}
		const route = router.route(head.method, head.target, null, this);
		if (route instanceof EnginePool) Pass.start(this, incoming, route, null);
		else HookedExchange.start(this, incoming, NO_HOOKS, route);
	}

	/** What the client says it is; empty when it does not. */
	get userAgent(): string {
		return (this.#head && field(this.#head, "user-agent")) ?? "";
	}

	/** Calls once the request that is being served has been answered, or its client is gone. */
	afterwards(callback: () => void): void {
		if (this.closed) callback();
		else this.#afterwards.push(callback);
	}

	#over(): void {
		const callbacks = this.#afterwards;
		this.#afterwards = [];
		for (const callback of callbacks) callback();
	}

	/** The exchange is over. @param rest what the client has sent since */
	next(keepAlive: boolean, rest: Buffer | null): void {
		this.#over();
		this.#written = this.socket.bytesWritten;
		if (!keepAlive || (this.ended && !rest)) {
			this.finish();
			return;
		}
		this.exchange = null;
		if (this.#closing) this.#finishWhenIdle();
		if (this.socket.isPaused()) this.socket.resume();
		if (rest) this.#serve(rest);
	}

	/** Whether a request is being served of whose answer nothing has been sent yet. */
	get waits(): boolean {
		if (this.closed || this.exchange === DISCARD) return false;
		const served = this.exchange !== null || this.#partial !== null;
		return served && this.socket.bytesWritten === this.#written;
	}

	/**
	 * Answers as Docker says errors, and goes on with the connection.
	 *
	 * @param incoming the request that failed; with its body half read, there is no going on
	 */
	answerError(
		error: HttpError,
		incoming: Incoming,
		rest = incoming.early,
	): void {
		if (this.closed || this.socket.writableEnded) return;
		const { head, body } = incoming;
		const keepAlive = body.done && head.keepAlive;
		const { status, message } = error;
		this.socket.write(errorAnswer(status, message, keepAlive, head.method));
		this.next(keepAlive, rest);
	}

	/** Gives an answer of the gateway's own, and goes on with the connection. */
	answerOwn(own: OwnAnswer, incoming: Incoming): void {
		if (this.closed || this.socket.writableEnded) return;
		if ("stream" in own) {
			void this.#stream(own, incoming);
			return;
		}
		const { head } = incoming;
		const keepAlive = incoming.body.done && head.keepAlive;
		if ("bytes" in own) {
			const { status, bytes, headers } = own;
			this.socket.cork(); // head and body in one piece
			this.socket.write(ownHead(status, bytes.length, keepAlive, headers));
			if (head.method !== "HEAD") this.socket.write(bytes);
			this.socket.uncork();
		} else {
			const { body } = own;
			const text = body === undefined ? "" : `${JSON.stringify(body)}\n`;
			this.socket.write(jsonAnswer(own.status, text, keepAlive, head.method));
		}
		this.next(keepAlive, incoming.early);
	}

	/** Sends lines as they come, until there are no more or the client goes. */
	async #stream(
		own: Extract<OwnAnswer, { stream: unknown }>,
		{ head }: Incoming,
	): Promise<void> {
		const gone = new AbortController();
		const leave = () => gone.abort();
		this.exchange = { ...DISCARD, clientEnd: leave, clientClosed: leave };
		if (this.socket.isPaused()) this.socket.resume();
		// docker-py takes what is not chunked for an error, and reads it to its end
		const chunked = !/^[^\r]* HTTP\/1\.0(\r|$)/.test(head.text);
		const framing = chunked ? "Transfer-Encoding: chunked\r\n" : "";
		this.socket.write(
			`HTTP/1.1 ${own.status} OK\r\nContent-Type: application/json\r\n${framing}Connection: close\r\n\r\n`,
		);
		try {
			for await (const line of own.stream(gone.signal)) {
				if (gone.signal.aborted) break;
				if (!this.socket.write(chunked ? chunk(line) : line)) {
					await once(this.socket, "drain", { signal: gone.signal });
				}
			}
			if (chunked && !gone.signal.aborted) this.socket.write(LAST_CHUNK);
		} catch (error) {
			if (!gone.signal.aborted) {
				const request = asLogged(head.target);
				this.context.log.warn({ err: error, request }, "a stream broke off");
			}
		}
		gone.abort();
		this.finish();
	}

	/** Answers that the bytes make no request, and hangs up. */
	refuse(status: number, message: string): void {
		if (!this.closed && !this.socket.writableEnded) {
			this.socket.write(errorAnswer(status, message, false));
		}
		this.finish();
	}

	/** Sends what is written, hangs up, and gives the client time to read it. */
	finish(): void {
		this.#over();
		this.exchange = DISCARD;
		const { socket } = this;
		if (this.closed) return;
		const linger = () => {
			const limit = setTimeout(() => socket.destroy(), LINGER_MS).unref();
			socket.once("close", () => clearTimeout(limit));
		};
		socket.end();
		// who reads slowly has all the time
		if (socket.writableFinished) linger();
		else socket.once("finish", linger);
		socket.resume();
	}

	/** Hangs up once what was asked is answered, and for a moment no request comes. */
	close(): void {
		this.#closing = true;
		const isNew = this.socket.bytesWritten === 0; // its request is on the way
		if (!this.exchange && !isNew) this.#finishWhenIdle();
	}

	#finishWhenIdle(): void {
		const finish = () => {
			if (!this.exchange && !this.#partial) this.finish();
		};
		// what came while we were busy is read before
		setTimeout(() => setImmediate(finish), IDLE_MS).unref();
	}
}

/** @param searched bytes at the front in which no head ended */
function readRequest(bytes: Buffer, searched: number): Incoming | null {
	const headSize = headEnd(bytes, 0, searched);
	if (headSize < 0) {
		if (!searched && !mayBecomeRequest(bytes)) {
			throw new Malformed("this is not HTTP");
		}
		return null;
	}
	const head = parseRequestHead(bytes.toString("latin1", 0, headSize - 2));
	const body = new BodyReader(head.bodyLength);
	const end = body.read(bytes, headSize);
	if (end === bytes.length) {
		return { head, sent: bytes, headSize, body, early: null };
	}
	const sent = bytes.subarray(0, end);
	return { head, sent, headSize, body, early: bytes.subarray(end) };
}

/** `{"message": …}`, which every Docker client prints. */
function errorAnswer(
	status: number,
	message: string,
	keepAlive: boolean,
	method = "",
): string {
	return jsonAnswer(
		status,
		`${JSON.stringify({ message })}\n`,
		keepAlive,
		method,
	);
}

function jsonAnswer(
	status: number,
	body: string,
	keepAlive: boolean,
	method: string,
): string {
	const head = ownHead(status, Buffer.byteLength(body), keepAlive);
	return method === "HEAD" ? head : head + body;
}

/** Lines of an engine's head that are of that one answer. */
const OF_ONE = /^(content-|transfer-|connection$|date$)/i;

/** @param headers an engine's, to be passed on, names and values in turn */
function ownHead(
	status: number,
	length: number,
	keepAlive: boolean,
	headers: readonly string[] = [],
): string {
	let lines = "";
	let type = "application/json";
	for (let i = 0; i < headers.length; i += 2) {
		const [name = "", value = ""] = headers.slice(i, i + 2);
		if (/^content-type$/i.test(name)) type = value;
		if (!OF_ONE.test(name)) lines += `${name}: ${value}\r\n`;
	}
	if (lines) lines += `Date: ${new Date().toUTCString()}\r\n`;
	return (
		`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Error"}\r\n` +
		`Content-Type: ${type}\r\n${keepAlive ? "" : "Connection: close\r\n"}` +
		`${lines}Content-Length: ${length}\r\n\r\n`
	);
}

const LAST_CHUNK = "0\r\n\r\n";

/** A piece of a body in chunks. */
function chunk(text: string): string {
	return `${Buffer.byteLength(text).toString(16)}\r\n${text}\r\n`;
}
