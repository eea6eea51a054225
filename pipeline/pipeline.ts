import type { Logger } from "pino";
import {
	gatherHostConfig,
	isContainerCreate,
	isNetworkConnect,
	isNetworkCreate,
	isVolumeCreate,
} from "./docker.ts";
import { HttpError } from "./errors.ts";
import { withoutForged } from "./facts.ts";
import { isObject, stringify } from "./json.ts";
import type { ContainerLifecycle } from "./lifecycle/container.ts";
import type { NetworkLifecycle } from "./lifecycle/network.ts";
import type { VolumeLifecycle } from "./lifecycle/volume.ts";
import {
	type Adapter,
	type ClientRequest,
	type HookHeaders,
	type PostHook,
	type PostHookAnswer,
	PROTOCOL_VERSION,
	type PreHook,
	type PreHookAnswer,
	type ServerResponse,
	UNANSWERED,
} from "./protocol.ts";
import { isTrue, repeatedKey, type Shape, spell } from "./spelling.ts";
import { asLogged, type Command, commandOf } from "./verbs.ts";

/** Signals after which nothing of the process is left; of any other the engine's `die` event tells. */
const DEADLY = new Set(["", "KILL", "SIGKILL", "9"]);

/** Names that Docker gives to containers; any other could be the way to another key in Consul. */
const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;

/** What a pipeline tells of what happens. */
interface Lifecycles {
	containers: ContainerLifecycle;
	networks: NetworkLifecycle;
	volumes: VolumeLifecycle;
}

/**
 * The powerstrip protocol in terms of the plugins: which hook of a request means what. It keeps
 * nothing between a pre-hook and its post-hook, which may reach another process.
 */
export class Pipeline implements Adapter {
	readonly #lifecycles: Lifecycles;
	readonly #log: Logger;
	readonly #onlyHost: string | undefined;

	/** @param onlyHost the one host that containers may be placed on; any without it */
	constructor(lifecycles: Lifecycles, log: Logger, onlyHost?: string) {
		this.#lifecycles = lifecycles;
		this.#log = log;
		this.#onlyHost = onlyHost;
	}

	/** The same pipeline for an adapter URL that names a host. */
	on(host: string): Pipeline {
		return new Pipeline(this.#lifecycles, this.#log, host);
	}

	/** @throws HttpError what the client shall read instead of Docker's answer */
	async preHook(hook: PreHook, headers: HookHeaders): Promise<PreHookAnswer> {
		const request = hook.ClientRequest;
		const command = commandOf(request.Method, request.Request);
		const body = command && (await this.#before(command, request, headers));
		return {
			PowerstripProtocolVersion: PROTOCOL_VERSION,
			ModifiedClientRequest: body
				? { ...request, Body: stringify(body, request.Body ?? "") }
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
			this.#log.warn(
				{ err, request: asLogged(request.Request) },
				"post-hook failed",
			);
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
			case "create": {
				const body = parseBody(request, isContainerCreate);
				gatherHostConfig(body);
				const name = nameIn(query);
				if (!isContainerCreate(body) || !NAME.test(name ?? "unnamed")) {
					return withoutForged(body); // Docker says what is wrong with it
				}
				return this.#lifecycles.containers.create({
					name,
					body,
					headers,
					onlyHost: this.#onlyHost,
				});
			}
			case "networkCreate": {
				const body = parseBody(request, isNetworkCreate);
				return isNetworkCreate(body)
					? this.#lifecycles.networks.create(body, headers)
					: withoutForged(body);
			}
			case "connect": {
				const body = parseBody(request, isNetworkConnect);
				return isNetworkConnect(body)
					? this.#lifecycles.containers.connections.connect(ref, body)
					: undefined;
			}
			case "volumeCreate": {
				const body = parseBody(request, isVolumeCreate);
				if (isVolumeCreate(body)) {
					await this.#lifecycles.volumes.creating(body);
				}
				return undefined;
			}
			case "start":
				await this.#lifecycles.containers.starting(
					ref,
					hasSettings(request.Body),
				);
				return undefined;
			case "kill":
				if (DEADLY.has((query.get("signal") ?? "").toUpperCase())) {
					await this.#lifecycles.containers.stopping(ref, 0);
				}
				return undefined;
			case "stop":
			case "restart":
			case "pause":
				await this.#lifecycles.containers.stopping(
					ref,
					seconds(query.get("t")),
				);
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
		/** What was announced does not come: Docker has refused it. */
		const after = done || response.Code === UNANSWERED ? undefined : "stop";
		switch (verb) {
			case "create": {
				const name = nameIn(query);
				if (done)
					await this.#lifecycles.containers.created(idOf(response), name);
				// what an engine that did not answer will make of it yet, its agent sees
				else if (response.Code !== UNANSWERED)
					await this.#lifecycles.containers.createFailed(name, headers);
				return;
			}
			case "remove":
				if (done) {
					await this.#lifecycles.containers.removedByRef(ref);
					return;
				}
				if (after && !isBeingRemoved(response))
					await this.#lifecycles.containers.removalRefused(ref);
				await this.#lifecycles.containers.observe(ref, after);
				return;
			case "kill":
				await this.#lifecycles.containers.observe(ref, after);
				return;
			case "rename": {
				const name = nameIn(query);
				if (!done || !name) return;
				await this.#lifecycles.containers.renamed(name);
				await this.#lifecycles.containers.observe(name); // its name is one in DNS
				return;
			}
			case "networkCreate": {
				const { Name } = parseBody<{ Name?: string }>(request, isNetworkCreate);
				if (!Name) return;
				if (done) await this.#lifecycles.networks.created(Name, idOf(response));
				// 409: there is one of that name, or another create is making it
				else if (response.Code !== 409)
					await this.#lifecycles.networks.removed(Name);
				return;
			}
			case "networkRemove":
				if (done) await this.#lifecycles.networks.removed(ref);
				return;
			case "volumeCreate":
				return;
			case "volumeRemove":
				if (done) await this.#lifecycles.volumes.removed(ref);
				return;
			case "connect":
			case "disconnect": {
				const { Container } = parseBody<{ Container?: string }>(
					request,
					isNetworkConnect,
				);
				if (!Container) return;
				if (done === (verb === "disconnect")) {
					await this.#lifecycles.containers.connections.ended(ref, Container);
				}
				await this.#lifecycles.containers.observe(Container);
				return;
			}
			case "stop":
			case "restart":
			case "pause":
				// also when Docker refused: then the container still runs
				await this.#lifecycles.containers.observe(ref, "stop");
				return;
			case "start":
				await this.#lifecycles.containers.observe(ref, "start");
				return;
			default:
				await this.#lifecycles.containers.observe(ref);
		}
	}

	/** After its removal nothing tells who `ref` was: note it before. A removal never waits for Consul to come back. */
	async #removing(ref: string, query: URLSearchParams): Promise<void> {
		const container = (await this.#lifecycles.containers.contextOrNone(ref))
			?.container;
		if (!container) return;
		if (isTrue(query.get("force"))) {
			await this.#lifecycles.containers.stopping(container.Id, 0);
		}
		try {
			await this.#lifecycles.containers.removing(container);
		} catch (err) {
			this.#log.warn({ err, container: container.Name }, "removal not noted");
		}
	}
}

