import { readFile } from "node:fs/promises";
import { text as readAll } from "node:stream/consumers";

/**
 * The text of a file that a command is given.
 * @param file path; `-` is standard input
 * @param what what it shall be, for whoever named another
 * @throws Error naming the file
 */
export async function readInput(file: string, what: string): Promise<string> {
	if (file === "-") return readAll(process.stdin);
	try {
		return await readFile(file, "utf8");
	} catch (error) {
		throw new Error(
			`${file} cannot be read (${(error as NodeJS.ErrnoException).code}); name ${what}, or - for standard input`,
		);
	}
}
