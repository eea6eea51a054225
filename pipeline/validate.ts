import { isIPv4 } from "node:net";
import { Ajv, type ErrorObject } from "ajv";
import { Netmask } from "netmask";
import { isDnsLabel } from "./facts.ts";
import { overlap } from "./state/subnets.ts";
import { isLoopback, tcpAddress } from "./tls.ts";

/** A configuration that cannot be used. The message says file, line, what is wrong and the remedy. */
export class ConfigError extends Error {
	override name = "ConfigError";
}

/** Keys whose values no message shows. */
const SECRET = /token|secret|password/i;

/** What a schema's types are to someone who writes YAML. */
const KINDS: Record<string, string> = {
	string: "a text",
	integer: "a whole number",
	number: "a number",
	boolean: "true or false",
	array: "a list",
	object: 'keys with values ("key: value")',
	null: "nothing",
};

/** Formats that a schema may name, each with what to write. */
const FORMATS: Record<
	string,
	{ test: (text: string) => boolean; remedy: string }
> = {
	subnet: {
		test: isSubnet,
		remedy: "is no subnet; write one such as 10.32.0.0/12",
	},
	pool: {
		test: isPool,
		remedy:
			"is no subnet whose addresses containers can have; write one such as 10.32.0.0/12",
	},
	domain: {
		test: (text) => /^[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?$/i.test(text),
		remedy: "is no domain; write one such as service.consul",
	},
	"dns-label": {
		test: isDnsLabel,
		remedy: 'is no DNS label; write 1 to 63 of a-z, 0-9 and "-", such as node1',
	},
	ipv4: {
		test: isIPv4,
		remedy: "is no IPv4 address; write this host's own, such as 10.0.0.1",
	},
	tcp: {
		test: (text) => tcpAddress(text) !== undefined,
		remedy: "is no TCP address; write one such as tcp://127.0.0.1:2378",
	},
	"tcp-for-others": {
		test: isForOthers,
		remedy:
			"is no TCP address at which other hosts reach this one; write its own, such as tcp://10.0.0.1:2377",
	},
	folder: {
		test: (text) => text.startsWith("/"),
		remedy: "is no absolute path; write one such as /run/arpanet",
	},
};

/**
 * Checks a value against a JSON schema and applies its defaults in place.
 * @param where gives `file:line` of a path into the value
 * @throws ConfigError naming the key and what it may be
 */
export function validate(
	schema: object,
	value: unknown,
	where: (path: string[]) => string,
): void {
	const check = new Ajv({
		useDefaults: true,
		allowUnionTypes: true,
		verbose: true,
		formats: Object.fromEntries(
			Object.entries(FORMATS).map(([name, { test }]) => [name, test]),
		),
	}).compile(schema);
	if (check(value)) return;
	const error = check.errors?.[0] as ErrorObject;
	const path = error.instancePath.split("/").slice(1).map(unescapePointer);
	const extra = error.params.additionalProperty as string | undefined;
	const at = where(extra ? [...path, extra] : path);
	const name = path.join(".") || "the file";
	throw new ConfigError(`${at}: ${explain(error, name, extra)}`);
}

function explain(
	error: ErrorObject,
	name: string,
	extra: string | undefined,
): string {
	const shown = SECRET.test(name) ? "something else" : inShort(error.data);
	switch (error.keyword) {
		case "additionalProperties": {
			const known = knownKeys(error).join(", ");
			return `unknown key "${extra}" in ${name}${known ? ` (known: ${known})` : ""}; remove it`;
		}
		case "required":
			return `${name} lacks "${error.params.missingProperty}"; add it`;
		case "dependencies":
			return `${name} has "${error.params.property}" and lacks "${error.params.missingProperty}"; add it`;
		case "minProperties":
			return `${name} needs ${knownKeys(error).map(quoted).join(" or ") || "a key"}`;
		case "format":
			return `${name} ("${error.data}") ${FORMATS[error.params.format as string]?.remedy}`;
		case "enum":
			return `${name} is ${shown}; write one of ${(error.params.allowedValues as unknown[]).join(", ")}`;
		case "const":
			return `${name} is ${shown}; write ${JSON.stringify(error.params.allowedValue)}`;
		case "type": {
			const types = [error.params.type].flat() as string[];
			const wanted = types.map((type) => KINDS[type] ?? type).join(" or ");
			return `${name} is ${shown}; write ${wanted}`;
		}
		default:
			return `${name} (${shown}) ${error.message}; correct it`;
	}
}

/** What may stand where something else does, or nothing. */
function knownKeys({ parentSchema }: ErrorObject): string[] {
	const { properties = {} } = (parentSchema ?? {}) as { properties?: object };
	return Object.keys(properties);
}

function quoted(key: string): string {
	return `"${key}"`;
}

function inShort(value: unknown): string {
	const text = JSON.stringify(value) ?? String(value);
	return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

/** At 0.0.0.0, as at 127.0.0.1, whoever dials reaches himself. */
function isForOthers(text: string): boolean {
	const { host } = tcpAddress(text) ?? {};
	return !!host && !/^[0.:]+$/.test(host) && !isLoopback(text);
}

function isSubnet(text: string): boolean {
	if (!/^\d+\.\d+\.\d+\.\d+\/\d+$/.test(text)) return false;
	try {
		new Netmask(text);
		return true;
	} catch {
		return false;
	}
}

/** "This" network, loopback, link-local, multicast and what is reserved (RFC 6890). */
const NOBODYS = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"];

function isPool(text: string): boolean {
	return (
		isSubnet(text) &&
		!NOBODYS.some((each) => overlap(new Netmask(each), new Netmask(text)))
	);
}

function unescapePointer(part: string): string {
	return part.replaceAll("~1", "/").replaceAll("~0", "~");
}
