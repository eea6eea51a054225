import { unanswered } from "../pipeline/engine.ts";
import { HttpError } from "../pipeline/errors.ts";
import { BodyReader } from "./body-reader.ts";
import type { ClientConnection, Exchange, Incoming } from "./connection.ts";
import {
	field,
	headEnd,
	Malformed,
	parseResponseHead,
	type ResponseHead,
	UNTIL_CLOSE,
} from "./http1.ts";
import type { Fate } from "./inflow.ts";
import { Tunnel } from "./tunnel.ts";
import {
	type EnginePool,
	RETRY_MS,
	type Upstream,
	type UpstreamSink,
} from "./upstream.ts";

/** The engine's answer, for post-hooks. */
export interface Answer {
	head: ResponseHead;
	/** Head and body as they came. */
	raw: Buffer[];
	/** The body without its framing; null when the answer went on to the client unread. */
	body: Buffer | null;
	/** Whether the connection to the client can serve another request after it. */
	keepAlive: boolean;
	/** What the client has sent since. */
	early: Buffer | null;
}

/** Who wants the answer before the client gets it. */
interface Collector {
	/** Most bytes to hold. */
	limit: number;
	answered(answer: Answer): void;
	failed(error: HttpError, early: Buffer | null): void;
}

/** Once its client is gone, an answer that post-hooks wait for may take this long. */
const ABANDONED_LIMIT_MS = 120_000;
const RAW_STREAM = /^application\/vnd\.docker\.(raw|multiplexed)-stream/;

/**
 * One request through one engine: bytes as they come, both ways, each side no faster
 * than the other reads. With a collector, the answer is held for it instead.
 */
export class Pass implements Exchange, UpstreamSink {
	readonly #connection: ClientConnection;
	readonly #incoming: Incoming;
	readonly #pool: EnginePool;
	readonly #collector: Collector | null;
	#upstream: Upstream;
	#early: Buffer | null;
	/** What a fresh connection would have to be sent; null once that is no longer at hand. */
	#replay: Buffer | null;
	#partial: Buffer | null = null;
	#head: ResponseHead | null = null;
	#response: BodyReader | null = null;
	#raw: Buffer[] = [];
	#payload: Buffer[] | undefined;
	#size = 0;
	#abandoned: NodeJS.Timeout | undefined;
	/** Until the engine is asked again. */
	#retry: NodeJS.Timeout | undefined;
	/** What is being read is needed for longer. */
	#kept = false;

	/** Sends the request on and is the connection's exchange until it is answered. */
	static start(
		connection: ClientConnection,
		incoming: Incoming,
		pool: EnginePool,
		collector: Collector | null,
	): void {
		connection.exchange = new Pass(connection, incoming, pool, collector);
	}

