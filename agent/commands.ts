import { execFile } from "node:child_process";
import { promisify } from "node:util";

const run = promisify(execFile);

/** Characters: a firewall of a hundred thousand rules. */
const MAX_ANSWER = 16 * 1024 * 1024;

/** A network device, as `ip -j -d link` tells of it. */
export interface Link {
	ifname: string;
	mtu: number;
	/** The bridge that it is a port of. */
	master?: string;
	flags: string[];
	linkinfo?: { info_data?: { id?: number; local?: string; local6?: string } };
}

/** All devices of a type; none where the kernel does not know it. */
export async function linksOf(type: string): Promise<Link[]> {
	return (await ip("-d", "link", "show", "type", type)) as Link[];
}

/** What `ip` answers. @throws Error with what it says */
export function ip(...args: string[]): Promise<unknown[]> {
	return json("ip", args);
}

/** What `bridge` answers. @throws Error with what it says */
export function bridge(...args: string[]): Promise<unknown[]> {
	return json("bridge", args);
}

/** Runs a command of the host to its end. @returns what it prints @throws Error with what it says */
export async function command(
	program: string,
	...args: string[]
): Promise<string> {
	const { stdout } = await run(program, args, {
		timeout: 10_000,
		maxBuffer: MAX_ANSWER,
	});
	return stdout;
}

async function json(program: string, args: string[]): Promise<unknown[]> {
	const text = await command(program, "-j", ...args);
	return text.trim() ? (JSON.parse(text) as unknown[]) : [];
}
