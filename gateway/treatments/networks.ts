import { type HostAnswer, whoHas } from "../../pipeline/answers.ts";
import {
	isNetworkConnect,
	isNetworkCreate,
	isPredefined,
	type NetworkConnect,
	type NetworkCreate,
} from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { withoutOurs } from "../../pipeline/facts.ts";
import { isTrue, readBody } from "../../pipeline/spelling.ts";
import type { KnownNetwork } from "../../pipeline/state/network-ids.ts";
import { MTU } from "../../pipeline/state/networks.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { pruneNetworks } from "./network-prune.ts";
import { filtersOf, matches, withFilters } from "./query.ts";
import {
	type OwnAnswer,
	type Route,
	type TreatedRequest,
	throwRefusal,
} from "./treatment.ts";

export const INSPECT = /^\/networks\/([^/]+)$/;

/** A network in an engine's answer. */
interface Network {
	Id: string;
	Name: string;
	Labels?: Record<string, string> | null;
	Containers?: Record<string, unknown> | null;
	Options?: Record<string, string> | null;
}

/**
 * `networks/…`: a deployment's network looks like one, with one id, wherever it has been woven to. What it is called in the
 * engine of one host is in `NetworkIds`; its name is the same everywhere.
 */
export function networks(engines: Engines): Route[] {
	const { cluster, locator, networkIds } = engines;

	async function create(body: string | null): Promise<EnginePool> {
		const asked = readBody(body, isNetworkCreate) as NetworkCreate | null;
		const home = asked?.Labels?.["arpanet.host"];
		return home ? engines.pool(home) : engines.local;
	}

	async function list({ path, query }: TreatedRequest): Promise<OwnAnswer> {
		const { id, ...filters } = filtersOf(query);
		const answers = await cluster.answers<Network[]>(
			path + withFilters(query, filters),
		);
		throwRefusal(answers);
		const isUnused = filters.dangling?.some(isTrue) ?? false;
		const rows = await merge(answers, isUnused);
		const body = id ? rows.filter(({ Id }) => matches(Id, id)) : rows;
		return { status: 200, body };
	}

	/**
	 * Each network of ours once, as its home has it; Docker's own of this host alone.
	 * @param isUnused each host has told of those that it does not use: only what none uses counts
	 */
	async function merge(
		answers: HostAnswer<Network[]>[],
		isUnused: boolean,
	): Promise<Network[]> {
		let all = await networkIds.all();
		const isNew = ({ Id, Labels }: Network) =>
			Labels?.["arpanet.network"] && !networkIds.known(Id);
		const isBehind = answers.some(({ answer }) => answer?.some(isNew));
		// without Consul, the engines must do
		if (isBehind) all = await networkIds.anew().catch(() => all);
		const copies = new Map<string, Map<string, Network>>();
		const rows: Network[] = [];
		for (const [position, { host, answer }] of answers.entries()) {
			for (const network of answer ?? []) {
				const known = networkIds.known(network.Id);
				if (!known) {
					const again = position > 0 && isPredefined(network.Name);
					if (!again) rows.push(network);
					continue;
				}
				const copy = copies.get(known.scope) ?? new Map<string, Network>();
				copy.set(host, asMade(network, known));
				copies.set(known.scope, copy);
			}
		}
		for (const [scope, copy] of copies) {
			const hosts = all.get(scope)?.hosts ?? [];
			const told = answers.filter(({ host }) => hosts.includes(host));
			if (isUnused && told.some(({ host }) => !copy.has(host))) continue;
			const [any] = copy.values();
			rows.push(copy.get(all.get(scope)?.home ?? "") ?? (any as Network));
		}
		return rows;
	}

	async function inspect({
		path,
		query,
		ref,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const known = await networkIds.findHeard(ref);
		if (!known && engines.localOnly) return engines.local;
		if (!known) {
			return engines.holderOf(`/networks/${encodeURIComponent(ref)}`);
		}
		const named = path.replace(/[^/]+$/, encodeURIComponent(known.name));
		const { found, late } = await holders(known, named + query);
		const [first] = found;
		if (!first && late) throw late.error;
		if (!first) return engines.local; // none that answers has it: the engine says so
		const home = found.find(({ host }) => host === known.home) ?? first;
		const Containers = Object.assign(
			{},
			...found.map(({ answer }) => answer.Containers),
		);
		const body = { ...asMade(home.answer, known), Containers };
		return { status: 200, body };
	}

	/** The hosts that have a network, as far as they answer, and one that may have it and does not. */
	async function holders(known: KnownNetwork, request: string) {
		const told = await cluster.answers<Network>(request);
		const answers = told.filter(({ host }) => known.hosts.includes(host));
		return { found: whoHas(answers), late: answers.find(({ error }) => error) };
	}

	/**
	 * Its home removes it, and answers; the post-hook takes it down everywhere else.
	 * @throws HttpError 502 if a host that is not lost does not say whether containers use it there
	 */
	async function remove({ ref }: TreatedRequest): Promise<EnginePool> {
		const known = await networkIds.findHeard(ref);
		const path = `/networks/${encodeURIComponent(known?.name ?? ref)}`;
		if (!known?.home) return engines.holderOf(path);
		const { name, id, home } = known;
		const { found, late } = await holders(known, path);
		if (late) {
			throw new HttpError(
				502,
				`network ${name} may be in use on host ${late.host}, which does not answer; try again, and look at arpanet hosts`,
			);
		}
		const busy = found.some(
			({ host, answer }) =>
				host !== home && Object.keys(answer.Containers ?? {}).length > 0,
		);
		if (busy) {
			throw new HttpError(
				403,
				`error while removing network: network ${name} id ${id} has active endpoints`,
			);
		}
		return engines.pool(await reachableHome(known, home));
	}

	/** @throws HttpError 503 while it is lost */
	async function reachableHome({ name }: KnownNetwork, home: string) {
		if ((await cluster.reachable()).includes(home)) return home;
		throw new HttpError(
			503,
			`network ${name} was made on host ${home}, which does not answer; bring it back, or arpanet host rm ${home}`,
		);
	}

	/** To the host of the container, by the network's name: that engine may call it by another id. */
	async function attach({
		path,
		ref,
		body,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const asked = readBody(body, isNetworkConnect) as Partial<NetworkConnect>;
		const container: unknown = asked?.Container;
		const found =
			typeof container === "string" && (await locator.hostOf(container));
		const host = found || cluster.self; // whose engine says that there is none
		const name = (await networkIds.findHeard(ref))?.name;
		if (name === undefined || name === ref) return engines.pool(host);
		const engine = await cluster.engine(host);
		const named = path.replace(
			/[^/]+(?=\/(?:dis)?connect$)/,
			encodeURIComponent(name),
		);
		await engine.post(named, asked);
		return { status: 200, body: undefined };
	}

	return [
		[/^POST$/, /^\/networks\/create$/, ({ body }) => create(body)],
		[/^GET$/, /^\/networks$/, list],
		[/^POST$/, /^\/networks\/prune$/, pruneNetworks(engines)],
		[/^GET$/, INSPECT, inspect],
		[/^DELETE$/, INSPECT, remove],
		[/^POST$/, /^\/networks\/([^/]+)\/(?:dis)?connect$/, attach],
	];
}

/** A network as its client made it: with the one id, and without the option and the labels that we have added, which docker-compose 1.29 would take for a change. */
function asMade(network: Network, { id, fitted }: KnownNetwork): Network {
	const { [MTU]: _, ...others } = network.Options ?? {};
	const Options = fitted ? others : network.Options;
	const Labels = network.Labels && withoutOurs(network.Labels);
	return {
		...network,
		Id: id ?? network.Id,
		...(Options && { Options }),
		...(Labels && { Labels }),
	};
}
