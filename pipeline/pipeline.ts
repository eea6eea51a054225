import type { Logger } from "pino";
import { HttpError } from "./errors.ts";
import type { Lifecycle } from "./lifecycle.ts";
import {
	type Adapter,
	type ClientRequest,
	type HookHeaders,
	type PostHook,
	type PostHookAnswer,
	PROTOCOL_VERSION,
	type PreHook,
	type PreHookAnswer,
} from "./protocol.ts";
import { type Command, commandOf } from "./verbs.ts";

/** Signals after which nothing of the process is left; of any other the engine's `die` event tells. */
const DEADLY = new Set(["", "KILL", "SIGKILL", "9"]);

/**
 * The powerstrip protocol in terms of the plugins: which hook of a request means what. It keeps
 * nothing between a pre-hook and its post-hook, which may reach another process.
 */
export class Pipeline implements Adapter {
	readonly #lifecycle: Lifecycle;
	readonly #log: Logger;
	readonly #onlyHost: string | undefined;

	/** @param onlyHost the one host that containers may be placed on; any without it */
	constructor(lifecycle: Lifecycle, log: Logger, onlyHost?: string) {
		this.#lifecycle = lifecycle;
		this.#log = log;
		this.#onlyHost = onlyHost;
	}

	/** The same pipeline for an adapter URL that names a host. */
	on(host: string): Pipeline {
		return new Pipeline(this.#lifecycle, this.#log, host);
	}

	/** @throws HttpError what the client shall read instead of Docker's answer */
	async preHook(hook: PreHook, headers: HookHeaders): Promise<PreHookAnswer> {
		const request = hook.ClientRequest;
		const command = commandOf(request.Method, request.Request);
		const body = command && (await this.#before(command, request, headers));
		return {
			PowerstripProtocolVersion: PROTOCOL_VERSION,
			ModifiedClientRequest: body
				? { ...request, Body: JSON.stringify(body) }
				: request,
		};
	}

	/** Docker's answer is passed on as it is, for what it says has happened; what goes wrong here the agent puts right. */
	async postHook(
		hook: PostHook,
		headers: HookHeaders,
	): Promise<PostHookAnswer> {
		const { ClientRequest: request, ServerResponse: response } = hook;
		const command = commandOf(request.Method, request.Request);
		try {
			if (command) await this.#after(command, hook, headers);
		} catch (err) {
			this.#log.warn({ err, request: request.Request }, "post-hook failed");
		}
		return {
			PowerstripProtocolVersion: PROTOCOL_VERSION,
			ModifiedServerResponse: response,
		};
	}

	/** @returns the body to send on instead of the client's, or undefined to leave it */
	async #before(
		{ verb, ref, query }: Command,
		request: ClientRequest,
		headers: HookHeaders,
	): Promise<object | undefined> {
		switch (verb) {
			case "create":
				return this.#lifecycle.create({
					name: query.get("name")?.replace(/^\//, "") || undefined,
					body: parseBody(request),
					headers,
					onlyHost: this.#onlyHost,
				});
			case "networkCreate":
				return this.#lifecycle.networkCreate(parseBody(request), headers);
			case "connect":
				return this.#lifecycle.connect(ref, parseBody(request));
			case "start":
				await this.#lifecycle.starting(ref);
				return undefined;
			case "kill":
				if (DEADLY.has(query.get("signal") ?? "")) {
					await this.#lifecycle.stopping(ref, 0);
				}
				return undefined;
			case "stop":
			case "restart":
			case "pause":
				await this.#lifecycle.stopping(ref, seconds(query.get("t")));
				return undefined;
			case "remove":
				await this.#removing(ref, query);
				return undefined;
			default:
				return undefined;
		}
	}

	async #after(
		{ verb, ref, query }: Command,
		{ ClientRequest: request, ServerResponse: response }: PostHook,
		headers: HookHeaders,
	): Promise<void> {
		const done = response.Code < 300;
		switch (verb) {
			case "create": {
				const name = query.get("name")?.replace(/^\//, "") || undefined;
				if (done) {
					const { Id } = JSON.parse(response.Body ?? "{}") as { Id?: string };
					if (Id) await this.#lifecycle.created(Id, name);
				} else {
					await this.#lifecycle.createFailed(name, headers);
				}
				return;
			}
			case "remove":
				if (done) await this.#lifecycle.removedByRef(ref);
				else await this.#lifecycle.observe(ref);
				return;
			case "rename":
				if (done) await this.#lifecycle.renamed(query.get("name") ?? "");
				return;
			case "networkCreate": {
				const { Name } = parseBody(request) as { Name?: string };
				if (done && Name) await this.#lifecycle.networkCreated(Name);
				else await this.#lifecycle.reapNetworks();
				return;
			}
			case "networkRemove":
				if (done) await this.#lifecycle.reapNetworks();
				return;
			case "connect":
			case "disconnect": {
				const { Container } = parseBody(request) as { Container?: string };
				if (Container) await this.#lifecycle.observe(Container);
				return;
			}
			case "stop":
			case "restart":
			case "pause":
				// also when Docker refused: then the container still runs
				await this.#lifecycle.observe(ref, true);
				return;
			default:
				await this.#lifecycle.observe(ref);
		}
	}

	/** After its removal nothing tells who `ref` was: note it before. A removal never waits for Consul to come back. */
	async #removing(ref: string, query: URLSearchParams): Promise<void> {
		const container = await this.#lifecycle.find(ref);
		if (!container) return;
		const force = query.get("force");
		if (force && force !== "0" && force.toLowerCase() !== "false") {
			await this.#lifecycle.stopping(container.Id, 0);
		}
		try {
			await this.#lifecycle.removing(container);
		} catch (err) {
			this.#log.warn({ err, container: container.Name }, "removal not noted");
		}
	}
}

/** @throws HttpError 400 for a body that is no JSON object */
function parseBody<T extends object>(request: ClientRequest): T {
	let body: unknown;
	try {
		body = JSON.parse(request.Body ?? "");
	} catch (error) {
		throw new HttpError(
			400,
			`the body of ${request.Method} ${request.Request} is not JSON: ${(error as Error).message}`,
		);
	}
	if (typeof body !== "object" || body === null || Array.isArray(body)) {
		throw new HttpError(
			400,
			`the body of ${request.Method} ${request.Request} is not a JSON object`,
		);
	}
	return body as T;
}

function seconds(t: string | null): number | undefined {
	const value = Number(t ?? Number.NaN);
	return Number.isFinite(value) && value >= 0 ? value : undefined;
}
