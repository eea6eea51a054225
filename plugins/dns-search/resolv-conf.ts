import { type FileHandle, open } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type { ContainerInspect } from "../../pipeline/docker.ts";

/** musl passes over a line of more than 255 characters (`__get_resolv_conf`), `search ` and its end among them. */
export const MAX_SEARCH = 247;

/**
 * Changes the search list of a container that runs, in the file that Docker has made for it: what it is to be is certain only when
 * the container has been connected to its networks, and Docker takes none then. At the next start Docker makes the file anew.
 * Does nothing for one of another machine.
 * @throws Error of Node's for a file that cannot be written
 */
export async function changeSearch(
	{ Id, ResolvConfPath = "" }: ContainerInspect,
	change: (list: string[]) => string[],
): Promise<void> {
	if (!ResolvConfPath.endsWith(`/${Id}/resolv.conf`)) return; // a file that the user has mounted there
	const file = await open(ResolvConfPath, "r+").catch((error) => {
		if (error.code === "ENOENT") return undefined;
		throw error;
	});
	if (!file) return;
	try {
		await rewrite(file, change);
	} finally {
		await file.close();
	}
}

async function rewrite(
	file: FileHandle,
	change: (list: string[]) => string[],
): Promise<void> {
	const text = await file.readFile("utf8");
	const [line = "", list = ""] = /^search[ \t]+(.*)$/m.exec(text) ?? [];
	const before = list.trim().split(/\s+/);
	const after = change(before);
	if (!line || isDeepStrictEqual(before, after)) return;
	const changed = text.replace(line, () => `search ${after.join(" ")}`);
	// in place and in one piece, never shorter: the container may be reading it
	await file.write(changed.padEnd(text.length, "\n"), 0);
}
