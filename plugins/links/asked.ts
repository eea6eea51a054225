import { HttpError } from "../../pipeline/errors.ts";
import { readLabels } from "../../pipeline/facts.ts";
import type {
	ConnectContext,
	CreateContext,
	Facts,
	Services,
} from "../../pipeline/plugin.ts";
import { type Alias, isAlias } from "../../pipeline/state/aliases.ts";

/** A name that a container asks for. */
export type Asked = Alias & { alias: string };

/** Docker's own links bind containers to one host: they go no further than here. */
export function takeLinks(
	from: { Links?: string[] | null } | null | undefined,
): string[] {
	const links = from?.Links ?? [];
	if (from) delete from.Links;
	return links;
}

/** What links ask for. @throws HttpError for a link that leaves the deployment or cannot be a name */
export async function linked(
	links: string[],
	deployment: string,
	container: string,
	services: Services,
): Promise<Asked[]> {
	const asked = [];
	const known = new Map<string, string>(); // Compose links thrice to each
	for (const link of new Set(links)) {
		const [target = "", given = target] = link.replace(/^\//, "").split(":");
		const alias = given.toLowerCase(); // as DNS has it
		const service =
			known.get(target) ?? (await serviceOf(target, deployment, services));
		known.set(target, service);
		if (isUsual(alias, service, target)) continue;
		if (!isAlias(alias)) {
			throw new HttpError(
				400,
				`links: "${given}" in link ${link} cannot be a name in DNS; use letters, digits, "-" and "_"`,
			);
		}
		asked.push({ alias, service, container });
	}
	return asked;
}

/**
 * The service of which a linked container is a copy.
 * @throws HttpError 400 if the deployment has no such container
 */
async function serviceOf(
	target: string,
	deployment: string,
	{ containers, locator }: Services,
): Promise<string> {
	const record = await containers.get(target); // first: a container_name may look like a copy's
	let found: Facts | undefined = record?.value.facts;
	if (!found) {
		for (const separator of ["_", "-"]) {
			const prefix = `${deployment}${separator}`;
			const number = /[_-]\d+$/.exec(target);
			if (target.startsWith(prefix) && number) {
				return target.slice(prefix.length, number.index);
			}
		}
		const container = (await locator.find(target))?.container;
		found = readLabels(container?.Config.Labels ?? null);
	}
	if (found.deployment === deployment && found.service) return found.service;
	throw new HttpError(
		400, // the docker CLI takes a 404 for a missing image, and pulls
		`links: there is no container ${target} in deployment ${deployment}; start it first, or give both the same deployment`,
	);
}

/** What a copy is called in one of its networks beside the names that every copy has. */
export function owned(
	names: readonly unknown[] | null | undefined,
	address: string,
	{ facts: { service }, recordName }: CreateContext | ConnectContext,
): Asked[] {
	if (!service) return []; // a one-off is in no DNS
	return (names ?? [])
		.filter((name) => typeof name === "string")
		.map((name) => name.toLowerCase()) // as DNS has it
		.filter((alias) => isAlias(alias) && !isUsual(alias, service, recordName))
		.filter((alias) => !SHORT_ID.test(alias)) // Compose 1 sends it when it connects
		.map((alias) => ({ alias, service, address, container: recordName }));
}

const SHORT_ID = /^[0-9a-f]{12}$/;

/** The hostname of a copy, which Docker has answered for since 20.10. */
export function hostname(
	name: unknown,
	address: string,
	context: CreateContext | ConnectContext,
): Asked[] {
	const asked = owned([name], address, context);
	return asked.map((each) => ({ ...each, hostname: true }));
}

/** Names that every copy has anyway: container, service, `service_1`. */
function isUsual(alias: string, service: string, target: string): boolean {
	if (isSame(alias, service) || isSame(alias, target)) return true;
	const [, stem = ""] = /^(.*)_\d+$/.exec(alias) ?? [];
	return isSame(stem, service);
}

/** Whether DNS tells two names apart. */
export function isSame(a: string, b: string): boolean {
	return a.toLowerCase() === b.toLowerCase();
}

/**
 * An alias as it stands in `facts.aliases`: `cache:redis`, or `pantry:db:10.32.1.7` for the copy at that address alone, with
 * `:hostname` where it is that.
 */
export function asText({ alias, service, address, hostname }: Asked): string {
	const parts = [alias, service, address, hostname && "hostname"];
	return parts.filter((part) => part !== undefined).join(":");
}

export function fromText(text: string, container: string): Asked {
	const [alias = "", service = "", address, hostname] = text.split(":");
	return {
		alias,
		service,
		container,
		...(address ? { address } : {}),
		...(hostname ? { hostname: true } : {}),
	};
}
