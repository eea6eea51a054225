import type { NetworkInspect } from "../../pipeline/docker.ts";
import type { KnownNetwork } from "../../pipeline/state/network-ids.ts";
import type { Engines } from "../engines.ts";
import { type Filters, filtersOf, withFilters } from "./query.ts";
import type { Treatment } from "./treatment.ts";

interface Pruned {
	NetworksDeleted: string[] | null;
}

/**
 * `networks/prune`: each engine prunes what is its own alone. A network of ours goes if no container is in it on any
 * host; whether the filters mean it, its home's engine says, which removes it then, and its agent takes down the rest.
 */
export function pruneNetworks(engines: Engines): Treatment {
	const { cluster, networkIds } = engines;

	async function prune(
		host: string,
		path: string,
		query: string,
		more: Filters,
	): Promise<string[]> {
		const filters = filtersOf(query);
		for (const [key, values] of Object.entries(more)) {
			filters[key] = [...(filters[key] ?? []), ...values];
		}
		const asked = path + withFilters(query, filters);
		const answer = await cluster.ask(host, (engine) =>
			engine.post<Pruned>(asked),
		);
		return answer?.NetworksDeleted ?? [];
	}

	return async ({ path, query }) => {
		const hosts = (await cluster.reachable()).map(({ name }) => name);
		const others = { "label!": ["arpanet.network"] };
		const deleted = (
			await Promise.all(hosts.map((host) => prune(host, path, query, others)))
		).flat();
		for (const { home = "", scope } of await idle()) {
			if (!hosts.includes(home)) continue;
			const ours = { label: [`arpanet.network=${scope}`] };
			deleted.push(...(await prune(home, path, query, ours)));
		}
		const NetworksDeleted = deleted.length > 0 ? deleted : null;
		return { status: 200, body: { NetworksDeleted } satisfies Pruned };
	};

	/** Networks of ours in which no container runs on any host. */
	async function idle(): Promise<KnownNetwork[]> {
		// without Consul, what was heard last must do
		const known = await networkIds.anew().catch(() => networkIds.all());
		const all = [...known.values()];
		const unused = await Promise.all(
			all.map(async ({ name, hosts }) => {
				const path = `/networks/${encodeURIComponent(name)}`;
				const answers = await engines.ask(path);
				return hosts.every((host) => {
					const found = answers.find((each) => each.host === host)?.answer;
					return found && isEmpty(found as NetworkInspect);
				});
			}),
		);
		return all.filter((_, position) => unused[position]);
	}
}

function isEmpty({ Containers }: NetworkInspect): boolean {
	return Object.keys(Containers ?? {}).length === 0;
}
