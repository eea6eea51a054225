import type { Logger } from "pino";
import { inTime } from "./deadline.ts";
import { HttpError, messageOf } from "./errors.ts";
import type { Hooks, Loaded } from "./plugin.ts";
import { Conflict } from "./state/operations.ts";

/** Hooks that are told something; of `place`, which placement asks, something is wanted back. */
export type Moment = Exclude<keyof Hooks, "place">;

type ContextOf<M extends Moment> = Parameters<NonNullable<Hooks[M]>>[0];

/** The plugins in list order, and the two ways through them: forth to acquire, back to release. */
export class Chain {
	readonly #plugins: Loaded[];
	readonly #timeout: number;
	readonly #log: Logger;

	/** @param timeout milliseconds that one plugin may take over one hook */
	constructor(plugins: Loaded[], timeout: number, log: Logger) {
		this.#plugins = plugins;
		this.#timeout = timeout;
		this.#log = log;
	}

	/** Whether any plugin has a hook for that moment. */
	has(moment: Moment): boolean {
		return this.#plugins.some(({ hooks }) => hooks[moment]);
	}

	/**
	 * Runs a hook of every plugin in list order, up to the first that throws.
	 * @param failed called with the position of the plugin that threw, before the error goes on
	 * @throws HttpError, or Conflict when a plugin lost against another process: then begin again
	 */
	async acquire<M extends Moment>(
		moment: M,
		context: ContextOf<M>,
		failed?: (position: number) => Promise<void>,
	): Promise<void> {
		for (const [position, plugin] of this.#plugins.entries()) {
			try {
				await this.#run(plugin, moment, context);
			} catch (error) {
				await failed?.(position);
				throw named(plugin.name, moment, error, this.#log);
			}
		}
	}

	/**
	 * Runs a hook of every plugin in reverse order, past errors, which are logged.
	 * @param from position to start at; the last by default
	 * @returns the first error, if there was one
	 */
	async release<M extends Moment>(
		moment: M,
		context: ContextOf<M>,
		from = this.#plugins.length - 1,
	): Promise<Error | undefined> {
		let first: Error | undefined;
		for (const plugin of this.#plugins.slice(0, from + 1).reverse()) {
			try {
				await this.#run(plugin, moment, context);
			} catch (error) {
				const err = named(plugin.name, moment, error, this.#log);
				this.#log.warn(
					{ plugin: plugin.name, hook: moment, err },
					"hook failed; going on",
				);
				first ??= err;
			}
		}
		return first;
	}

	async #run<M extends Moment>(
		{ name, hooks }: Loaded,
		moment: M,
		context: ContextOf<M>,
	): Promise<void> {
		const result = (
			hooks[moment] as ((context: ContextOf<M>) => unknown) | undefined
		)?.call(hooks, context);
		if (!isPromise(result)) return;
		const late = `plugin ${name}: ${moment} took longer than ${this.#timeout} ms; see the log, or raise pluginTimeout in powerstrip.yml`;
		await inTime(result, this.#timeout, () => new HttpError(504, late));
	}
}

/**
 * What a plugin threw, as it goes on: an error meant for the user as it is; any other is the plugin's fault and says so.
 * @param hook in which it threw
 */
export function named(
	plugin: string,
	hook: keyof Hooks,
	error: unknown,
	log: Logger,
): Error {
	if (error instanceof HttpError || error instanceof Conflict) return error;
	// a plugin from elsewhere need not import our class to refuse
	const { status } = (error ?? {}) as { status?: unknown };
	if (error instanceof Error && isHttpError(status)) {
		return new HttpError(status, error.message, { cause: error });
	}
	log.error({ plugin, hook, err: error }, "plugin threw");
	return new HttpError(
		500,
		`plugin ${plugin}: ${hook} failed: ${messageOf(error)}`,
		{ cause: error },
	);
}

/** Whether there is something to wait for, be it a promise of a library's own kind. */
function isPromise(result: unknown): result is PromiseLike<unknown> {
	const { then } = (result ?? {}) as { then?: unknown };
	return typeof then === "function";
}

function isHttpError(status: unknown): status is number {
	return (
		Number.isInteger(status) && Number(status) >= 400 && Number(status) < 600
	);
}
