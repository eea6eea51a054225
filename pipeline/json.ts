const BACKSLASH = 92;
/** The start of a string, or an integer that may be too large for JavaScript, which counts in steps of more than one from 2^53 on. */
const STRING_OR_LARGE = /"|(?<![\d.])-?\d{16,}(?![\d.eE])/g;
/** The largest of 64 bits, with and without a sign, as JavaScript rounds them: up. */
const LIMITS: ReadonlySet<bigint> = new Set([2n ** 63n, 2n ** 64n]);

/** Whether a value that was read from JSON or YAML is an object: no list, and not null. */
export function isObject(value: unknown): value is Record<string, unknown> {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** @param from just after the opening quote of a string @returns where the closing one is, or the text's length if there is none */
export function endOfString(text: string, from: number): number {
	let at = text.indexOf('"', from);
	for (;;) {
		if (at < 0) return text.length;
		let slashes = 0;
		while (text.charCodeAt(at - 1 - slashes) === BACKSLASH) slashes++;
		if (slashes % 2 === 0) return at;
		at = text.indexOf('"', at + 1);
	}
}

/**
 * As JSON.stringify, for Docker: its integers have 64 bits (an unlimited ulimit is 9223372036854775807), and it takes none with an
 * exponent or beyond.
 * @param original what the value was parsed from: its integers stand as they stood there
 */
export function stringify(value: unknown, original = ""): string {
	const text = JSON.stringify(value);
	if (!/\d{16}/.test(text)) return text;
	const originals = new Map<number, string[]>();
	for (const { digits } of largeIn(original)) {
		const same = originals.get(Number(digits)) ?? [];
		originals.set(Number(digits), [...same, digits]);
	}
	let result = "";
	let from = 0;
	for (const { at, digits } of largeIn(text)) {
		const [first, ...others] = originals.get(Number(digits)) ?? [];
		if (others.length > 0) originals.set(Number(digits), others);
		result += text.slice(from, at) + (first ?? exact(Number(digits)));
		from = at + digits.length;
	}
	return result + text.slice(from);
}

/** What a number stands for whose last digits JSON.stringify has made up. */
function exact(number: number): string {
	const integer = BigInt(number);
	return `${LIMITS.has(integer) ? integer - 1n : integer}`;
}

/** The integers of a JSON text that JavaScript cannot hold, and where they stand. */
function* largeIn(text: string): Generator<{ at: number; digits: string }> {
	const pattern = new RegExp(STRING_OR_LARGE);
	for (let found = pattern.exec(text); found; found = pattern.exec(text)) {
		const [digits] = found;
		if (digits === '"') {
			pattern.lastIndex = endOfString(text, pattern.lastIndex) + 1;
		} else if (!Number.isSafeInteger(Number(digits))) {
			yield { at: found.index, digits };
		}
	}
}
