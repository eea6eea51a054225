import { isUtf8 } from "node:buffer";
import { randomUUID } from "node:crypto";
import { STATUS_CODES } from "node:http";
import { HttpError, messageOf } from "../pipeline/errors.ts";
import {
	type ClientRequest,
	type HookHeaders,
	NOT_ASKED,
	type ServerResponse,
	UNANSWERED,
} from "../pipeline/protocol.ts";
import { asLogged } from "../pipeline/verbs.ts";
import { BodyReader } from "./body-reader.ts";
import type { ClientConnection, Exchange, Incoming } from "./connection.ts";
import type { HookNames } from "./endpoints.ts";
import { isForm, withForm } from "./form.ts";
import { Gather } from "./gather.ts";
import { field, mediaType, rewriteHead } from "./http1.ts";
import { type Answer, Pass } from "./pass.ts";
import type { OwnAnswer } from "./treatments/treatment.ts";
import { EnginePool } from "./upstream.ts";

/** Where a tar is a body; elsewhere it says nothing that a request calls its body one. */
const TAKES_TAR =
	/\/(?:build|images\/(?:load|create)|containers\/[^/]+\/archive)$/;

const HUNG_UP = new HttpError(502, "the client hung up");

/**
 * A request that matches endpoints of powerstrip.yml: its pre-hooks, then the engine,
 * then its post-hooks. Post-hooks run whatever became of the request once a pre-hook
 * may have acquired something for it.
 */
export class HookedExchange implements Exchange {
	readonly #connection: ClientConnection;
	readonly #hookNames: HookNames;
	readonly #headers: HookHeaders;
	readonly #route: Promise<EnginePool | OwnAnswer> | undefined;
	#incoming: Incoming;

