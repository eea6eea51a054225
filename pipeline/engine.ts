import { createInterface } from "node:readline";
import { text as textOf } from "node:stream/consumers";
import { setTimeout } from "node:timers/promises";
import {
	type ContainerInspect,
	type ContainerSummary,
	type EngineEvent,
	filtered,
	imagePath,
	type NetworkCreate,
	type NetworkInspect,
	type VolumeCreate,
} from "./docker.ts";
import { HttpError, messageOf } from "./errors.ts";
import { HttpClient } from "./http-client.ts";
import { ImageLabels } from "./image-labels.ts";
import { stringify } from "./json.ts";
import { inParallel } from "./parallel.ts";
import { type Tls, tcpAddress } from "./tls.ts";

/** How to dial an engine: its unix socket, or host and port. */
export type EngineAddress =
	| { socketPath: string }
	| { host: string; port: number; tls?: Tls };

/** The engine can hang (it serialises, and has been seen to deadlock): no call waits longer, but for what takes long. */
const TIMEOUT_MS = 60_000;
/** It takes minutes to delete images or whatever is not used, and to measure what there is. */
const LONG_TIMEOUT_MS = 600_000;
const TAKES_LONG =
	/^(?:POST \S*\/prune|DELETE \S*\/images\/|GET \S*(?:\/system\/df|[?&]size=))/;
/** How long nothing may come while an image is copied: engines write a large one down before they send it. */
const COPY_QUIET_MS = 300_000;
/** A stream in which nothing happens is tried after so long whether the other end is still there. */
const KEEPALIVE_MS = 5_000;
/** What a container is asked for is so already. */
const NOT_MODIFIED = 304;
/** How soon one that is being started again is asked again. */
const RETRY_MS = 100;
/** How long an engine that may be away is listened to. */
const AWAY_MS = 1_000;

/**
 * Reads `unix:///var/run/docker.sock` or `tcp://127.0.0.1:2375`.
 * @param tls certificates for an engine that is reached over TCP
 * @throws Error for any other form
 */
export function parseEngineUrl(url: string, tls?: Tls): EngineAddress {
	const unix = /^unix:\/\/(\/.+)$/.exec(url);
	if (unix) return { socketPath: unix[1] as string };
	const tcp = tcpAddress(url);
	if (tcp) return tls ? { ...tcp, tls } : tcp;
	throw new Error(
		`"${url}" is no engine address; write unix:///var/run/docker.sock or tcp://127.0.0.1:2375`,
	);
}

/** What `GET /info` says of an engine, as far as it is read. */
export interface EngineInfo {
	ID: string;
	Name: string;
	ServerVersion: string;
	/** `overlay2` */
	Driver: string;
	KernelVersion: string;
	OperatingSystem: string;
	/** `x86_64` */
	Architecture: string;
	/** `disk=ssd` */
	Labels: string[] | null;
}

/** Images that an engine is asked of at once: it has others to answer. */
const AT_ONCE = 16;

type Method = "GET" | "POST" | "DELETE";

/** An engine's answer as it came. */
export interface EngineAnswer {
	status: number;
	/** Names and values in turn, as they are spelt. */
	headers: string[];
	text: string;
}

