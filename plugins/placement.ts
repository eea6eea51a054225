import { HttpError } from "../pipeline/errors.ts";
import {
	type Candidate,
	type CreateContext,
	definePlugin,
	type Facts,
	type Hooks,
} from "../pipeline/plugin.ts";
import type { KnownHost } from "../pipeline/state/hosts.ts";

/**
 * placement: the host that a container runs on. Every plugin with a `place` part may filter a
 * host out, with its reason, or score it; the lowest sum wins.
 *
 *     plugins:
 *       - placement
 */
export default definePlugin({
	name: "placement",
	after: ["deployment-id"],
	setup(_, { cluster, containers }, all) {
		/** Choices whose creates are not on record yet: creates at the same moment must not pile onto one host. */
		const pending = new Map<string, { facts: Facts; since: number }>();
		let last: Promise<unknown> = Promise.resolve();

		return {
			async create(context) {
				const { facts, onlyHost, record } = context;
				if (!facts.deployment) return; // not ours

				if (!cluster.alone) await cluster.hosts.refresh(); // one may be drained since
				const hosts = onlyHost
					? [await cluster.hosts.get(onlyHost)]
					: await cluster.reachable();
				const [only] = hosts;
				if (hosts.length === 1 && only) {
					facts.host = (
						await choose([{ ...only, containers: [] }], context, all)
					).name;
					return;
				}
				const choice = last.then(async () => {
					const candidates = await withContainers(hosts);
					facts.host = (await choose(candidates, context, all)).name;
					pending.set(record, { facts, since: performance.now() });
				});
				last = choice.catch(() => {}); // the next has its own turn
				await choice;
			},
			place: {
				filter: ({ drained }) =>
					drained ? "it is drained (arpanet host undrain)" : undefined,
				/** The least used host, and not where a copy of the same service is while another can be had. */
				score: ({ containers }, { facts: { deployment, service } }) => {
					const copies = containers.filter(
						(facts) =>
							facts.deployment === deployment && facts.service === service,
					);
					return containers.length + 1000 * copies.length;
				},
			},
		};

		async function withContainers(hosts: KnownHost[]): Promise<Candidate[]> {
			const known = new Map<string, Facts>();
			for (const [name, { facts, since }] of pending) {
				if (performance.now() - since > PENDING_MS) pending.delete(name);
				else known.set(name, facts);
			}
			for (const { key, value } of await containers.list()) {
				known.set(containers.name(key), value.facts);
				pending.delete(containers.name(key));
			}
			return hosts.map((host) => ({
				...host,
				containers: [...known.values()].filter(
					(facts) => facts.host === host.name,
				),
			}));
		}
	},
});

/** A create that is not on record after so long has failed. */
const PENDING_MS = 10_000;

/**
 * The best host that no filter refuses.
 * @throws HttpError 409 with every host and the reason of its refusal
 */
export async function choose(
	hosts: Candidate[],
	context: CreateContext,
	all: readonly Hooks[],
): Promise<Candidate> {
	const refusals: string[] = [];
	let best: { host: Candidate; score: number } | undefined;
	for (const host of hosts) {
		const reason = await refusal(host, context, all);
		if (reason !== undefined) {
			refusals.push(`${host.name}: ${reason}`);
			continue;
		}
		let score = 0;
		for (const { place } of all) {
			score += (await place?.score?.(host, context)) ?? 0;
		}
		if (!best || score < best.score) best = { host, score };
	}
	if (best) return best.host;
	throw new HttpError(
		409,
		`placement: no host can run ${context.name ?? "the container"}: ${refusals.join("; ")}`,
	);
}

async function refusal(
	host: Candidate,
	context: CreateContext,
	all: readonly Hooks[],
): Promise<string | undefined> {
	for (const { place } of all) {
		const reason = await place?.filter?.(host, context);
		if (reason !== undefined) return reason;
	}
	return undefined;
}
