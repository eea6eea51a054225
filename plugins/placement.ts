import { HttpError } from "../pipeline/errors.ts";
import {
	type Candidate,
	type CreateContext,
	definePlugin,
	type Hooks,
} from "../pipeline/plugin.ts";

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
	setup: (_, { cluster, containers }, all) => ({
		async create(context) {
			const { facts, onlyHost } = context;
			if (!facts.deployment) return; // not ours

			const hosts = onlyHost
				? [await cluster.hosts.get(onlyHost)]
				: await cluster.reachable();
			const records = hosts.length > 1 ? await containers.list() : [];
			const candidates = hosts.map(
				(host): Candidate => ({
					...host,
					containers: records
						.map(({ value }) => value)
						.filter(({ facts: { host: name } }) => name === host.name),
				}),
			);
			facts.host = (await choose(candidates, context, all)).name;
		},
		place: {
			/** The least used host, and not where a copy of the same service is while another can be had. */
			score: ({ containers }, { facts: { deployment, service } }) => {
				const copies = containers.filter(
					({ facts }) =>
						facts.deployment === deployment && facts.service === service,
				);
				return containers.length + 1000 * copies.length;
			},
		},
	}),
});

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
