import type { Violation } from "./checker/judge.ts";
import type { Picture } from "./checker/look.ts";

/** What a client may rely on once its request was answered. */
export type State = "running" | "stopped" | "gone";

interface Entry {
	/** Requests under way. */
	busy: number;
	/** Several were under way at once: who was last, no client knows. */
	mixed: boolean;
	/** A request failed, or had no answer: it may still be done, at any time. */
	unsure: boolean;
	state: State | undefined;
}

/** What clients were told of each name, by the last answer that they had. */
export class Ledger {
	readonly #entries = new Map<string, Entry>();

	/**
	 * Sends a request about a name, and notes what its answer says.
	 * @param after how it is when the request succeeds
	 * @returns the status of the answer
	 */
	async note(
		name: string,
		after: State,
		request: () => Promise<{ status: number }>,
	): Promise<number> {
		const entry = this.#entry(name);
		entry.busy++;
		entry.mixed ||= entry.busy > 1;
		entry.state = undefined;
		try {
			const { status } = await request();
			if (status >= 500) entry.unsure = true;
			if (!entry.mixed) entry.state = told(status, after);
			return status;
		} catch (error) {
			entry.unsure = true;
			throw error;
		} finally {
			entry.busy--;
			entry.mixed &&= entry.busy > 0;
		}
	}

	/** 7: what was answered stays so. */
	wrong({ containers }: Picture): Violation[] {
		return [...this.#entries].flatMap(([name, { state, unsure }]) => {
			if (!state || unsure) return [];
			const found = containers.find((each) => each.name === name);
			const now = found ? (found.running ? "running" : "stopped") : "gone";
			if (now === state) return [];
			return [`7: ${name} was ${state} by the last answer, and is ${now}`];
		});
	}

	#entry(name: string): Entry {
		const known = this.#entries.get(name);
		if (known) return known;
		const entry = { busy: 0, mixed: false, unsure: false, state: undefined };
		this.#entries.set(name, entry);
		return entry;
	}
}

/** 304: it was so before. */
function told(status: number, after: State): State | undefined {
	if (status < 300 || status === 304) return after;
	return status === 404 ? "gone" : undefined;
}
