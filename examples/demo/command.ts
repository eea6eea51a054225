import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { findBinary, projectRoot } from "../images/tools.ts";
import { Interrupted, Trouble } from "./narrate.ts";

/** Every process that the demo starts carries it, with the demo's folder as its value. */
export const MARK = "ARPANET_DEMO";

/** How long a command that was told to end may take about it. */
const GRACE_MS = 3_000;

/** Where the parts of the demo do their work. */
export interface Stage {
	/** Private files: configuration, logs, the engine's data. */
	folder: string;
	/** Ends what is under way, when the demo is told to stop. */
	signal: AbortSignal;
	/** Environment of a client, where the gateway wants to see a certificate. */
	client?: Record<string, string>;
}

export interface CommandOptions {
	/** What `DOCKER_HOST` is to be. */
	docker?: string;
	/** More of the environment. */
	env?: Record<string, string> | undefined;
	signal?: AbortSignal;
	/** Milliseconds; 2 minutes unless told. */
	timeout?: number;
	/** Whether a failure is told in the result instead of thrown. */
	mayFail?: boolean;
}

/**
 * Runs a program to its end, in a session of its own: Ctrl-C is for the demo, which then ends the program.
 *
 * @returns its exit code and its output, both streams in the order written
 * @throws Interrupted when the signal fires, Trouble when it fails or takes too long
 */
export async function command(
	folder: string,
	file: string,
	args: readonly string[],
	options: CommandOptions = {},
): Promise<{ code: number | null; output: string }> {
	const { signal, timeout = 120_000, mayFail = false } = options;
	if (signal?.aborted) throw new Interrupted();
	const child = spawn(file.includes("/") ? file : findBinary(file), args, {
		cwd: projectRoot,
		env: { ...environment(folder, options.docker), ...options.env },
		detached: true,
		stdio: ["ignore", "pipe", "pipe"],
	});
	let output = "";
	for (const stream of [child.stdout, child.stderr]) {
		stream.setEncoding("utf8").on("data", (text) => (output += text));
	}
	const stop = () => endGroup(child);
	signal?.addEventListener("abort", stop, { once: true });
	let late = false;
	const timer = setTimeout(() => {
		late = true;
		stop();
	}, timeout);
	try {
		const code = await new Promise<number | null>((resolve, reject) => {
			child.once("error", reject);
			child.once("close", resolve);
		});
		if (signal?.aborted) throw new Interrupted();
		const shown = `${file} ${args.join(" ")}`;
		if (late) {
			throw new Trouble(`"${shown}" is not done after ${timeout / 1000} s`);
		}
		if (code !== 0 && !mayFail) {
			throw new Trouble(`"${shown}" failed:\n${tail(output)}`);
		}
		return { code, output };
	} finally {
		clearTimeout(timer);
		signal?.removeEventListener("abort", stop);
	}
}

/** Starts a program that goes on after the demo, its output in a log. */
export function daemon(
	folder: string,
	file: string,
	args: readonly string[],
	log: string,
): ChildProcess {
	const out = openSync(log, "a");
	const child = spawn(file, args, {
		cwd: projectRoot,
		env: environment(folder),
		detached: true,
		stdio: ["ignore", out, out],
	});
	closeSync(out);
	child.unref();
	return child;
}

/** The last lines of a long output. */
export function tail(text: string, lines = 12): string {
	return text.trimEnd().split("\n").slice(-lines).join("\n");
}

/** The environment without what would lead a client elsewhere. */
function environment(folder: string, docker?: string): NodeJS.ProcessEnv {
	const kept = Object.entries(process.env).filter(
		([name]) =>
			!/^(COMPOSE|DOCKER|CONSUL)_/.test(name) && !/_proxy$/i.test(name),
	);
	return {
		...Object.fromEntries(kept),
		PATH: `${process.env.PATH ?? ""}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`,
		[MARK]: folder,
		...(docker && { DOCKER_HOST: docker }),
	};
}

function endGroup(child: ChildProcess): void {
	const send = (signal: NodeJS.Signals) => {
		try {
			if (child.pid) process.kill(-child.pid, signal);
		} catch {} // ended by itself
	};
	send("SIGTERM");
	const timer = setTimeout(() => send("SIGKILL"), GRACE_MS);
	child.once("close", () => clearTimeout(timer));
}
