import { setTimeout as sleep } from "node:timers/promises";
import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** Seconds between two packets of a pair. */
const INTERVAL = "0.2";
const PING = ["ping", "-i", INTERVAL];
/** More packets each second than all that is asked of a container here: they go round in a loop. */
const STORM = 2_000;

interface Pair {
	from: Container;
	to: Container;
	host: Seen;
}

/**
 * Packets between running containers on different hosts, a few every second. 7: none may be lost; 4: who sends them is not
 * flooded by what goes round in a loop.
 */
export class Traffic {
	readonly #pairs: Pair[];
	readonly #said: Promise<string[]>;
	readonly #begun = performance.now();
	/** How many packets each had got when it began. */
	readonly #before: (number | undefined)[];

	private constructor(pairs: Pair[], before: (number | undefined)[]) {
		this.#pairs = pairs;
		this.#before = before;
		const pings = pairs.map(({ from, to, host }) =>
			run(host, from.id, [...PING, to.address]),
		);
		this.#said = Promise.all(pings).then((all) => all.map(({ said }) => said));
		this.#said.catch(() => {}); // told at the end
	}

	/**
	 * Begins to send.
	 * @param service whose copies send to each other, in a ring; those that do not reach each other now are left out
	 */
	static async watch(
		hosts: readonly Seen[],
		{ containers }: Picture,
		service: string,
	): Promise<Traffic> {
		const copies = containers.filter(
			(each) => each.service === service && each.running,
		);
		const ring = copies.map((from, i): Pair => {
			const to = copies[(i + 1) % copies.length] as Container;
			const host = hosts.find(({ name }) => name === from.host) as Seen;
			return { from, to, host };
		});
		const reached = await Promise.all(
			ring.map(async ({ from, to, host }) => {
				const once = ["ping", "-c", "1", "-W", "1", to.address];
				return (await run(host, from.id, once)).code === 0;
			}),
		);
		const pairs = ring.filter((_, i) => reached[i]);
		return new Traffic(pairs, await Promise.all(pairs.map(received)));
	}

	/** Stops sending. @returns who has lost what, and who was flooded */
	async end(): Promise<Violation[]> {
		let said: string[] | undefined;
		while (!said) {
			await Promise.all(
				this.#pairs.map(({ from, host }) =>
					run(host, from.id, ["killall", "-INT", "ping"]),
				),
			);
			// an engine that was busy may only now begin with one
			said = await Promise.race([this.#said, sleep(1_000, undefined)]);
		}
		const flooded = await this.#flooded();
		const lost = this.#pairs.flatMap(({ from, to }, i) => {
			const text = said[i] ?? "";
			const sent = Number(/(\d+) packets transmitted/.exec(text)?.[1] ?? 0);
			const came = [...text.matchAll(/seq=(\d+)/g)].map(([, seq]) => seq);
			const answered = new Set(came.map(Number));
			// the last one may be under way still
			const all = [...Array(Math.max(0, sent - 1)).keys()];
			const missing = all.filter((seq) => !answered.has(seq));
			if (sent > 0 && missing.length === 0) return [];
			return [
				`7: ${from.name} (${from.host}) lost packets ${missing} of ${sent} to ${to.name} (${to.host})`,
			];
		});
		return [...flooded, ...lost];
	}

	async #flooded(): Promise<Violation[]> {
		const seconds = (performance.now() - this.#begun) / 1000;
		const after = await Promise.all(this.#pairs.map(received));
		return this.#pairs.flatMap(({ from }, i) => {
			const packets = (after[i] ?? 0) - (this.#before[i] ?? 0);
			const counted = this.#before[i] !== undefined;
			if (!counted || packets < STORM * seconds) return [];
			return [
				`4: ${from.name} (${from.host}) got ${packets} packets in ${Math.round(seconds)} s`,
			];
		});
	}
}

/** How many packets a container has got since it was started; undefined when its engine does not say. */
async function received({ from, host }: Pair): Promise<number | undefined> {
	const path = "/sys/class/net/eth0/statistics/rx_packets";
	const answer = run(host, from.id, ["cat", path]);
	const { code, said } = await answer.catch(() => ({ code: 1, said: "" }));
	return code === 0 ? Number(said.trim()) : undefined;
}
