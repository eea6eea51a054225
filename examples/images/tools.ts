import { execFile } from "node:child_process";
import { accessSync, constants, existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const SYSTEM_FOLDERS = [
	"/usr/local/sbin",
	"/usr/local/bin",
	"/usr/sbin",
	"/usr/bin",
	"/sbin",
	"/bin",
];

/** The checkout's top folder, found from this file upwards, whether it runs from dist/ or not. */
export const projectRoot: string = findProjectRoot(
	dirname(fileURLToPath(import.meta.url)),
);

/** The git-ignored folder that `scripts/setup.sh` fills. */
export const cacheFolder: string = join(projectRoot, ".cache");

function findProjectRoot(folder: string): string {
	// dist/ holds no package.json, so the first one upwards is the checkout's own
	if (existsSync(join(folder, "package.json"))) return folder;
	const parent = dirname(folder);
	if (parent === folder) throw new Error("no package.json above this file");
	return findProjectRoot(parent);
}

/**
 * Finds a program: first in `.cache/bin`, then on PATH, then in the system's own folders
 * (a plain user's PATH has no sbin).
 *
 * @param name such as `consul`
 * @returns its absolute path
 * @throws when there is none, saying to run the setup
 */
export function findBinary(name: string): string {
	const folders = [
		join(cacheFolder, "bin"),
		...(process.env.PATH ?? "").split(":"),
		...SYSTEM_FOLDERS,
	];
	const found = folders.map((folder) => join(folder, name)).find(isExecutable);
	if (!found)
		throw new Error(`${name} is not installed: run "bash scripts/setup.sh"`);
	return found;
}

/** Whether this path is a program that we may run. */
export function isExecutable(path: string): boolean {
	try {
		accessSync(path, constants.X_OK);
		return true;
	} catch {
		return false;
	}
}

/** What a finished command gave: its exit code (null when a signal ended it) and its whole output. */
export interface Result {
	code: number | null;
	stdout: string;
	stderr: string;
}

export interface RunOptions {
	/** Written to the command's standard input, which is then closed. */
	input?: string | Uint8Array;
	env?: NodeJS.ProcessEnv;
	cwd?: string;
	/** Milliseconds after which the command is killed and the promise rejects; 60,000 unless told. */
	timeout?: number;
}

/**
 * Runs a command to its end, whatever its exit code.
 *
 * @returns its exit code and output
 * @throws when it cannot be started or takes longer than `timeout`; the message holds the output so far
 */
export function run(
	file: string,
	args: readonly string[],
	options: RunOptions = {},
): Promise<Result> {
	const { input, env, cwd, timeout = 60_000 } = options;
	return new Promise((resolve, reject) => {
		const child = execFile(
			file,
			args,
			{ env, cwd, maxBuffer: 256 * 2 ** 20 },
			(error, stdout, stderr) => {
				clearTimeout(timer);
				if (late) {
					reject(
						new Error(
							`${file} ${args.join(" ")}: not done after ${timeout} ms\n${stdout}${stderr}`.trimEnd(),
						),
					);
				} else if (error && child.exitCode === null && !child.signalCode) {
					reject(error); // never started
				} else {
					resolve({ code: child.exitCode, stdout, stderr });
				}
			},
		);
		let late = false;
		const timer = setTimeout(() => {
			late = true;
			child.kill("SIGKILL");
			// a grandchild may hold the pipes open
			child.stdout?.destroy();
			child.stderr?.destroy();
		}, timeout);
		child.stdin?.on("error", () => {}); // it may end before it has read everything
		child.stdin?.end(input ?? "");
	});
}

/**
 * Runs a command that must succeed.
 *
 * @returns its standard output
 * @throws with its output when the exit code is not 0
 */
export async function runOk(
	file: string,
	args: readonly string[],
	options: RunOptions = {},
): Promise<string> {
	const { code, stdout, stderr } = await run(file, args, options);
	if (code !== 0)
		throw new Error(
			`${file} ${args.join(" ")}: exit ${code}\n${stderr}${stdout}`.trimEnd(),
		);
	return stdout;
}
