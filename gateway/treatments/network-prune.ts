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

/** A network of ours on another host than its home, by the id that it has there. */
interface Copy {
	host: string;
	id: string;
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
		for (const { network, copies } of await idle()) {
			const { home = "", scope } = network;
			if (!hosts.includes(home)) continue;
			const ours = { label: [`arpanet.network=${scope}`] };
			const gone = await prune(home, path, query, ours);
			deleted.push(...gone);
			if (gone.length > 0) await removeEach(copies);
		}
		const NetworksDeleted = deleted.length > 0 ? deleted : null;
		return { status: 200, body: { NetworksDeleted } satisfies Pruned };
	};

	/** The home's agent would take them down as well, some seconds after the answer: till then they were listed. */
	async function removeEach(copies: Copy[]): Promise<void> {
		await Promise.allSettled(
			copies.map(({ host, id }) =>
				cluster.ask(host, (engine) => engine.remove(`/networks/${id}`)),
			),
		);
	}

	/** Networks of ours in which no container runs on any host. */
	async function idle(): Promise<{ network: KnownNetwork; copies: Copy[] }[]> {
		// without Consul, what was heard last must do
		const known = await networkIds.anew().catch(() => networkIds.all());
		const all = [...known.values()];
		const found = await Promise.all(
			all.map(async (network) => {
				const path = `/networks/${encodeURIComponent(network.name)}`;
				const answers = await cluster.answers<NetworkInspect>(path);
				const copies: Copy[] = [];
				for (const host of network.hosts) {
					const copy = answers.find((each) => each.host === host)?.answer;
					if (!copy || !isEmpty(copy)) return undefined;
					if (host !== network.home) copies.push({ host, id: copy.Id });
				}
				return { network, copies };
			}),
		);
		return found.filter((each) => each !== undefined);
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