	private constructor(
		connection: ClientConnection,
		incoming: Incoming,
		pool: EnginePool,
		collector: Collector | null,
	) {
		this.#connection = connection;
		this.#incoming = incoming;
		this.#pool = pool;
		this.#collector = collector;
		this.#payload = collector ? [] : undefined;
		this.#early = incoming.early;
		this.#replay = incoming.sent;
		if (this.#early) connection.socket.pause();
		else if (connection.socket.isPaused()) connection.socket.resume();
		this.#upstream = pool.take(this, !this.#harmless() || !incoming.body.done);
		this.#upstream.socket.write(incoming.sent);
		if (connection.ended) this.clientEnd();
	}

	clientData(chunk: Buffer): void {
		const { body } = this.#incoming;
		const { socket } = this.#connection;
		let end = 0;
		if (!body.done) {
			try {
				end = body.read(chunk, 0);
			} catch (error) {
				if (!(error instanceof Malformed)) throw error;
				this.#fail(new HttpError(400, error.message));
				return;
			}
			const part = end === chunk.length ? chunk : chunk.subarray(0, end);
			this.#replay = null;
			if (!this.#upstream.socket.write(part)) socket.pause();
		}
		if (end === chunk.length) return;
		const rest = chunk.subarray(end);
		this.#early = this.#early ? Buffer.concat([this.#early, rest]) : rest;
		socket.pause(); // until it is known whether this is a stream or a request
	}

	/**
	 * Passed on as it is: the engine takes it as a hang-up where it watches for one, and
	 * still answers a client that only said that it has no more to send.
	 */
	clientEnd(): void {
		if (this.#early) return; // first comes what it sent before
		if (!this.#payload || !this.#incoming.body.done)
			this.#upstream.socket.end();
	}

	clientDrain(): void {
		this.#upstream.inflow.drained();
	}

	clientClosed(): void {
		if (this.#payload && this.#incoming.body.done) {
			this.#abandoned = setTimeout(() => {
				const limit = `${ABANDONED_LIMIT_MS / 1000} s`;
				this.#fail(this.#silent(`no answer ${limit} after the client left`));
			}, ABANDONED_LIMIT_MS);
			return;
		}
		this.#fail(new HttpError(502, "the client hung up"));
	}

	upstreamData(chunk: Buffer): Fate {
		const { socket } = this.#connection;
		this.#replay = null;
		this.#kept = false;
		if (socket.writableLength === 0) this.#upstream.inflow.written(); // TLS is never done at once
		try {
			if (this.#response) this.#body(chunk, 0, 0, this.#response);
			else this.#readHead(chunk);
		} catch (error) {
			if (!(error instanceof Malformed)) throw error;
			this.#fail(this.#silent(`its answer is not HTTP (${error.message})`));
		}
		if (this.#kept) return "kept";
		return socket.writableLength > 0 ? "waiting" : "written";
	}

	#readHead(chunk: Buffer): void {
		const { socket } = this.#connection;
		const searched = this.#partial?.length ?? 0;
		const bytes = this.#partial ? Buffer.concat([this.#partial, chunk]) : chunk;
		this.#partial = null;
		let from = 0;
		for (;;) {
			const end = headEnd(bytes, from, searched);
			if (end < 0) {
				this.#partial = bytes.subarray(from);
				this.#kept = true;
				return;
			}
			const text = bytes.toString("latin1", from, end - 2);
			const head = parseResponseHead(text, this.#incoming.head.method);
			const type =
				head.bodyLength === UNTIL_CLOSE && field(head, "content-type");
			if (head.status === 101 || (type && RAW_STREAM.test(type))) {
				this.#open(head, bytes.subarray(from, end), bytes.subarray(end));
				return;
			}
			if (head.status >= 200) {
				this.#head = head;
				this.#response = new BodyReader(head.bodyLength);
				this.#body(bytes, from, end, this.#response);
				return;
			}
			if (!this.#connection.closed) socket.write(bytes.subarray(from, end));
			from = end;
			if (from === bytes.length) return;
		}
	}

	/** @param start of what to send on in `bytes` @param from where the body goes on in it */
	#body(bytes: Buffer, start: number, from: number, body: BodyReader): void {
		const end = body.read(bytes, from, this.#payload);
		const part =
			start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
		if (this.#payload) this.#collect(part);
		else if (!this.#connection.socket.write(part))
			this.#upstream.inflow.pause();
		if (body.done) this.#done(end === bytes.length);
	}

	#collect(part: Buffer): void {
		this.#raw.push(part);
		this.#kept = true;
		this.#size += part.length;
		if (this.#size <= (this.#collector as Collector).limit) return;
		// too much to hold: the client gets it as it is
		this.#payload = undefined;
		clearTimeout(this.#abandoned);
		for (const held of this.#raw) this.#connection.socket.write(held);
		this.#hand(null);
		if (this.#connection.closed) this.#drop();
		else if (this.#connection.socket.writableNeedDrain) {
			this.#upstream.inflow.pause();
		}
	}

	#hand(body: Buffer | null): void {
		this.#collector?.answered({
			head: this.#head as ResponseHead,
			raw: this.#raw,
			body,
			keepAlive: this.#keepAlive(),
			early: this.#early,
		});
		this.#raw = [];
	}

	#keepAlive(): boolean {
		const { head, body } = this.#incoming;
		const answer = this.#head;
		if (answer?.bodyLength === UNTIL_CLOSE) return false;
		return body.done && head.keepAlive && answer?.keepAlive === true;
	}

	#open(head: ResponseHead, bytes: Buffer, rest: Buffer): void {
		clearTimeout(this.#abandoned);
		this.#head = head;
		this.#kept = true;
		this.#hand(null);
		if (this.#connection.closed) {
			this.#drop();
			return;
		}
		const upstream = this.#upstream;
		new Tunnel(this.#connection, upstream, bytes, rest, this.#early);
		if (this.#connection.ended) upstream.socket.end();
	}

	/** @param clean nothing came after the answer */
	#done(clean: boolean): void {
		clearTimeout(this.#abandoned);
		const keepAlive = this.#keepAlive();
		if (clean && keepAlive && !this.#connection.ended) {
			this.#pool.release(this.#upstream);
		} else this.#drop();
		if (this.#payload) this.#hand(Buffer.concat(this.#payload));
		else this.#connection.next(keepAlive, this.#early);
	}

	upstreamEnd(): void {
		this.#lost("it closed the connection without an answer");
	}

	upstreamDrain(): void {
		if (!this.#early) this.#connection.socket.resume();
	}

	upstreamClosed(error: NodeJS.ErrnoException | undefined): void {
		const refused = error?.code === "ECONNREFUSED" && this.#replay;
		if (refused && this.#pool.isReturning()) {
			this.#connection.socket.pause();
			this.#retry = setTimeout(() => this.#again(refused), RETRY_MS);
			return;
		}
		this.#lost(error?.message ?? "it closed the connection without an answer");
	}

	#lost(why: string): void {
		if (this.#head?.bodyLength === UNTIL_CLOSE) {
			this.#done(false);
		} else if (this.#upstream.reused && this.#replay && this.#harmless()) {
			// the engine may have closed it while it was idle, with nothing read
			this.#drop();
			this.#upstream = this.#pool.fresh(this);
			this.#upstream.socket.write(this.#replay);
		} else this.#fail(this.#silent(why));
	}

	/** The engine refused the connection, so nothing was sent; meanwhile it may be there. */
	#again(sent: Buffer): void {
		this.#upstream = this.#pool.fresh(this);
		this.#upstream.socket.write(sent);
		if (!this.#early) this.#connection.socket.resume();
		if (this.#connection.ended) this.clientEnd();
	}

	/** Whether it does no harm if the engine gets the request twice: RFC 9110, 9.2.2. */
	#harmless(): boolean {
		return /^(GET|HEAD|OPTIONS|PUT|DELETE)$/.test(this.#incoming.head.method);
	}

	#silent(why: string): HttpError {
		return unanswered(this.#pool.name, why);
	}

	#fail(error: HttpError): void {
		clearTimeout(this.#abandoned);
		this.#drop();
		const connection = this.#connection;
		if (this.#payload) this.#collector?.failed(error, this.#early);
		else if (this.#head || connection.closed) connection.finish();
		else connection.answerError(error, this.#incoming, this.#early);
	}

	#drop(): void {
		clearTimeout(this.#retry);
		this.#upstream.sink = null;
		this.#upstream.socket.destroy();
	}
}
