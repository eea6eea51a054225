import { endOfString } from "../../pipeline/json.ts";

/** One row of `GET /containers/json`, taken apart at the one place that changes by itself: `head` + status + `tail` is its text. */
export interface Row {
	/** Up to the opening quote of the value of `Status`. */
	head: string;
	status: string;
	/** From its closing quote. */
	tail: string;
}

const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const OPEN = [91, 123]; // [ {
const CLOSE = [93, 125]; // ] }

/**
 * The rows of the engine's answer as it wrote them: Go and JavaScript order and escape JSON differently, so
 * what is read and written again is not the same bytes.
 *
 * @param text a JSON array of objects
 */
export function rowsOf(text: string): Row[] {
	const rows: Row[] = [];
	let depth = 0;
	let start = 0;
	/** Where a string at the row's own level has begun and ended. */
	let from = 0;
	let to = 0;
	let isStatus = false;
	let value: { from: number; to: number } | undefined;
	for (let at = 0; at < text.length; at++) {
		const char = text.charCodeAt(at);
		if (char === QUOTE) {
			from = at + 1;
			at = endOfString(text, from);
			to = at;
			if (depth === 2 && isStatus) {
				value = { from, to };
				isStatus = false;
			}
		} else if (char === COLON) {
			isStatus = depth === 2 && text.slice(from, to) === "Status";
		} else if (OPEN.includes(char)) {
			if (++depth === 2) start = at;
		} else if (CLOSE.includes(char)) {
			if (--depth !== 1) continue;
			const { from: first, to: last } = value ?? { from: at, to: at };
			rows.push({
				head: text.slice(start, first),
				status: text.slice(first, last),
				tail: text.slice(last, at + 1),
			});
			value = undefined;
		} else if (char === COMMA) isStatus = false;
	}
	return rows;
}
