import { askEach } from "../../pipeline/answers.ts";
import { isPredefined, type NetworkInspect } from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { KnownNetwork } from "../../pipeline/state/network-ids.ts";
import type { Engines } from "../engines.ts";
import { type Filters, readFilters } from "../filters.ts";
import { hasLabels } from "../view/query.ts";
import { filtersOf, withFilters } from "./query.ts";
import { type Treatment, throwRefusal } from "./treatment.ts";

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

	/** As `prune` of what is the host's own, one network after the other. */
	async function pruneEach(host: string, asked: Filters): Promise<string[]> {
		const { label = [], "label!": spared = [], until } = asked;
		const before = until?.[0] === undefined ? Infinity : momentOf(until[0]);
		if (Number.isNaN(before)) {
			throw new HttpError(400, `invalid filter until=${until?.[0]}`);
		}
		return cluster.ask(host, async (engine) => {
			const all = (await engine.get<NetworkInspect[]>("/networks")) ?? [];
			const meant = all.filter(
				({ Name, Labels, Created }) =>
					!isPredefined(Name) &&
					!Labels?.["arpanet.network"] &&
					hasLabels(Labels ?? {}, label) &&
					!hasLabels(Labels ?? {}, spared) &&
					Date.parse(String(Created)) <= before,
			);
			const deleted: string[] = [];
			for (const { Id, Name } of meant) {
				const found = await engine.inspectNetwork(Id);
				if (!found || !isEmpty(found)) continue;
				// who has just come into it keeps it
				await engine.remove(`/networks/${Id}`).then(
					() => deleted.push(Name),
					() => {},
				);
			}
			return deleted;
		});
	}

	return async ({ path, query }) => {
		const asked = readFilters(new URLSearchParams(query).get("filters"));
		if (!asked) return engines.local; // it says what is wrong with them
		const hosts = await cluster.reachable();
		const others = { "label!": ["arpanet.network"] };
		const told = await askEach(hosts, (host) =>
			// of several, an engine spares only what has all of them
			asked["label!"]?.length
				? pruneEach(host, asked)
				: prune(host, path, query, others),
		);
		throwRefusal(told);
		// one that is lost says nothing, and its networks stay
		const deleted = told.flatMap(({ answer }) => answer ?? []);
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
				const answers = await cluster.answers<NetworkInspect>(path);
				return hosts.every((host) => {
					const found = answers.find((each) => each.host === host)?.answer;
					return found && isEmpty(found);
				});
			}),
		);
		return all.filter((_, position) => unused[position]);
	}
}

const UNITS: Record<string, number> = {
	h: 3_600_000,
	m: 60_000,
	s: 1_000,
	ms: 1,
};

/** What `until` says, in milliseconds since 1970: a duration back from now, a time, or seconds. */
function momentOf(text: string): number {
	if (/^\d+(\.\d+)?$/.test(text)) return 1000 * Number(text);
	if (!/^(\d+(\.\d+)?(h|ms|m|s))+$/.test(text)) return Date.parse(text);
	const parts = text.matchAll(/([\d.]+)(h|ms|m|s)/g);
	const back = [...parts].reduce(
		(sum, [, count, unit = ""]) => sum + Number(count) * (UNITS[unit] ?? 0),
		0,
	);
	return Date.now() - back;
}

function isEmpty({ Containers }: NetworkInspect): boolean {
	return Object.keys(Containers ?? {}).length === 0;
}
