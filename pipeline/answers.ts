import { HttpError } from "./errors.ts";

/** What one host's engine says: its answer; that it has no such thing, by neither; or nothing, and why is the error. */
export interface HostAnswer<T = unknown> {
	host: string;
	answer: T | undefined;
	error?: unknown;
}

/** That of a host which has what it was asked for. */
export interface Has<T> {
	host: string;
	answer: T;
}

/** Asks hosts something, all of them at once. @param question whatever it throws is in that host's answer */
export function askEach<T>(
	hosts: readonly string[],
	question: (host: string) => Promise<T | undefined>,
): Promise<HostAnswer<T>[]> {
	return Promise.all(
		hosts.map(async (host): Promise<HostAnswer<T>> => {
			try {
				return { host, answer: await question(host) };
			} catch (error) {
				return { host, answer: undefined, error };
			}
		}),
	);
}

/** The hosts that have what they were asked for, in the order of the answers. */
export function whoHas<T>(answers: readonly HostAnswer<T>[]): Has<T>[] {
	return answers.flatMap(({ host, answer }) =>
		answer === undefined ? [] : [{ host, answer }],
	);
}

/** Whether that is said of a host that did not answer. */
export function isUnheard(error: unknown): boolean {
	return error instanceof HttpError && error.status === 502;
}
