import type { Logger } from "pino";
import { inTime } from "./deadline.ts";
import { HttpError, messageOf } from "./errors.ts";
import type { Loaded } from "./load.ts";
import type { Hooks } from "./plugin.ts";
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
				throw this.#named(plugin, moment, error);
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
				const named = this.#named(plugin, moment, error);
				this.#log.warn(
					{ plugin: plugin.name, hook: moment, err: named },
					"hook failed; going on",
				);
				first ??= named;
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
		if (!(result instanceof Promise)) return;
		const late = `plugin ${name}: ${moment} took longer than ${this.#timeout} ms; see the log, or raise pluginTimeout in powerstrip.yml`;
		await inTime(result, this.#timeout, () => new HttpError(504, late));
	}

	/** An error meant for the user goes on as it is; any other is the plugin's fault and says so. */
	#named(plugin: Loaded, moment: string, error: unknown): Error {
		if (error instanceof HttpError || error instanceof Conflict) return error;
		// a plugin from elsewhere need not import our class to refuse
		const { status } = (error ?? {}) as { status?: unknown };
		if (error instanceof Error && isHttpError(status)) {
			return new HttpError(status, error.message, { cause: error });
		}
		this.#log.error(
			{ plugin: plugin.name, hook: moment, err: error },
			"plugin threw",
		);
		return new HttpError(
			500,
			`plugin ${plugin.name}: ${moment} failed: ${messageOf(error)}`,
			{ cause: error },
		);
	}
}

function isHttpError(status: unknown): status is number {
	return (
		Number.isInteger(status) && Number(status) >= 400 && Number(status) < 600
	);
}
