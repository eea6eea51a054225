import { HttpError } from "../../pipeline/errors.ts";
import type { Facts, Services } from "../../pipeline/plugin.ts";
import type { Alias, NamedAlias } from "../../pipeline/state/aliases.ts";
import { withoutId } from "../../pipeline/state/successors.ts";
import { type Asked, isSame } from "./asked.ts";

/**
 * Sees to it that no link's alias has the name of a new container's service.
 * @throws HttpError 409 if one has
 */
export function mustBeFree(
	{ deployment = "", service = "" }: Facts,
	known: NamedAlias[],
): void {
	const other = known.find(
		(each) =>
			isSame(each.alias, service) && each.service !== service && !each.address,
	);
	if (other) throw secondMeaning(service, service, deployment, other);
}

/**
 * Sees to it that no alias of a link has the name of another service. One that is known has been looked at when it was first asked for.
 * @throws HttpError 409 if one has
 */
export async function mustBeNoService(
	asked: Asked[],
	known: NamedAlias[],
	{ deployment, service: own }: Facts,
	{ containers }: Services,
): Promise<void> {
	const isKnown = ({ alias, service }: Asked) =>
		known.some(
			(each) =>
				!each.address && each.alias === alias && each.service === service,
		);
	const fresh = asked.filter((each) => !each.address && !isKnown(each));
	if (fresh.length === 0) return;
	const named = new Set([own?.toLowerCase()]);
	for (const { value } of await containers.list()) {
		const { service } = value.facts;
		if (value.facts.deployment === deployment)
			named.add(service?.toLowerCase());
	}
	const taken = fresh.find(({ alias }) => named.has(alias));
	if (!taken) return;
	throw new HttpError(
		409,
		`links: in deployment ${deployment} the name ${taken.alias} is that of service ${taken.alias}, not ${taken.service}; use another alias`,
	);
}

/** DNS has one meaning for a name. @throws HttpError 409 if it stands for another service of the deployment */
export function mustMeanOne(
	asked: Asked,
	deployment: string,
	known: NamedAlias[],
): void {
	const other = clashing(asked, known);
	const own = isNameless(asked) ? "this container" : asked.service;
	if (other) throw secondMeaning(asked.alias, own, deployment, other);
}

/** An alias with which this one would have two meanings: a link's stands for one service. Network aliases may be shared. */
export function clashing(
	{ alias, service, address, container }: Asked,
	known: NamedAlias[],
): NamedAlias | undefined {
	return known.find(
		(each) =>
			isSame(each.alias, alias) &&
			!each.hostname &&
			each.service !== service &&
			withoutId(each.container) !== withoutId(container) && // the one that this one replaces
			!(each.address && address),
	);
}

/** A hostname that is a link's alias stays that. */
export function unclaimed(hostnames: Asked[], known: NamedAlias[]): Asked[] {
	return hostnames.filter((each) => !clashing(each, known));
}

function secondMeaning(
	alias: string,
	own: string,
	deployment: string,
	other: NamedAlias,
): HttpError {
	const meaning = isNameless(other)
		? "a container that was made without a name (a network alias)"
		: `service ${other.service} (${other.address ? "an alias" : "a link"} of ${other.container})`;
	return new HttpError(
		409,
		`links: in deployment ${deployment} the name ${alias} already means ${meaning}, not ${own}; use another alias`,
	);
}

/** Whether an alias is of a container that was known by its request alone: nobody knows it by that. */
function isNameless({ service, container }: Alias): boolean {
	return container === `.${service}`;
}
