import type { ContainerCreate } from "../../pipeline/docker.ts";
import { HttpError, messageOf } from "../../pipeline/errors.ts";
import { compile, quote } from "../../pipeline/patterns.ts";

/** `node!=~h*` taken apart. */
export interface Expression {
	/** `node`, `container`, `image`, or a label. */
	key: string;
	operator: "==" | "!=";
	/** A wish (`~`) rather than a rule. */
	soft: boolean;
	/** As the user wrote it, without `constraint:`. */
	text: string;
	/** Whether any of these meets the value: a glob with `*`, or `/a regular expression/`. */
	matches(values: readonly string[]): boolean;
}

export type Kind = "constraint" | "affinity";

/** Where Swarm keeps them, as a JSON list of expressions. */
const SWARM_LABELS: Record<Kind, string> = {
	constraint: "com.docker.swarm.constraints",
	affinity: "com.docker.swarm.affinities",
};

const FORM = /^([^=!]+)(==|!=)(~?)(.+)$/s;
/** What Swarm takes for a key. */
const KEY = /^[a-z_][a-z0-9\-_.]+$/i;

/**
 * The expressions of a create body: from its environment (`constraint:node==h1`), from labels of that form, and from
 * Swarm's own label (`com.docker.swarm.constraints=["node==h1"]`).
 * @throws HttpError 400 for one that cannot be read
 */
export function expressions(kind: Kind, body: ContainerCreate): Expression[] {
	return [...new Set([...inEnv(kind, body), ...inLabels(kind, body)])].map(
		(text) => parse(kind, text),
	);
}

/**
 * Takes the expressions out of the environment, as Swarm does: they are not the container's. Its label keeps them.
 */
export function moveToLabels(body: ContainerCreate): void {
	for (const kind of ["constraint", "affinity"] as const) {
		const found = inEnv(kind, body);
		if (found.length === 0) continue;
		const label = SWARM_LABELS[kind];
		const all = new Set([...fromJson(kind, body.Labels?.[label]), ...found]);
		body.Labels = { ...body.Labels, [label]: JSON.stringify([...all]) };
		body.Env = (body.Env ?? []).filter((pair) => !pair.startsWith(`${kind}:`));
	}
}

/**
 * Reads one expression.
 * @param text `node==h1`
 * @throws HttpError 400 naming what is wrong with it
 */
export function parse(kind: Kind, text: string): Expression {
	const [, key = "", operator, soft, value = ""] = FORM.exec(text) ?? [];
	if (!operator) {
		throw wrong(kind, text, `write ${kind}:key==value or ${kind}:key!=value`);
	}
	if (!KEY.test(key)) {
		throw wrong(kind, text, `"${key}" is no key; use letters, digits, _ - .`);
	}
	const pattern = patternOf(kind, text, value);
	return {
		key,
		operator: operator as Expression["operator"],
		soft: soft === "~",
		text,
		matches: (values) => values.some((each) => pattern.test(each)),
	};
}

/** Whether an expression holds where these are the values of its key. */
export function holds(
	{ operator, matches }: Expression,
	values: readonly string[],
): boolean {
	return matches(values) === (operator === "==");
}

/** What a label says; one that is not there is empty, as in Swarm: `disk!=ssd` is met there. */
export function labelOf(
	labels: Record<string, string> | undefined,
	key: string,
): string {
	return labels && Object.hasOwn(labels, key) ? (labels[key] ?? "") : "";
}

/** A glob, or between slashes a regular expression of Go's, as Swarm has them. */
function patternOf(kind: Kind, text: string, value: string) {
	const [, source] = /^\/(.*)\/$/s.exec(value) ?? [];
	const glob = () =>
		value
			.split("*")
			.map((part) => quote(part))
			.join(".*");
	try {
		return compile(source ?? `(?s)^${glob()}$`);
	} catch (error) {
		throw wrong(kind, text, messageOf(error));
	}
}

function inEnv(kind: Kind, { Env }: ContainerCreate): string[] {
	const prefix = `${kind}:`;
	return (Env ?? [])
		.filter((pair) => pair.startsWith(prefix))
		.map((pair) => pair.slice(prefix.length));
}

function inLabels(kind: Kind, { Labels }: ContainerCreate): string[] {
	const prefix = `${kind}:`;
	const plain = Object.entries(Labels ?? {})
		.filter(([key]) => key.startsWith(prefix))
		// Compose takes "constraint:node==h1" apart at its first =
		.map(([key, value]) => `${key.slice(prefix.length)}=${value}`);
	return [...plain, ...fromJson(kind, Labels?.[SWARM_LABELS[kind]])];
}

function fromJson(kind: Kind, label: string | undefined): string[] {
	if (!label) return [];
	let list: unknown;
	try {
		list = JSON.parse(label);
	} catch {
		list = undefined;
	}
	if (
		Array.isArray(list) &&
		list.every((each): each is string => typeof each === "string")
	) {
		return list;
	}
	throw wrong(
		kind,
		label,
		`label ${SWARM_LABELS[kind]} is a JSON list such as ["node==h1"]`,
	);
}

function wrong(kind: Kind, text: string, why: string): HttpError {
	return new HttpError(400, `placement: ${kind} "${text}": ${why}`);
}
