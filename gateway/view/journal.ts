import type { EngineEvent } from "../../pipeline/docker.ts";
import { type EngineAnswer, messageIn } from "../../pipeline/engine.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { ask } from "../question.ts";
import type { EnginePool } from "../upstream.ts";

/** What has happened in an engine since the last look. */
export interface News {
	events: EngineEvent[];
	/** Nothing is missing between the last look and these: false for the first look, and where the engine has forgotten. */
	unbroken: boolean;
	/** The engine's answer, for its head. */
	answer: EngineAnswer;
}

/**
 * An engine's own record of what has happened, read on from where it was left.
 *
 * An engine keeps its last 256 events, and writes an event down before it answers the request that caused it.
 * `GET /events?until=0` returns at once with those that it keeps, up to this very moment: an `until` of zero is long past, so
 * that nothing is waited for, and none for the search (moby, daemon/events/events.go: `untilNanoUnix > 0 && …`). So whatever was answered
 * before the question was asked, to whomever and through whatever gateway, is in the answer. It is proven to be all by the last
 * event of the look before, which must be in it again: an engine that was started anew or has forgotten that far does not have it.
 *
 * `since` only keeps the answer short. The engine wants it before `until`, so it is told the same moment 2^64 nanoseconds
 * earlier, which is the same number in the 64 bits that it compares; one that would calculate otherwise returned all 256.
 */
export class Journal {
	readonly #pool: EnginePool;
	readonly #apply: (news: News) => void;
	/** The last event that is known, as the engine wrote it; undefined while none has been seen. */
	#last: string | undefined;
	#read = false;
	/** Looks that have not begun yet, by the API version they ask in: all who come meanwhile share them. */
	readonly #next = new Map<string, Promise<News>>();
	#current: Promise<unknown> = Promise.resolve();

	/** @param apply is told what has happened before a later look begins */
	constructor(pool: EnginePool, apply: (news: News) => void) {
		this.#pool = pool;
		this.#apply = apply;
	}

	/**
	 * What has happened since the last look, up to a moment after this call.
	 *
	 * @param version `/v1.41`, or nothing: the engine itself says whether it takes it
	 * @throws HttpError of the engine
	 */
	read(version: string): Promise<News> {
		const waiting = this.#next.get(version);
		if (waiting) return waiting;
		const look = this.#current
			.catch(() => {})
			.then(async () => {
				this.#next.delete(version);
				const news = await this.#look(version);
				this.#apply(news);
				return news;
			});
		this.#next.set(version, look);
		this.#current = look;
		return look;
	}

	async #look(version: string): Promise<News> {
		const last = this.#last;
		let answer = await this.#ask(version, last ? sameMoment(last) : "0");
		let lines = linesOf(answer);
		let at = last === undefined ? -1 : lines.lastIndexOf(last);
		if (last !== undefined && at < 0) {
			// events are not quite in the order of their times, and the search ends at the first that is older
			answer = await this.#ask(version, "0");
			lines = linesOf(answer);
			at = lines.lastIndexOf(last);
		}
		// without a last event, none had ever happened: then all that is kept is new, unless some is forgotten already
		const unbroken =
			this.#read && (last === undefined ? lines.length < KEPT : at >= 0);
		this.#read = true;
		this.#last = lines.at(-1);
		const events = lines
			.slice(at + 1)
			.map((line) => JSON.parse(line) as EngineEvent);
		return { events, unbroken, answer };
	}

	async #ask(version: string, since: string): Promise<EngineAnswer> {
		const path = `${version}/events?since=${since}&until=0`;
		const answer = await ask(this.#pool, path, LIMIT_MS);
		if (answer.status !== 200) {
			throw new HttpError(answer.status, messageIn(answer));
		}
		return answer;
	}
}

/** A look is waited for by all that come after it, and what it was asked may be lost with a host's connection. */
const LIMIT_MS = 10_000;
/** Events that an engine keeps. */
const KEPT = 256;
const SECOND = 1_000_000_000n;

/** An event's time for `since`, 2^64 nanoseconds early. */
function sameMoment(event: string): string {
	// read from the text: as a number it has lost its last digits
	const nano = /"timeNano":(\d+)\}$/.exec(event)?.[1];
	if (nano === undefined) return "0";
	const early = BigInt.asIntN(64, BigInt(nano)) - (1n << 64n);
	const part = ((early % SECOND) + SECOND) % SECOND;
	return `${(early - part) / SECOND}.${String(part).padStart(9, "0")}`;
}

function linesOf({ text }: EngineAnswer): string[] {
	return text.split("\n").filter(Boolean);
}
