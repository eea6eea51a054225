import type { EngineAnswer } from "../pipeline/engine.ts";
import { unanswered } from "../pipeline/engine.ts";
import type { HttpError } from "../pipeline/errors.ts";
import { BodyReader } from "./body-reader.ts";
import {
	headEnd,
	Malformed,
	parseResponseHead,
	type ResponseHead,
} from "./http1.ts";
import type { Fate } from "./inflow.ts";
import {
	type EnginePool,
	RETRY_MS,
	type Upstream,
	type UpstreamSink,
} from "./upstream.ts";

/**
 * Asks an engine over a connection that is kept: what is asked before each list takes a third of the time that a
 * client of node:http needs for it.
 *
 * @param path of a `GET`, with its query
 * @param limit milliseconds that the answer is waited for: the engine can hang
 * @returns its answer, whatever the status
 * @throws HttpError 502 when it does not answer
 */
export function ask(
	pool: EnginePool,
	path: string,
	limit = 60_000,
): Promise<EngineAnswer> {
	return new Promise((resolve, reject) => {
		new Question(pool, path, limit, resolve, reject);
	});
}

class Question implements UpstreamSink {
	readonly #pool: EnginePool;
	readonly #request: string;
	readonly #answered: (answer: EngineAnswer) => void;
	readonly #failed: (error: HttpError) => void;
	readonly #limit: NodeJS.Timeout;
	#upstream: Upstream;
	/** Until the engine is asked again. */
	#retry: NodeJS.Timeout | undefined;
	/** What has come of the head; of the body once that is there. */
	#parts: Buffer[] = [];
	#head: ResponseHead | undefined;
	#body: BodyReader | undefined;

	constructor(
		pool: EnginePool,
		path: string,
		limit: number,
		answered: (answer: EngineAnswer) => void,
		failed: (error: HttpError) => void,
	) {
		this.#pool = pool;
		this.#answered = answered;
		this.#failed = failed;
		this.#request = `GET ${path} HTTP/1.1\r\nHost: docker\r\n\r\n`;
		this.#limit = setTimeout(
			() => this.#fail(`nothing came for ${limit / 1000} s`),
			limit,
		).unref();
		this.#upstream = pool.take(this);
		this.#upstream.socket.write(this.#request);
	}

	upstreamData(chunk: Buffer): Fate {
		try {
			if (this.#body) this.#read(chunk, this.#body);
			else this.#readHead(Buffer.concat([...this.#parts, chunk]));
		} catch (error) {
			if (!(error instanceof Malformed)) throw error;
			this.#fail(`its answer is not HTTP (${error.message})`);
		}
		return "written"; // what is needed longer was copied
	}

	#readHead(bytes: Buffer): void {
		const end = headEnd(bytes);
		if (end < 0) {
			this.#parts = [bytes];
			return;
		}
		const text = bytes.toString("latin1", 0, end - 2);
		this.#parts = [];
		this.#head = parseResponseHead(text, "GET");
		this.#body = new BodyReader(this.#head.bodyLength);
		this.#read(bytes.subarray(end), this.#body);
	}

	#read(bytes: Buffer, body: BodyReader): void {
		const payload: Buffer[] = [];
		const end = body.read(bytes, 0, payload);
		this.#parts.push(Buffer.concat(payload));
		if (body.done) this.#done(end === bytes.length);
	}

	/** @param clean nothing came after the answer */
	#done(clean: boolean): void {
		clearTimeout(this.#limit);
		const { status, text, keepAlive } = this.#head as ResponseHead;
		if (clean && keepAlive) this.#pool.release(this.#upstream);
		else this.#drop();
		const [, ...lines] = text.trimEnd().split("\r\n");
		this.#answered({
			status,
			headers: lines.flatMap((line) => {
				const mark = line.indexOf(":");
				return [line.slice(0, mark), line.slice(mark + 1).trim()];
			}),
			text: Buffer.concat(this.#parts).toString(),
		});
	}

	upstreamEnd(): void {
		this.#lost("it closed the connection");
	}

	upstreamClosed(error: NodeJS.ErrnoException | undefined): void {
		if (error?.code === "ECONNREFUSED" && this.#pool.isReturning()) {
			this.#retry = setTimeout(() => this.#again(), RETRY_MS); // nothing was sent
			return;
		}
		this.#lost(error?.message ?? "it closed the connection");
	}

	upstreamDrain(): void {}

	#lost(why: string): void {
		const nothingCame = !this.#head && this.#parts.length === 0;
		if (!this.#upstream.reused || !nothingCame) {
			this.#fail(why);
			return;
		}
		// the engine may have closed it while it was idle
		this.#drop();
		this.#again();
	}

	#again(): void {
		this.#upstream = this.#pool.fresh(this);
		this.#upstream.socket.write(this.#request);
	}

	#fail(why: string): void {
		clearTimeout(this.#limit);
		this.#drop();
		this.#failed(unanswered(this.#pool.name, why));
	}

	#drop(): void {
		clearTimeout(this.#retry);
		this.#upstream.sink = null;
		this.#upstream.socket.destroy();
	}
}