/** The calls that arpanet makes to a Docker Engine itself; what a client asks goes through the gateway's own connections. */
export class Engine {
	readonly url: string;
	readonly #client: HttpClient;
	readonly #isReturning: () => boolean;
	readonly #images = new ImageLabels((image, timeout) =>
		this.#ask("GET", imagePath(image), undefined, timeout),
	);

	/**
	 * @param url `unix:///var/run/docker.sock` or `tcp://host:port`
	 * @param isReturning whether it is worth while to wait if it refuses connections now
	 */
	constructor(url: string, tls?: Tls, isReturning = () => false) {
		this.url = url;
		this.#isReturning = isReturning;
		this.#client = new HttpClient(parseEngineUrl(url, tls));
	}

	/**
	 * A container by id, unique id prefix or name, without what its image alone says of it; undefined if there is none.
	 * @param ref of a name also as inspect writes it, `/abc_web_1`
	 * @param timeout milliseconds without a byte
	 */
	async inspectContainer(
		ref: string,
		timeout?: number,
	): Promise<ContainerInspect | undefined> {
		const name = encodeURIComponent(ref.replace(/^\//, ""));
		const found = await this.get<ContainerInspect>(
			`/containers/${name}/json`,
			timeout,
		);
		if (!found?.Config?.Labels) return found;
		const Labels = await this.#images.without(
			found.Config.Labels,
			found.Image,
			timeout,
		);
		return { ...found, Config: { ...found.Config, Labels } };
	}

	/** The container of that name, and none whose id begins like it. */
	async containerNamed(name: string): Promise<ContainerInspect | undefined> {
		const found = await this.inspectContainer(name); // a name goes before the start of an id
		return found?.Name === `/${name}` ? found : undefined;
	}

	/**
	 * All containers, stopped ones too, whose labels match (`key` or `key=value`) if one is named. Those without a name are none: Docker
	 * 20.10 can go on listing a container that it has removed, and finds it no more when asked for it. Without what their images alone
	 * say of them.
	 */
	async listContainers(label?: string): Promise<ContainerSummary[]> {
		const listed = (await this.get<ContainerSummary[]>(
			filtered("/containers/json?all=1", label ? { label: [label] } : {}),
		)) as ContainerSummary[];
		const all = listed.filter(({ Names }) => Names?.length > 0);
		await inParallel(all, AT_ONCE, async (each) => {
			each.Labels = await this.#images.without(each.Labels, each.ImageID);
		});
		const [key = ""] = label?.split("=") ?? [];
		return all.filter(({ Labels }) => !key || Object.hasOwn(Labels, key));
	}

	/** A network by id, unique id prefix or name; undefined if there is none. */
	inspectNetwork(ref: string): Promise<NetworkInspect | undefined> {
		return this.get(`/networks/${encodeURIComponent(ref)}`);
	}

	/** The network of that name, and none whose id begins like it. */
	async networkNamed(name: string): Promise<NetworkInspect | undefined> {
		const found = await this.inspectNetwork(name);
		return found?.Name === name ? found : undefined;
	}

	/** All networks whose labels match (`key` or `key=value`). */
	async listNetworks(label: string): Promise<NetworkInspect[]> {
		return (await this.get<NetworkInspect[]>(
			filtered("/networks", { label: [label] }),
		)) as NetworkInspect[];
	}

	/** @throws HttpError with the engine's status and message */
	async createNetwork(body: NetworkCreate): Promise<{ Id: string }> {
		return (await this.#call("POST", "/networks/create", body)) as {
			Id: string;
		};
	}

	/** Makes a volume; one of that name that is there already is success. @throws HttpError */
	async createVolume(body: VolumeCreate): Promise<void> {
		await this.#call("POST", "/volumes/create", body);
	}

	/** Removes a network; one that is gone already is success. @throws HttpError 403 while containers use it */
	async removeNetwork(ref: string): Promise<void> {
		try {
			await this.#call("DELETE", `/networks/${encodeURIComponent(ref)}`);
		} catch (error) {
			if (!(error instanceof HttpError && error.status === 404)) throw error;
		}
	}

	/**
	 * The answer to any `GET` of the API that is JSON; undefined for a 404.
	 * @param timeout milliseconds without a byte
	 * @throws HttpError
	 */
	async get<T>(path: string, timeout?: number): Promise<T | undefined> {
		try {
			return (await this.#call("GET", path, undefined, timeout)) as T;
		} catch (error) {
			if (error instanceof HttpError && error.status === 404) return undefined;
			throw error;
		}
	}

	/** The answer to any `GET`, whatever its status. @throws HttpError 502 when the engine does not answer */
	answer(path: string): Promise<EngineAnswer> {
		return this.#ask("GET", path);
	}

	/** Whether it answers at all. @param patience milliseconds */
	async ping(patience: number): Promise<boolean> {
		return (await this.#silence(patience)) === undefined;
	}

	/** Whether it is there: nobody takes a connection where it is away; one that is silent hangs, or has much to do. */
	async presence(): Promise<"answers" | "silent" | "away"> {
		const code = await this.#silence(AWAY_MS);
		if (code === undefined) return "answers";
		return code === "ECONNREFUSED" || code === "ENOENT" ? "away" : "silent";
	}

	/** Why a ping has no answer, in Node's code or none; undefined if it has one. @param patience milliseconds */
	async #silence(patience: number): Promise<string | undefined> {
		try {
			await this.#client.ask({
				method: "GET",
				path: "/_ping",
				signal: AbortSignal.timeout(patience),
			});
			return undefined;
		} catch (error) {
			return (error as NodeJS.ErrnoException).code ?? "";
		}
	}

	/** `POST` to any path of the API. @returns the answer, if it is one in JSON @throws HttpError */
	async post<T>(path: string, body?: unknown): Promise<T> {
		return (await this.#call("POST", path, body)) as T;
	}

	/** `DELETE` of any path of the API. @returns the answer, if it is one in JSON @throws HttpError */
	async remove<T>(path: string): Promise<T> {
		return (await this.#call("DELETE", path)) as T;
	}

	/** Copies an image from another engine, streamed. @throws HttpError */
	async copyImage(name: string, from: Engine): Promise<void> {
		const saved = await from.#client.send({
			method: "GET",
			path: `/images/${encodeURIComponent(name)}/get`,
			timeout: COPY_QUIET_MS,
		});
		if (saved.status >= 300) {
			const { status, body } = saved;
			throw new HttpError(
				status,
				messageIn({ status, text: await textOf(body) }),
			);
		}
		try {
			const { status, text } = await this.#client.ask({
				method: "POST",
				path: "/images/load?quiet=1",
				headers: { "content-type": "application/x-tar" },
				body: saved.body,
				timeout: COPY_QUIET_MS,
			});
			if (status >= 300) {
				throw new HttpError(status, messageIn({ status, text }));
			}
			const error = errorIn(text);
			if (error) throw new HttpError(500, error);
		} finally {
			saved.body.destroy();
		}
	}

	/**
	 * What `GET /info` says of the engine.
	 * @param timeout milliseconds without a byte
	 * @throws HttpError 502 when it does not answer
	 */
	async info(timeout?: number): Promise<EngineInfo> {
		return (await this.#call("GET", "/info", undefined, timeout)) as never;
	}

	/**
	 * The engine's events of containers, networks and images as they happen, from now on.
	 * @param ready called once the engine listens: what happens after is in the stream
	 */
	async *events(
		signal: AbortSignal,
		ready: () => void,
	): AsyncGenerator<EngineEvent> {
		const types = ["container", "network", "image"];
		const path = filtered("/events", { type: types });
		for await (const line of this.lines(path, signal, ready)) {
			yield JSON.parse(line) as EngineEvent;
		}
	}

	/**
	 * The lines of an endless `GET`.
	 * @param ready called once the engine has begun to answer
	 * @throws HttpError what the engine has against it; Error when the connection breaks
	 */
	async *lines(
		path: string,
		signal: AbortSignal,
		ready = () => {},
	): AsyncGenerator<string> {
		const { status, body } = await this.#client.send({
			method: "GET",
			path,
			signal,
			timeout: TIMEOUT_MS,
		});
		if (status >= 400) {
			throw new HttpError(
				status,
				messageIn({ status, text: await textOf(body) }),
			);
		}
		body.setTimeout(0); // from now on silence is news as well
		body.socket.setKeepAlive(true, KEEPALIVE_MS); // but not that of a host that lost its power
		try {
			ready();
			for await (const line of createInterface({ input: body })) {
				if (line) yield line;
			}
		} finally {
			body.destroy(); // also when the reader stops
		}
	}

	close(): void {
		this.#client.close();
	}

	async #call(
		method: Method,
		path: string,
		body?: unknown,
		timeout?: number,
	): Promise<unknown> {
		const { status, text } = await this.#ask(method, path, body, timeout);
		// a path that it does not take as it is it answers with another, 301
		if (status >= 300 && status !== NOT_MODIFIED) {
			throw new HttpError(status, messageIn({ status, text }));
		}
		try {
			return text ? JSON.parse(text) : undefined;
		} catch {
			throw new HttpError(
				502,
				`engine ${this.url} answered ${status} without JSON: ${startOf(text)}`,
			);
		}
	}

	async #ask(
		method: Method,
		path: string,
		body?: unknown,
		timeout = TAKES_LONG.test(`${method} ${path}`)
			? LONG_TIMEOUT_MS
			: TIMEOUT_MS,
	): Promise<EngineAnswer> {
		try {
			return await this.#client.ask({
				method,
				path,
				timeout,
				...(body === undefined
					? {}
					: {
							body: stringify(body),
							headers: { "content-type": "application/json" },
						}),
			});
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			if (code === "ECONNREFUSED" && this.#isReturning()) {
				await setTimeout(RETRY_MS); // nothing was sent
				return this.#ask(method, path, body, timeout);
			}
			throw unanswered(this.url, messageOf(error), error);
		}
	}
}

/** What a client reads of an engine that does not answer, be it this host's or another's. */
export function unanswered(
	url: string,
	why: string,
	cause?: unknown,
): HttpError {
	return new HttpError(
		502,
		`engine ${url} does not answer: ${why}; start dockerd there, or see arpanet check`,
		{ cause },
	);
}

/** What an engine's answer says is wrong. */
export function messageIn({
	status,
	text,
}: Pick<EngineAnswer, "status" | "text">): string {
	try {
		return JSON.parse(text).message ?? `the engine answered ${status}`;
	} catch {
		return `the engine answered ${status} without JSON: ${startOf(text)}`;
	}
}

function startOf(text: string): string {
	return JSON.stringify(text.slice(0, 80));
}

/** What went wrong, in an answer that began with 200 (moby, api/server/router/image: a load that fails says so in its last line). */
function errorIn(lines: string): string | undefined {
	const found = /^\{"errorDetail":.*\}$/m.exec(lines);
	return found ? (JSON.parse(found[0]) as { error: string }).error : undefined;
}
