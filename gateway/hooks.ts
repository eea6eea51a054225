import type { Logger } from "pino";
import { inTime } from "../pipeline/deadline.ts";
import { HttpError, messageOf } from "../pipeline/errors.ts";
import {
	type Adapter,
	type ClientRequest,
	type HookHeaders,
	PROTOCOL_VERSION,
	type ServerResponse,
} from "../pipeline/protocol.ts";
import { asLogged } from "../pipeline/verbs.ts";

/**
 * An adapter that failed, rather than said no: what it did before it failed is not
 * known, so post-hooks run and can give back what it may have acquired.
 */
export class AdapterFailure extends HttpError {}

interface PreResult {
	/** The request after the hooks that answered. */
	request: ClientRequest;
	/** What the client shall be answered instead of asking Docker. */
	failure?: HttpError;
	/** Whether any adapter may hold something for this request now. */
	acted: boolean;
}

interface PostResult {
	response: ServerResponse;
	/** What an adapter said the client shall be answered instead. */
	refusal?: HttpError;
}

/** What to do about an adapter that does not keep to the protocol. */
export const REMEDY = "correct the adapter, or take it out of powerstrip.yml";

/** Runs chains of hooks. Every hook has a time limit; every failure names its adapter. */
export class HookRunner {
	readonly #adapters: Record<string, Adapter>;
	readonly #timeLimit: number;
	readonly #log: Logger;

	/** @param timeLimit of one hook, in ms */
	constructor(
		adapters: Record<string, Adapter>,
		timeLimit: number,
		log: Logger,
	) {
		this.#adapters = adapters;
		this.#timeLimit = timeLimit;
		this.#log = log;
	}

	/** Asks each adapter before Docker, each given the request that the last one made. */
	async pre(
		names: string[],
		asked: ClientRequest,
		headers: HookHeaders,
	): Promise<PreResult> {
		let request = asked;
		let acted = false;
		for (const name of names) {
			try {
				const answer = await this.#call(name, (adapter, late) =>
					adapter.preHook(
						{
							PowerstripProtocolVersion: PROTOCOL_VERSION,
							Type: "pre-hook",
							ClientRequest: request,
						},
						headers,
						late,
					),
				);
				acted = true;
				request = modifiedRequest(name, answer, request);
			} catch (error) {
				const failure = error as HttpError;
				acted ||= failure instanceof AdapterFailure;
				return { request, failure, acted };
			}
		}
		return { request, acted };
	}

	/**
	 * Tells each adapter what Docker answered. All of them are told, also when one fails,
	 * since each may have something to give back; the first refusal is what the client gets.
	 *
	 * @param request with the client's own body, as powerstrip sends it
	 */
	async post(
		names: string[],
		request: ClientRequest,
		answered: ServerResponse,
		headers: HookHeaders,
	): Promise<PostResult> {
		let response = answered;
		let refusal: HttpError | undefined;
		for (const name of names) {
			try {
				const answer = await this.#call(name, (adapter, late) =>
					adapter.postHook(
						{
							PowerstripProtocolVersion: PROTOCOL_VERSION,
							Type: "post-hook",
							ClientRequest: request,
							ServerResponse: response,
						},
						headers,
						late,
					),
				);
				response = modifiedResponse(name, answer, response);
			} catch (error) {
				const failure = error as HttpError;
				if (!(failure instanceof AdapterFailure)) refusal ??= failure;
				this.#log.error(
					{
						adapter: name,
						request: asLogged(request.Request),
						code: answered.Code,
						err: failure.message,
					},
					"post-hook failed",
				);
			}
		}
		return refusal ? { response, refusal } : { response };
	}

	/** @throws HttpError and nothing else */
	async #call(
		name: string,
		hook: (adapter: Adapter, late: AbortSignal) => Promise<unknown>,
	): Promise<unknown> {
		const adapter = this.#adapters[name];
		if (!adapter) {
			throw new HttpError(
				500,
				`adapter ${name} is not defined in powerstrip.yml`,
			);
		}
		const late = new AbortController();
		try {
			return await inTime(hook(adapter, late.signal), this.#timeLimit, () => {
				late.abort();
				return new AdapterFailure(
					504,
					`adapter ${name} did not answer in ${this.#timeLimit / 1000} s; look at its log, or restart it`,
				);
			});
		} catch (error) {
			if (error instanceof HttpError) throw error;
			this.#log.error({ adapter: name, err: error }, "hook failed");
			throw new AdapterFailure(
				500,
				`adapter ${name} failed: ${messageOf(error)}`,
				{
					cause: error,
				},
			);
		}
	}
}

/** @throws AdapterFailure not the protocol's version 1, or nothing under `key` */
function modified(
	name: string,
	answer: unknown,
	key: string,
): Record<string, unknown> {
	const message = answer as Record<string, unknown> | null;
	const version = message?.PowerstripProtocolVersion;
	if (version !== PROTOCOL_VERSION) {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered with PowerstripProtocolVersion ${JSON.stringify(version)}; only ${PROTOCOL_VERSION} is understood; ${REMEDY}`,
		);
	}
	const value = message?.[key] as Record<string, unknown> | null;
	if (typeof value !== "object" || value === null) {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered without ${key}; ${REMEDY}`,
		);
	}
	if (typeof value.Body !== "string" && value.Body !== null) {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered with a ${key}.Body that is neither a string nor null; ${REMEDY}`,
		);
	}
	return value;
}

/** What is left out stays: under powerstrip, only `Body` counts. */
function modifiedRequest(
	name: string,
	answer: unknown,
	before: ClientRequest,
): ClientRequest {
	const value = modified(name, answer, "ModifiedClientRequest");
	const { Method = before.Method, Request = before.Request } = value;
	if (typeof Request !== "string") {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered with a ModifiedClientRequest.Request that is no string; ${REMEDY}`,
		);
	}
	const moved = Request.split("?", 1)[0] !== before.Request.split("?", 1)[0];
	if (Method !== before.Method || moved) {
		throw new AdapterFailure(
			500,
			`adapter ${name} changed ${before.Method} ${asLogged(before.Request)} into ${Method} ${asLogged(Request)}: a hook may change the query, never the endpoint; ${REMEDY}`,
		);
	}
	if (/[^\x21-\x7e\x80-\xff]/.test(Request)) {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered with a query that is not URL-encoded; ${REMEDY}`,
		);
	}
	const Body = value.Body as string | null;
	return {
		Method: before.Method,
		Request,
		Body: Body || before.Body ? Body : before.Body, // to Go, null is an empty string
	};
}

function modifiedResponse(
	name: string,
	answer: unknown,
	before: ServerResponse,
): ServerResponse {
	const value = modified(name, answer, "ModifiedServerResponse");
	const { ContentType = before.ContentType, Code = before.Code } = value;
	const type = ContentType === null || typeof ContentType === "string";
	const code =
		Code === before.Code || // a 101 that was given
		(Number.isInteger(Code) && Number(Code) >= 200 && Number(Code) <= 599);
	if (!type || !code || /[^\t\x20-\x7e]/.test(ContentType ?? "")) {
		throw new AdapterFailure(
			502,
			`adapter ${name} answered with ContentType ${JSON.stringify(ContentType)} and Code ${JSON.stringify(Code)}; ${REMEDY}`,
		);
	}
	return { ContentType, Body: value.Body as string | null, Code: Number(Code) };
}
