import { readFileSync } from "node:fs";
import { Netmask } from "netmask";

interface Route {
	subnet: Netmask;
	/** Name of the interface that it leads out by. */
	device: string;
}

/** The routes of this machine, as in the kernel's main table, but for default ones. */
export function routes(): Route[] {
	let table: string;
	try {
		table = readFileSync("/proc/net/route", "utf8");
	} catch {
		return []; // not Linux
	}
	return table
		.split("\n")
		.slice(1)
		.map((line) => line.trim().split(/\s+/))
		.filter(([, , , , , , , mask]) => mask && !/^0+$/.test(mask))
		.map(([device = "", to = "", , , , , , mask = ""]) => ({
			device,
			subnet: new Netmask(dotted(to), dotted(mask)),
		}));
}

/** The kernel shows addresses in hexadecimal as they lie in memory: the last octet first on a usual machine. */
function dotted(hex: string): string {
	return [...Buffer.from(hex, "hex")].reverse().join(".");
}
