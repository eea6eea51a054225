import { lowerCase } from "../../pipeline/facts.ts";
import { EXCLUSIVE } from "../../pipeline/state/containers.ts";
import { holders, type PartMaker, type Wanting } from "./part.ts";

const LABEL = "arpanet.exclusive";

/** Label `arpanet.exclusive=true`: never two copies of the service on one host. Without it they only avoid each other. */
export const exclusive: PartMaker = (_, { cluster, store }) => ({
	async place(context) {
		if (!isExclusive(context) || cluster.alone) return undefined;

		const { deployment, service } = context.facts;
		const known = await holders(context, EXCLUSIVE, store);
		return {
			filter({ name, use }) {
				const taken =
					use.copies(deployment, service) > 0 ||
					known.has(keyOf(context, name));
				return taken
					? `a copy of ${service} is there, and ${LABEL} keeps copies apart`
					: undefined;
			},
		};
	},
	keys: (container, host) =>
		isExclusive(container) && !cluster.alone ? [keyOf(container, host)] : [],
});

function isExclusive({ body, facts }: Wanting): boolean {
	return Boolean(
		facts.deployment &&
			facts.service &&
			lowerCase(body.Labels?.[LABEL]) === "true",
	);
}

function keyOf(
	{ facts: { deployment, service } }: Pick<Wanting, "facts">,
	host: string,
): string {
	return `${EXCLUSIVE}${deployment}.${service}/${host}`;
}
