/**
 * The powerstrip adapter protocol, version 1: what a proxy posts to an adapter
 * before (pre-hook) and after (post-hook) Docker answers, and what comes back.
 * Bodies are JSON inside JSON: a string, or null when there is none.
 */

export const PROTOCOL_VERSION = 1;

export interface ClientRequest {
	/** `POST` */
	Method: string;
	/** Path and query as the client sent them: `/v1.41/containers/create?name=abc_web_1` */
	Request: string;
	Body: string | null;
}

export interface ServerResponse {
	ContentType: string | null;
	Body: string | null;
	/** HTTP status that Docker answered */
	Code: number;
}

/**
 * Codes for post-hooks where there is no answer of Docker's. 502: it was asked and did not answer, so it may have
 * acted, and nothing is given back. 500: it was never asked.
 */
export const UNANSWERED = 502;
export const NOT_ASKED = 500;

export interface PreHook {
	PowerstripProtocolVersion: 1;
	Type: "pre-hook";
	ClientRequest: ClientRequest;
}

export interface PostHook {
	PowerstripProtocolVersion: 1;
	Type: "post-hook";
	ClientRequest: ClientRequest;
	ServerResponse: ServerResponse;
}

export interface PreHookAnswer {
	PowerstripProtocolVersion: 1;
	ModifiedClientRequest: ClientRequest;
}

export interface PostHookAnswer {
	PowerstripProtocolVersion: 1;
	ModifiedServerResponse: ServerResponse;
}

/**
 * What our gateway tells an adapter beside the protocol, as HTTP headers on the
 * hook request. A stock powerstrip sends none of them, and nothing depends on them
 * that a stock powerstrip could do.
 */
export interface HookHeaders {
	/** The client's own `X-Arpanet-Deployment`. */
	"x-arpanet-deployment"?: string;
	/** One id for the pre-hook and the post-hook of one client request. */
	"x-arpanet-request"?: string;
}

/**
 * One adapter, called over HTTP or in this process. `late` aborts when nobody waits for its answer any more.
 * @throws HttpError what the client shall be answered instead
 */
export interface Adapter {
	preHook(
		hook: PreHook,
		headers: HookHeaders,
		late?: AbortSignal,
	): Promise<PreHookAnswer>;
	postHook(
		hook: PostHook,
		headers: HookHeaders,
		late?: AbortSignal,
	): Promise<PostHookAnswer>;
}
