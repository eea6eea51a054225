/** One line of `arpanet check`. */
export interface Finding {
	level: "ok" | "warn" | "fail";
	/** What was looked at, and what was seen: `engine: Docker 20.10.24 answers`. */
	what: string;
	/** What to do about it. */
	remedy?: string;
}

export function ok(what: string): Finding {
	return { level: "ok", what };
}

/** Something that works, yet not as well as it should. */
export function warn(what: string, remedy: string): Finding {
	return { level: "warn", what, remedy };
}

/** Something without which arpanet does not work. */
export function fail(what: string, remedy: string): Finding {
	return { level: "fail", what, remedy };
}

/** Milliseconds that a part may take to answer. */
export const ANSWER_MS = 3_000;
