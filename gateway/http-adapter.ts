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
import { AdapterFailure } from "./hooks.ts";

/** More hooks than this at once wait for each other. */
const CONNECTIONS = 128;

/** Any program that speaks the powerstrip adapter protocol, at a URL. */
export class HttpAdapter implements Adapter {
	readonly #title: string;
	readonly #path: string;
	readonly #client: HttpClient;
	readonly #timeout: number;

	/**
	 * @param name as in powerstrip.yml
	 * @param url both kinds of hook are posted to it: `http://127.0.0.1:9042/adapter`
	 * @param options `hookTimeout` in ms, after which a hook's connection is given up; `tls` for an https URL
	 */
	constructor(
		name: string,
		url: string,
		{ hookTimeout, tls }: { hookTimeout: number; tls?: Tls | undefined },
	) {
		const { protocol, host, pathname, search } = new URL(url);
		this.#title = `adapter ${name} (${protocol}//${host}${pathname}${search})`; // clients read it
		this.#path = pathname + search;
		this.#timeout = hookTimeout;
		this.#client = new HttpClient(originOf(url, tls), CONNECTIONS);
	}

	/** @throws HttpError what the adapter said; AdapterFailure when it said nothing */
	preHook(hook: PreHook, headers: HookHeaders): Promise<PreHookAnswer> {
		return this.#post(hook, headers) as Promise<PreHookAnswer>;
	}

	/** @throws as `preHook` */
	postHook(hook: PostHook, headers: HookHeaders): Promise<PostHookAnswer> {
		return this.#post(hook, headers) as Promise<PostHookAnswer>;
	}

	/** Ends its connections. */
	close(): void {
		this.#client.close();
	}

	async #post(
		hook: PreHook | PostHook,
		headers: HookHeaders,
	): Promise<unknown> {
		let status: number;
		let text: string;
		try {
			({ status, text } = await this.#client.ask({
				method: "POST",
				path: this.#path,
				headers: { "content-type": "application/json", ...headers },
				body: JSON.stringify(hook),
				timeout: this.#timeout,
			}));
		} catch (error) {
			throw new AdapterFailure(
				502,
				`${this.#title} does not answer: ${messageOf(error)}; start it or remove it from powerstrip.yml`,
				{ cause: error },
			);
		}
		if (status < 200 || status > 299) {
			throw new HttpError(status, this.#complaint(status, text));
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
