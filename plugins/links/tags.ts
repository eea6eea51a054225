import type { Services } from "../../pipeline/plugin.ts";
import { type CatalogRow, copiesOf } from "../../pipeline/state/catalog.ts";
import {
	Conflict,
	commitOverflow,
	type Operation,
} from "../../pipeline/state/operations.ts";

/** How often another may be faster before that is an error. */
const MAX_TRIES = 20;

/** The operations that add aliases to the copies of a service that are registered, one for each: two of one would lose against each other. */
export async function tag(
	deployment: string,
	service: string,
	all: string[],
	services: Services,
): Promise<Operation[]> {
	const copies = await registered(deployment, service, services);
	return copies.flatMap((copy) => {
		const missing = all.filter((alias) => !copy.ServiceTags.includes(alias));
		return missing.length > 0
			? [retagged(copy, [...copy.ServiceTags, ...missing])]
			: [];
	});
}

/** Takes an alias from the copies of a service that are registered. */
export async function untag(
	deployment: string,
	service: string,
	alias: string,
	services: Services,
): Promise<void> {
	for (let tries = 0; ; tries++) {
		const copies = await registered(deployment, service, services);
		const operations = copies
			.filter(({ ServiceTags }) => ServiceTags.includes(alias))
			.map((copy) => {
				const tags = copy.ServiceTags.filter((each) => each !== alias);
				return retagged(copy, tags);
			});
		try {
			const rest = await commitOverflow(services.store, operations);
			if (rest.length > 0) await services.store.commit(rest);
			return;
		} catch (error) {
			if (!(error instanceof Conflict) || tries === MAX_TRIES) throw error;
		}
	}
}

/** The DNS forms of a service's copies, in all networks of the deployment and those for all. */
async function registered(
	deployment: string,
	service: string,
	{ store, networks }: Services,
): Promise<CatalogRow[]> {
	const rows = await Promise.all(
		(await networks.list())
			.filter(({ value }) => value.deployment === deployment || value.shared)
			.map(({ value }) => copiesOf(store, value.scope, service)),
	);
	return rows
		.flat()
		.filter(({ ServiceMeta }) => ServiceMeta?.deployment === deployment);
}

/** The operation that gives a registered copy other tags, if it has not changed meanwhile. */
function retagged(copy: CatalogRow, tags: string[]): Operation {
	return {
		verb: "catalog",
		operation: {
			Service: {
				Verb: "cas",
				Node: copy.Node,
				Service: {
					ID: copy.ServiceID,
					Service: copy.ServiceName,
					Address: copy.ServiceAddress,
					Port: copy.ServicePort,
					Meta: copy.ServiceMeta,
					Tags: tags,
					ModifyIndex: copy.ModifyIndex,
				},
			},
		},
	};
}
