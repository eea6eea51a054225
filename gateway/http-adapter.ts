import { HttpError, messageOf } from "../pipeline/errors.ts";
import { HttpClient, originOf } from "../pipeline/http-client.ts";
import type {
	Adapter,
	HookHeaders,
	PostHook,
	PostHookAnswer,
	PreHook,
	PreHookAnswer,
} from "../pipeline/protocol.ts";
import type { Tls } from "../pipeline/tls.ts";
import { AdapterFailure, REMEDY } from "./hooks.ts";

/** More hooks than this at once wait for each other. */
const CONNECTIONS = 128;

/** Any program that speaks the powerstrip adapter protocol, at a URL. */
export class HttpAdapter implements Adapter {
	readonly #title: string;
	readonly #path: string;
	readonly #client: HttpClient;

	/**
	 * @param name as in powerstrip.yml
	 * @param url both kinds of hook are posted to it: `http://127.0.0.1:9042/adapter`
	 * @param tls for an https URL
	 */
	constructor(name: string, url: string, tls?: Tls) {
		const { protocol, host, pathname, search } = new URL(url);
		this.#title = `adapter ${name} (${protocol}//${host}${pathname}${search})`; // clients read it
		this.#path = pathname + search;
		this.#client = new HttpClient(originOf(url, tls), CONNECTIONS);
	}

	/** @throws HttpError what the adapter said; AdapterFailure when it said nothing */
	preHook(
		hook: PreHook,
		headers: HookHeaders,
		late?: AbortSignal,
	): Promise<PreHookAnswer> {
		return this.#post(hook, headers, late) as Promise<PreHookAnswer>;
	}

	/** @throws as `preHook` */
	postHook(
		hook: PostHook,
		headers: HookHeaders,
		late?: AbortSignal,
	): Promise<PostHookAnswer> {
		return this.#post(hook, headers, late) as Promise<PostHookAnswer>;
	}

	/** Ends its connections. */
	close(): void {
		this.#client.close();
	}

	async #post(
		hook: PreHook | PostHook,
		headers: HookHeaders,
		late: AbortSignal | undefined,
	): Promise<unknown> {
		let status: number;
		let text: string;
		try {
			({ status, text } = await this.#client.ask({
				method: "POST",
				path: this.#path,
				headers: { "content-type": "application/json", ...headers },
				body: JSON.stringify(hook),
				...(late ? { signal: late } : {}),
			}));
		} catch (error) {
			throw new AdapterFailure(
				502,
				`${this.#title} does not answer: ${messageOf(error)}; start it or remove it from powerstrip.yml`,
				{ cause: error },
			);
		}
		if (status >= 400 && status <= 599) {
			throw new HttpError(status, this.#complaint(status, text));
		}
		if (status > 299) {
			// a client takes 304 for success: the container runs already
			throw new AdapterFailure(
				502,
				`${this.#title} answered with status ${status}; ${REMEDY}`,
			);
		}
		try {
			return JSON.parse(text);
		} catch (cause) {
			const start = JSON.stringify(text.slice(0, 80));
			throw new AdapterFailure(
				502,
				`${this.#title} answered no JSON: ${start}`,
				{
					cause,
				},
			);
		}
	}

	/** The message in Docker's form if it has one, else what it wrote. */
	#complaint(status: number, text: string): string {
		try {
			const { message } = JSON.parse(text);
			if (typeof message === "string") return message;
		} catch {
			// plain text then
		}
		return text.trim() || `${this.#title} answered ${status}`;
	}
}
