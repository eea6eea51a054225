import { setTimeout as sleep } from "node:timers/promises";
import type { Violation } from "./judge.ts";
import { type Container, type Picture, run, type Seen } from "./look.ts";

/** Seconds between two packets of a pair. */
const INTERVAL = "0.2";
const PING = ["ping", "-i", INTERVAL];

interface Pair {
	from: Container;
	to: Container;
	host: Seen;
}

/** 7: packets between running containers on different hosts, a few every second, of which none may be lost. */
export class Traffic {
	readonly #pairs: Pair[];
	readonly #said: Promise<string[]>;

	private constructor(pairs: Pair[]) {
		this.#pairs = pairs;
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
		return new Traffic(ring.filter((_, i) => reached[i]));
	}

	/** Stops sending. @returns who has lost what */
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
		return this.#pairs.flatMap(({ from, to }, i) => {
			const text = said[i] ?? "";
			const sent = Number(/(\d+) packets transmitted/.exec(text)?.[1] ?? 0);
			const came = [...text.matchAll(/seq=(\d+)/g)].map(([, seq]) => seq);
			const answered = new Set(came.map(Number));
			// the last one may be under way still
			const all = [...Array(Math.max(0, sent - 1)).keys()];
			const lost = all.filter((seq) => !answered.has(seq));
			if (sent > 0 && lost.length === 0) return [];
			return [
				`7: ${from.name} (${from.host}) lost packets ${lost} of ${sent} to ${to.name} (${to.host})`,
			];
		});
	}
}
