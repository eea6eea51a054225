import { HttpError } from "../../pipeline/errors.ts";
import { readLabels } from "../../pipeline/facts.ts";
import type {
	ConnectContext,
	CreateContext,
	Services,
} from "../../pipeline/plugin.ts";
import { type Alias, asCalled, isAlias } from "../../pipeline/state/aliases.ts";

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
	const known = new Map<string, string | undefined>(); // Compose links thrice to each
	for (const link of new Set(links)) {
		const [target = "", given = target] = link.replace(/^\//, "").split(":");
		const alias = given.toLowerCase(); // as DNS has it
		if (!known.has(target)) {
			known.set(target, await serviceOf(target, deployment, services));
		}
		const service = known.get(target);
		if (service === undefined) {
			if (isSame(alias, target)) continue; // Compose's external_links: it is found so in a network of both
			throw new HttpError(
				400,
				`links: ${target} is not in deployment ${deployment}, where ${given} would be its name; in a network of both it is found as ${target}, and by an alias of its own there`,
			);
		}
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
 * The service of which a linked container is a copy; undefined for one outside of the deployment.
 * @throws HttpError 400 if there is no such container, or it is a one-off
 */
async function serviceOf(
	target: string,
	deployment: string,
	{ containers, locator }: Services,
): Promise<string | undefined> {
	const record = await containers.get(target); // first: a container_name may look like a copy's
	let found = record && asCalled(record.value.facts, target);
	if (!found) {
		for (const separator of ["_", "-"]) {
			const prefix = `${deployment}${separator}`;
			const number = /[_-]\d+$/.exec(target);
			if (target.startsWith(prefix) && number) {
				return target.slice(prefix.length, number.index);
			}
		}
		const container = (await locator.find(target))?.container;
		found =
			container &&
			asCalled(readLabels(container.Config.Labels), container.Name.slice(1));
	}
	if (found && found.deployment !== deployment) return undefined;
	if (found?.service) return found.service;
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
