import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { cpus } from "node:os";
import type { HostState } from "../pipeline/state/hosts.ts";
import { interfaceWith } from "./interfaces.ts";

/** Bits per second of a network whose driver does not say. */
const USUAL_SPEED = 1e9;

/** How busy a host is; the name as in HostState. */
export type Load = Required<Pick<HostState, "load" | "memory" | "network">>;

interface Counters {
	/** Milliseconds of all processors, and those in which they had nothing to do. */
	total: number;
	idle: number;
	/** Bytes. */
	received: number;
	sent: number;
	/** Milliseconds on the monotonic clock. */
	at: number;
}

/** Measures how busy the host is, from one look to the next. */
export class LoadMeter {
	readonly #address: string;
	/** The interface that had the address when it was last asked for. */
	#interface: string | undefined;
	#before: Counters;

	/** @param address of the host: the interface that has it is what counts as its network */
	constructor(address: string) {
		this.#address = address;
		this.#before = this.#read();
	}

	/** The shares of processors, memory and network in use, 0 to 1: the first and the last since the last look. */
	async look(): Promise<Load> {
		const before = this.#before;
		const now = this.#read();
		this.#before = now;
		const total = now.total - before.total;
		const idle = now.idle - before.idle;
		const bytes = Math.max(
			now.received - before.received,
			now.sent - before.sent,
		);
		const seconds = (now.at - before.at) / 1000;
		const speed = await speedOf(this.#interface);
		return {
			load: share(total - idle, total),
			memory: memoryInUse(),
			network: share(bytes * 8, speed * seconds),
		};
	}

	#read(): Counters {
		const counters = { total: 0, idle: 0 };
		for (const { times } of cpus()) {
			counters.idle += times.idle;
			for (const spent of Object.values(times)) counters.total += spent;
		}
		const devices = text("/proc/net/dev");
		const known = bytesOf(this.#interface, devices);
		if (!known) this.#interface = interfaceWith(this.#address);
		const [received, sent] = known ??
			bytesOf(this.#interface, devices) ?? [0, 0];
		return { ...counters, received, sent, at: performance.now() };
	}
}

/**
 * Bytes that an interface has received and sent; undefined if there is none of that name.
 * @param devices `/proc/net/dev`: of each the received bytes and 7 more columns, then those sent
 */
function bytesOf(
	name: string | undefined,
	devices: string,
): [number, number] | undefined {
	const lines = devices.split("\n").map((line) => line.trim());
	const line = lines.find((each) => each.startsWith(`${name}:`));
	if (!line) return undefined;
	const [received = 0, , , , , , , , sent = 0] = line
		.slice(line.indexOf(":") + 1)
		.trim()
		.split(/\s+/)
		.map(Number);
	return [received, sent];
}

/** Bits per second of an interface. The kernel lets the reader wait while anyone changes its network, as engines do. */
async function speedOf(name: string | undefined): Promise<number> {
	const file = `/sys/class/net/${name}/speed`;
	const megabits = Number(await readFile(file, "utf8").catch(() => ""));
	return megabits > 0 ? megabits * 1e6 : USUAL_SPEED;
}

/** What is not available for new work; caches are. */
function memoryInUse(): number {
	const meminfo = text("/proc/meminfo");
	const of = (name: string) =>
		Number(new RegExp(`^${name}:\\s*(\\d+)`, "m").exec(meminfo)?.[1] ?? 0);
	const total = of("MemTotal");
	return share(total - of("MemAvailable"), total);
}

/** The file's text; nothing where the kernel has none. */
function text(file: string): string {
	try {
		return readFileSync(file, "utf8");
	} catch {
		return "";
	}
}

/** Part of a whole, 0 to 1, to two digits. */
function share(part: number, whole: number): number {
	if (!(whole > 0)) return 0;
	return Math.round(Math.min(1, Math.max(0, part / whole)) * 100) / 100;
}
