import { HttpError } from "./errors.ts";
import { endOfString } from "./json.ts";

/**
 * Docker's API is read by Go: it takes a key in upper and lower case alike, and what stands twice it may put together, where
 * JSON.parse has the last one alone. A label that hooks do not see must not count in Docker, so bodies are read here as
 * Go reads them, as far as their schema goes.
 */

/** The part of a JSON schema that tells Go's structs, whose keys are Docker's, from its maps, whose keys are the user's. */
export interface Shape {
	properties?: Record<string, Shape>;
	additionalProperties?: Shape;
	items?: Shape;
	type?: string | string[];
}

/** An object or a list of the text, from its opening bracket on. */
interface Frame {
	shape: Shape | undefined;
	/** Docker's keys that it has so far; undefined for a list. */
	seen: Set<string> | undefined;
	/** Its last key. */
	key: string;
	/** Whether the next string is a key. */
	atKey: boolean;
}

/** Go has such a limit, too, at 10,000, which is more than what is done with a body here can go down. */
const MAX_DEPTH = 1_000;
const TOKEN = /["{}[\],]/g;

/**
 * @param text JSON
 * @returns the first key of Docker's that stands twice in one object, in whatever spelling
 * @throws HttpError 400 for what is nested too deep
 */
export function repeatedKey(text: string, shape: Shape): string | undefined {
	const frames: Frame[] = [];
	const tokens = new RegExp(TOKEN);
	for (let found = tokens.exec(text); found; found = tokens.exec(text)) {
		const [token] = found;
		if (token === '"')
			tokens.lastIndex = endOfString(text, tokens.lastIndex) + 1;
		const frame = frames.at(-1);
		if (token === "{" || token === "[") {
			const isObject = token === "{";
			frames.push({
				shape: frame ? inside(frame) : shape,
				seen: isObject ? new Set() : undefined,
				key: "",
				atKey: isObject,
			});
			if (frames.length > MAX_DEPTH) {
				throw new HttpError(400, `a body is nested at most ${MAX_DEPTH} deep`);
			}
		} else if (token === "}" || token === "]") {
			frames.pop();
		} else if (token === ",") {
			if (frame) frame.atKey = frame.seen !== undefined;
		} else if (frame?.atKey) {
			frame.atKey = false;
			frame.key = JSON.parse(text.slice(found.index, tokens.lastIndex));
			const known = spelling(frame.key, frame.shape);
			if (known && frame.seen?.has(known)) return known;
			if (known) frame.seen?.add(known);
		}
	}
	return undefined;
}

/**
 * A body with its keys as Docker spells them.
 * @param kind what body it is
 * @returns undefined for what is no JSON: the engine says what is wrong with it
 */
export function readBody(
	text: string | null,
	kind: { schema: unknown },
): unknown {
	try {
		const body: unknown = JSON.parse(text ?? "");
		spell(body, kind.schema as Shape);
		return body;
	} catch {
		return undefined;
	}
}

/** Respells keys as Docker does, and turns null in string lists into "", as Go does; in place. */
export function spell(value: unknown, shape: Shape | undefined): void {
	if (!shape || typeof value !== "object" || value === null) return;
	if (Array.isArray(value)) {
		const ofTexts = shape.items?.type?.includes("string");
		for (const [i, each] of value.entries()) {
			if (ofTexts && each === null) value[i] = "";
			spell(each, shape.items);
		}
		return;
	}
	const object = value as Record<string, unknown>;
	for (const key of Object.keys(object)) {
		const known = spelling(key, shape) ?? key;
		if (known !== key) {
			object[known] = object[key];
			delete object[key];
		}
		spell(
			object[known],
			shape.properties?.[known] ?? shape.additionalProperties,
		);
	}
}

function inside({ shape, seen, key }: Frame): Shape | undefined {
	if (!seen) return shape?.items;
	const known = spelling(key, shape);
	return known ? shape?.properties?.[known] : shape?.additionalProperties;
}

/** Docker's key that Go takes one for. */
function spelling(key: string, shape: Shape | undefined): string | undefined {
	const { properties = {} } = shape ?? {};
	if (Object.hasOwn(properties, key)) return key;
	const folded = fold(key);
	return Object.keys(properties).find((each) => fold(each) === folded);
}

/** A key as Go compares it: both ways, since it takes ſ for s and the Kelvin sign for k. */
export function fold(key: string): string {
	return key.toUpperCase().toLowerCase();
}

/** What an engine takes for true in a query: moby, api/server/httputils, BoolValue. */
export function isTrue(value: string | null): boolean {
	return !/^(|0|no|false|none)$/i.test((value ?? "").trim());
}
