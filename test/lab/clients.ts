import {
	findBinary,
	isExecutable,
	type Result,
	type RunOptions,
	run,
} from "../../examples/images/tools.ts";

/** A lab's host, or what `DOCKER_HOST` should be: the gateway's address, for instance. */
export type Target = string | { docker: string };

export interface ClientOptions extends RunOptions {
	/** For `docker` alone: the CLI to use instead of the distribution's, by path. */
	cli?: string;
}

/** The docker CLI of the distribution (20.10), else the first on PATH. */
export function dockerCli(): string {
	return isExecutable("/usr/bin/docker")
		? "/usr/bin/docker"
		: findBinary("docker");
}

/** Runs docker-compose 1.29, fig's descendant. Takes up to 2 minutes unless told. */
export function compose1(
	target: Target,
	args: readonly string[],
	options?: ClientOptions,
): Promise<Result> {
	return client(findBinary("docker-compose"), target, args, options);
}

/** Runs Compose v2. Takes up to 2 minutes unless told. */
export function compose2(
	target: Target,
	args: readonly string[],
	options?: ClientOptions,
): Promise<Result> {
	return client(findBinary("docker-compose-v2"), target, args, options);
}

/** Runs a docker CLI. Takes up to 2 minutes unless told. */
export function docker(
	target: Target,
	args: readonly string[],
	options?: ClientOptions,
): Promise<Result> {
	return client(options?.cli ?? dockerCli(), target, args, options);
}

function client(
	program: string,
	target: Target,
	args: readonly string[],
	options: ClientOptions = {},
) {
	const address = typeof target === "string" ? target : target.docker;
	const inherited = Object.entries(process.env).filter(
		([name]) => !/^(COMPOSE|DOCKER)_/.test(name),
	);
	const env = {
		...Object.fromEntries(inherited),
		...options.env,
		DOCKER_HOST: address,
	};
	return run(program, args, { timeout: 120_000, ...options, env });
}
