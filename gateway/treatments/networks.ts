import type { Answer, Engines } from "../engines.ts";
import { addedUp, mergedList, type Row } from "./treatment.ts";

/** `networks/…`: a deployment's network looks like one, wherever it has been woven to. */
export function networks(engines: Engines): Row[] {
	return [
		[/^GET$/, /^\/networks$/, mergedList(engines, mergeNetworks)],
		[/^POST$/, /^\/networks\/prune$/, addedUp(engines)],
		[
			/^(GET|DELETE)$/,
			/^\/networks\/([^/]+)$/,
			({ ref }) => engines.holderOf(`/networks/${encodeURIComponent(ref)}`),
		],
	];
}

interface Network {
	Name: string;
	Labels: Record<string, string> | null;
}

/** `GET /networks` of all hosts: a deployment's network once, Docker's own of this host alone. */
function mergeNetworks(answers: Answer[]): unknown {
	const [own, ...others] = answers.map(({ answer }) => answer as Network[]);
	const rows = [...(own ?? [])];
	const names = new Set(rows.map(({ Name }) => Name));
	for (const network of others.flat()) {
		if (names.has(network.Name) || !network.Labels?.["arpanet.network"])
			continue;
		names.add(network.Name);
		rows.push(network);
	}
	return rows;
}