/**
 * The body of a request, its keys spelt as Docker does.
 * @param kind what body it is
 * @throws HttpError 400 for a body that is no JSON object, or has one of Docker's keys twice
 */
function parseBody<T extends object>(
	request: ClientRequest,
	kind: { schema: unknown },
): T {
	const text = request.Body ?? "";
	const path = request.Request.split("?", 1)[0]; // a form has become its query, however long
	const what = `the body of ${request.Method} ${path}`;
	if (text === "") {
		throw new HttpError(
			400,
			`${what} is empty; send JSON, with "Content-Type: application/json"`,
		);
	}
	let body: unknown;
	try {
		body = JSON.parse(text);
	} catch (error) {
		throw new HttpError(
			400,
			`${what} is not JSON: ${(error as Error).message}`,
		);
	}
	if (!isObject(body)) {
		throw new HttpError(400, `${what} is not a JSON object`);
	}
	const shape = kind.schema as Shape;
	const twice = repeatedKey(text, shape);
	if (twice) {
		throw new HttpError(
			400,
			`${what} has "${twice}" more than once, where Docker does not tell upper from lower case; give it once`,
		);
	}
	spell(body, shape);
	return body as T;
}

/** Whether a start brings a HostConfig (moby, api/server/router/container: so, before API 1.24, does what is longer than that). */
function hasSettings(body: string | null): boolean {
	return (body ?? "").length > 7;
}

/** The name that a client asks for, if it does. */
function nameIn(query: URLSearchParams): string | undefined {
	return query.get("name")?.replace(/^\//, "") || undefined;
}

/** Id in Docker's answer to a create. */
function idOf({ Body }: ServerResponse): string {
	return (JSON.parse(Body ?? "") as { Id: string }).Id;
}

/** What a client gives the process to end; undefined where it leaves that to the container (moby, api/server/router/container: an empty one does). */
function seconds(t: string | null): number | undefined {
	const value = Number(t || Number.NaN);
	return Number.isFinite(value) ? value : undefined;
}

/** Whether Docker refuses a removal because another one, whose note it is, is under way or has been faster. */
function isBeingRemoved({ Code, Body }: ServerResponse): boolean {
	return Code === 404 || /already in progress/.test(Body ?? "");
}