	/** @param route where to, if that is being found out already */
	static start(
		connection: ClientConnection,
		incoming: Incoming,
		hookNames: HookNames,
		route?: Promise<EnginePool | OwnAnswer>,
	): void {
		const exchange = new HookedExchange(connection, incoming, hookNames, route);
		connection.exchange = exchange;
		exchange.#run().catch((error) => {
			connection.context.log.error(
				{ err: error, request: asLogged(incoming.head.target) },
				"a hooked request failed",
			);
			connection.refuse(500, messageOf(error));
		});
	}

	private constructor(
		connection: ClientConnection,
		incoming: Incoming,
		hookNames: HookNames,
		route?: Promise<EnginePool | OwnAnswer>,
	) {
		this.#route = route;
		this.#connection = connection;
		this.#incoming = incoming;
		this.#hookNames = hookNames;
		const deployment = field(incoming.head, "x-arpanet-deployment");
		this.#headers = {
			"x-arpanet-request": randomUUID(),
			...(deployment && { "x-arpanet-deployment": deployment }),
		};
	}

	async #run(): Promise<void> {
		const { hooks } = this.#connection.context;
		if (isForm(this.#incoming.head) && !(await this.#takeForm())) return;
		const { head } = this.#incoming;
		const isTar =
			mediaType(head) === "application/tar" && TAKES_TAR.test(head.path);
		const pre = isTar ? [] : this.#hookNames.pre; // powerstrip hands tars to no pre-hook
		const body = await this.#readBody(pre);
		if (body === undefined) return;

		this.#hold();
		const asked = { Method: head.method, Request: head.target, Body: body };
		const asking = await hooks.pre(pre, asked, this.#headers);
		if (asking.failure) {
			if (!asking.acted)
				this.#connection.answerError(asking.failure, this.#incoming);
			else await this.#failed(asked, asking.failure, false);
			return;
		}

		let gone = false;
		if (asking.request.Body !== body && !this.#incoming.body.done) {
			const gather = new Gather(this.#connection, this.#incoming);
			gone = !(await gather.skip());
			this.#incoming = gather.incoming;
		}
		if (gone || this.#connection.closed) {
			await this.#failed(asked, HUNG_UP, false);
			return;
		}
		this.#incoming = changed(this.#incoming, asking.request, body);

		const route = await this.#routed(asking.request);
		if (route instanceof HttpError) await this.#failed(asked, route, false);
		else if (this.#connection.closed)
			await this.#failed(asked, HUNG_UP, false); // nobody would end what is begun now
		else if (route instanceof EnginePool) await this.#pass(asked, route);
		else await this.#answerOwn(asked, route);
	}

	/** @returns what hooks are given of the body, null if nothing; undefined if the client has been answered, or is gone */
	async #readBody(pre: string[]): Promise<string | null | undefined> {
		const { head } = this.#incoming;
		const readable =
			pre.length + this.#hookNames.post.length > 0 &&
			mediaType(head) === "application/json" && // an encoding the engine does not heed
			head.bodyLength !== 0;
		if (!readable) return null;
		const { maxBody } = this.#connection.context;
		const gather = new Gather(this.#connection, this.#incoming);
		const payload = await gather.read(maxBody);
		this.#incoming = gather.incoming;
		if (payload === "gone") return undefined;
		if (payload !== "over") return payload.toString() || null;
		if (pre.length === 0) return null;
		this.#connection.refuse(413, tooLarge(maxBody));
		return undefined;
	}

	/** Where a request goes, what answers it, or why nobody does. */
	async #routed({
		Method,
		Request,
		Body,
	}: ClientRequest): Promise<EnginePool | OwnAnswer | HttpError> {
		const { router } = this.#connection.context;
		try {
			return await (this.#route ??
				router.route(Method, Request, Body, this.#connection));
		} catch (error) {
			if (error instanceof HttpError) return error;
			return new HttpError(500, messageOf(error));
		}
	}

	/** Has an engine answer, and tells the post-hooks. */
	async #pass(asked: ClientRequest, engine: EnginePool): Promise<void> {
		const connection = this.#connection;
		if (this.#hookNames.post.length === 0) {
			Pass.start(connection, this.#incoming, engine, null);
			return;
		}
		const answer = await new Promise<Answer | HttpError>((resolve) => {
			Pass.start(connection, this.#incoming, engine, {
				limit: connection.context.maxBody,
				answered: resolve,
				failed: (error, early) => {
					this.#incoming.early = early;
					resolve(error);
				},
			});
		});
		if (answer instanceof HttpError) await this.#failed(asked, answer, true);
		else await this.#answered(asked, answer);
	}

	/** Gives an answer of the gateway's own, once the post-hooks have seen it; they see no stream. */
	async #answerOwn(asked: ClientRequest, own: OwnAnswer): Promise<void> {
		const told = "stream" in own ? own : await this.#told(asked, own);
		if (told instanceof HttpError)
			this.#connection.answerError(told, this.#incoming);
		else this.#connection.answerOwn(told, this.#incoming);
	}

	/** @returns false if the client has been answered, or is gone */
	async #takeForm(): Promise<boolean> {
		const { maxBody } = this.#connection.context;
		const gather = new Gather(this.#connection, this.#incoming);
		const form = await gather.read(maxBody);
		if (form === "over") this.#connection.refuse(413, tooLarge(maxBody));
		if (form === "over" || form === "gone") return false;
		this.#incoming = withForm(gather.incoming, form);
		return true;
	}

	/** An answer that the gateway gives itself, as the post-hooks make it; to the byte its own where they change nothing. */
	async #told(
		asked: ClientRequest,
		own: Exclude<OwnAnswer, { stream: unknown }>,
	): Promise<OwnAnswer | HttpError> {
		const { post } = this.#hookNames;
		if (post.length === 0) return own;
		this.#hold();
		const { hooks } = this.#connection.context;
		const before: ServerResponse = {
			ContentType: "application/json",
			Body: textOf(own),
			Code: own.status,
		};
		const told = await hooks.post(post, asked, before, this.#headers);
		if (told.refusal) return told.refusal;
		const { Body, Code } = told.response;
		if ((Body ?? "") === (before.Body ?? "") && Code === before.Code) {
			return own;
		}
		const headers = "bytes" in own ? own.headers : [];
		return { status: Code, bytes: Buffer.from(Body ?? ""), headers };
	}

	/**
	 * Docker was not asked, or did not answer: post-hooks can give back what was acquired.
	 * @param sent the request has gone to the engine: only then they are told 502
	 */
	async #failed(
		asked: ClientRequest,
		error: HttpError,
		sent: boolean,
	): Promise<void> {
		this.#hold();
		const { hooks, log } = this.#connection.context;
		const request = asLogged(asked.Request);
		log.warn({ request, err: error.message }, "request failed");
		const response: ServerResponse = {
			ContentType: "application/json",
			Body: `${JSON.stringify({ message: error.message })}\n`,
			Code: !sent && error.status === UNANSWERED ? NOT_ASKED : error.status,
		};
		const { post } = this.#hookNames;
		await hooks.post(post, asked, response, this.#headers);
		this.#connection.answerError(error, this.#incoming);
	}

	async #answered(asked: ClientRequest, answer: Answer): Promise<void> {
		const connection = this.#connection;
		const { hooks, log } = connection.context;
		const response: ServerResponse = {
			ContentType: field(answer.head, "content-type") ?? null,
			Body: readableText(answer),
			Code: answer.head.status,
		};
		if (answer.body === null) {
			// already on its way: a hijacked stream, or more than hooks may hold
			if (response.Code !== 101) {
				log.error(
					{ request: asLogged(asked.Request) },
					"post-hooks cannot read this answer",
				);
			}
			await hooks.post(this.#hookNames.post, asked, response, this.#headers);
			return;
		}
		this.#incoming.early = answer.early;
		this.#hold();
		const { post } = this.#hookNames;
		const told = await hooks.post(post, asked, response, this.#headers);
		if (told.refusal) {
			connection.answerError(told.refusal, this.#incoming);
			return;
		}
		if (connection.closed) return;
		for (const part of rewritten(
			answer,
			response,
			told.response,
			this.#incoming,
		)) {
			connection.socket.write(part);
		}
		connection.next(answer.keepAlive, this.#incoming.early);
	}

	/** Is the connection's exchange while hooks run. */
	#hold(): void {
		this.#connection.exchange = this;
		if (!this.#incoming.body.done) this.#connection.socket.pause();
	}

	clientData(chunk: Buffer): void {
		const { early, sent, body } = this.#incoming;
		this.#connection.socket.pause();
		let rest = chunk;
		if (!body.done) {
			// it was on its way when the socket was paused
			const end = body.read(chunk, 0);
			this.#incoming.sent = Buffer.concat([sent, chunk.subarray(0, end)]);
			rest = chunk.subarray(end);
		}
		if (rest.length === 0) return;
		this.#incoming.early = early ? Buffer.concat([early, rest]) : rest;
	}

	clientEnd(): void {}
	clientDrain(): void {}
	clientClosed(): void {}
}

/** The request as the pre-hooks made it; to the byte the client's where they changed nothing. */
function changed(
	incoming: Incoming,
	request: ClientRequest,
	body: string | null,
): Incoming {
	const { head, sent, headSize } = incoming;
	const isRead = body !== null && incoming.body.done; // any other goes on as it came
	const expects = isRead && field(head, "expect") !== undefined;
	const sameBody = request.Body === body && !expects;
	if (sameBody && request.Request === head.target) return incoming;

	const version = head.text.slice(0, head.text.indexOf("\r\n")).slice(-8);
	const line = `${head.method} ${request.Request} ${version}`;
	if (sameBody) {
		const fields = head.text.slice(head.text.indexOf("\r\n"));
		const start = Buffer.from(`${line}${fields}\r\n`, "latin1");
		const bytes = Buffer.concat([start, sent.subarray(headSize)]);
		return { ...incoming, sent: bytes, headSize: start.length };
	}
	const payload = Buffer.from(request.Body ?? "");
	const start = rewriteHead(head, line, payload.length);
	return {
		...incoming,
		sent: Buffer.concat([start, payload]),
		headSize: start.length,
		body: new BodyReader(0),
	};
}

/** The answer as the post-hooks made it; to the byte Docker's where they changed nothing. */
function rewritten(
	answer: Answer,
	before: ServerResponse,
	after: ServerResponse,
	incoming: Incoming,
): Buffer[] {
	const sameBody = (after.Body ?? "") === (before.Body ?? "");
	const sameCode = after.Code === before.Code;
	if (sameBody && sameCode && after.ContentType === before.ContentType) {
		return answer.raw;
	}
	const line = sameCode
		? undefined
		: `HTTP/1.1 ${after.Code} ${STATUS_CODES[after.Code] ?? "Unknown"}`;
	const fields: Record<string, string> = {};
	if (after.ContentType) fields["Content-Type"] = after.ContentType;
	if (
		after.Code === 204 ||
		after.Code === 304 ||
		incoming.head.method === "HEAD"
	) {
		return [rewriteHead(answer.head, line, undefined, fields)];
	}
	const body = sameBody
		? (answer.body as Buffer)
		: Buffer.from(after.Body ?? "");
	return [rewriteHead(answer.head, line, body.length, fields), body];
}

function textOf(own: Exclude<OwnAnswer, { stream: unknown }>): string | null {
	if ("bytes" in own) return own.bytes.toString();
	return own.body === undefined ? null : `${JSON.stringify(own.body)}\n`;
}

/** Null where the body is no text that JSON can carry. */
function readableText({ head, body }: Answer): string | null {
	if (!body || field(head, "content-encoding") || !isUtf8(body)) return null;
	return body.toString();
}

function tooLarge(limit: number): string {
	return `the request's body is over ${limit} bytes, the most that adapters are given; send less, or raise arpanet.gateway.maxBody in powerstrip.yml`;
}
