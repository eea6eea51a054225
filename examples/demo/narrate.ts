import { dirname, join } from "node:path";
import { cacheFolder, findBinary } from "../images/tools.ts";

/** Of what a command gave: fits a terminal of 80 columns with our indent. */
const WIDTH = 76;
const color = process.stdout.isTTY && !process.env.NO_COLOR;
const paint = (code: number) => (text: string) =>
	color ? `\x1b[${code}m${text}\x1b[0m` : text;

export const bold: (text: string) => string = paint(1);
export const dim: (text: string) => string = paint(2);
export const green: (text: string) => string = paint(32);

// whoever reads us may stop doing so (`npm run demo | head`): what was put up must still come down
process.stdout.on("error", () => {});
process.stderr.on("error", () => {});

/** Begins a part of the demo. */
export function heading(text: string): void {
	process.stdout.write(`\n${bold(text)}\n`);
}

/** One plain line on what happens. */
export function say(text = ""): void {
	process.stdout.write(text ? `  ${text}\n` : "\n");
}

/** A command, as whoever wants to repeat it would type it. */
export function sayCommand(text: string): void {
	process.stdout.write(`  ${bold(`$ ${text}`)}\n`);
}

/** How docker-compose is found by its name where setup had to unpack it. */
export function sayPath(): void {
	const folder = dirname(findBinary("docker-compose"));
	if (folder === join(cacheFolder, "bin")) {
		sayCommand(`export PATH=${folder}:$PATH`);
	}
}

/** What a command gave, set off from what we say. */
export function sayOutput(text: string): void {
	for (const line of text.trimEnd().split("\n")) {
		process.stdout.write(line ? `    ${dim(line)}\n` : "\n");
	}
}

/** `Removing a, b, c ... done`, in lines that fit a terminal. */
export function sayDone(verb: string, names: Iterable<string>): void {
	const sorted = [...new Set(names)].sort();
	if (sorted.length === 0) return;
	const lines = [verb];
	for (const [index, name] of sorted.entries()) {
		const last = index === sorted.length - 1;
		const word = last ? `${name} ... done` : `${name},`;
		const line = `${lines.at(-1)} ${word}`;
		if (line.length <= WIDTH) lines[lines.length - 1] = line;
		else lines.push(`${" ".repeat(verb.length)} ${word}`);
	}
	sayOutput(lines.join("\n"));
}

/** Something that does not go as it should, and what to do about it. */
export class Trouble extends Error {
	override name = "Trouble";
	readonly remedy: string | undefined;

	constructor(message: string, remedy?: string) {
		super(message);
		this.remedy = remedy;
	}
}

/** Ctrl-C, or what amounts to it. */
export class Interrupted extends Error {
	override name = "Interrupted";
}

/**
 * Tells of an error in plain words: no stack, and the remedy if there is one.
 * @param who speaks
 */
export function sayError(error: unknown, who = "demo"): void {
	const { message, remedy } =
		error instanceof Error ? (error as Trouble) : new Trouble(String(error));
	const text = [`${who}: ${message}`, remedy && `      ${remedy}`];
	process.stderr.write(`\n${text.filter(Boolean).join("\n")}\n`);
}

/** Seconds since `start` (of `performance.now()`), as people say them. */
export function secondsSince(start: number): string {
	return `${((performance.now() - start) / 1000).toFixed(1)} s`;
}
