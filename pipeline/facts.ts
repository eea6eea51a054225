import type { ContainerCreate, ContainerInspect } from "./docker.ts";
import { HttpError } from "./errors.ts";
import type { Facts } from "./plugin.ts";

/**
 * Facts are kept as labels on the container (`arpanet.deployment=abc`), so that whoever sees the
 * container knows them. A label that the client sent under the same prefix is removed
 * unless it is one of those that are the user's to say.
 */
export const LABEL_PREFIX = "arpanet.";

/** Labels that are the user's: what he asks for, not what we decided. */
const USER_LABELS = new Set([
	"deployment",
	"service",
	"size",
	"enabled",
	"exclusive",
	"expose",
	"reschedule",
]);

/** A label as YAML means it: docker-compose 1.29 makes `True` of an unquoted `true`. */
export function lowerCase(label: string | undefined): string | undefined {
	return label?.toLowerCase();
}

/** Whether the user says that a container or network is none of arpanet's. */
export function isDisabled(
	labels: Record<string, string> | null | undefined,
): boolean {
	return lowerCase(labels?.[`${LABEL_PREFIX}enabled`]) === "false";
}

/**
 * When the user wants a container to be started elsewhere, if ever.
 * @throws HttpError 400 for anything but what there is
 */
export function rescheduleAsked(
	labels: Record<string, string> | undefined,
): Facts["reschedule"] {
	const asked = labels?.["arpanet.reschedule"];
	if (asked === undefined || asked === "on-host-failure") return asked;
	throw new HttpError(
		400,
		`label arpanet.reschedule=${asked} is not known; use on-host-failure, or leave it out`,
	);
}

/** Labels without the `arpanet.*` ones that only we may write. */
export function withoutOurs(
	labels: Record<string, string>,
): Record<string, string> {
	// who copies what inspect says brings a service that was but the container's name
	const isNamed = readLabels(labels).serviceFrom === "name";
	return Object.fromEntries(
		Object.entries(labels).filter(([label]) => {
			if (!label.startsWith(LABEL_PREFIX)) return true;
			const name = label.slice(LABEL_PREFIX.length);
			return USER_LABELS.has(name) && !(isNamed && name === "service");
		}),
	);
}

/** The body of a create without the labels that only we may write; undefined if it has none of them. */
export function withoutForged<T extends object>(body: T): T | undefined {
	const { Labels } = body as { Labels?: Record<string, string> };
	if (typeof Labels !== "object" || Labels === null) return undefined;
	const kept = withoutOurs(Labels);
	const same = Object.keys(kept).length === Object.keys(Labels).length;
	return same ? undefined : { ...body, Labels: kept };
}

/**
 * The label that names a container's own facts. An image brings more labels, of the container that it was committed from,
 * and Docker adds those to what the create says.
 */
const FACTS = `${LABEL_PREFIX}facts`;

/** Writes facts onto a create body: numbers and strings as they are, lists joined by commas. */
export function writeLabels(body: ContainerCreate, facts: Facts): void {
	const labels = { ...body.Labels };
	const known = Object.entries(facts).filter(
		([, value]) => value !== undefined,
	);
	labels[FACTS] = known.map(([name]) => name).join(",");
	for (const [name, value] of known)
		labels[LABEL_PREFIX + name] = String(value);
	body.Labels = labels;
}

/** Facts that are numbers; all others are strings once they were labels. */
const NUMBERS = new Set(["index", "slot"]);

/** Reads the facts back from a container's labels. */
export function readLabels(labels: Record<string, string> | null): Facts {
	const facts: Record<string, unknown> = {};
	const own = labels?.[FACTS]?.split(",");
	for (const [label, value] of Object.entries(labels ?? {})) {
		if (!label.startsWith(LABEL_PREFIX) || label === FACTS) continue;
		const name = label.slice(LABEL_PREFIX.length);
		if (own && !own.includes(name)) continue;
		facts[name] = NUMBERS.has(name) ? Number(value) : value;
	}
	return facts as Facts;
}

/** Whether a container went through the chain. */
export function isOurs({ Config }: ContainerInspect): boolean {
	return Boolean(Config.Labels?.[`${LABEL_PREFIX}host`]);
}

/** Whether a text can be one label of a DNS name as RFC 1123 says for hosts, in small letters: a deployment's id, a host's name. */
export function isDnsLabel(text: string): boolean {
	return /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text);
}
