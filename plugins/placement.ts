import { setTimeout } from "node:timers/promises";
import { HttpError } from "../pipeline/errors.ts";
import { formerSlots } from "../pipeline/lifecycle/former.ts";
import {
	type Candidate,
	type ContainerContext,
	type CreateContext,
	definePlugin,
	type Facts,
	type Judge,
	type Services,
	type Verdict,
} from "../pipeline/plugin.ts";
import type { Holding } from "../pipeline/state/containers.ts";
import { hostKeys, isHostRecord } from "../pipeline/state/hosts.ts";
import {
	ignoreConflict,
	keyIn,
	unchanged,
} from "../pipeline/state/operations.ts";
import {
	type Copy,
	copyKey,
	isCopy,
	isCount,
	isSlot,
	type Slot,
	slotKey,
	slotOf,
} from "../pipeline/state/slots.ts";
import type { Placed } from "../pipeline/state/use.ts";
import { affinity } from "./placement/affinity.ts";
import { available } from "./placement/available.ts";
import { bound } from "./placement/bound.ts";
import { constraint } from "./placement/constraint.ts";
import { nameById } from "./placement/digest.ts";
import { exclusive } from "./placement/exclusive.ts";
import { moveToLabels } from "./placement/expressions.ts";
import {
	COPY,
	judgeOf,
	jury,
	type PartMaker,
	type PlacementConfig,
	type Wanting,
} from "./placement/part.ts";
import { fixedPorts, ports } from "./placement/ports.ts";
import { reserved, resources } from "./placement/resources.ts";
import { strategy } from "./placement/strategy.ts";
import { together } from "./placement/together.ts";
import { namedVolumes } from "./volumes.ts";

/** In the order in which a host is asked: the first reason is the one that the user reads. */
const PARTS: PartMaker[] = [
	available,
	constraint,
	affinity,
	together,
	bound,
	exclusive,
	ports,
	resources,
	strategy,
];

/** Creates that are counted on one host and meet wait for each other so long, for each time that they met. */
const PAUSE_MS = 10;
/** How often a create gives way to others on a number. */
const MAX_MEETINGS = 20;

/**
 * placement: the host that a container runs on. Every plugin with a `place` part may refuse a host, with its reason,
 * or score it; the lowest sum wins.
 *
 *     plugins:
 *       - placement: {strategy: spread}
 */
export default definePlugin<PlacementConfig>({
	name: "placement",
	after: ["deployment-id"],
	schema: {
		type: "object",
		additionalProperties: false,
		properties: {
			strategy: {
				type: "string",
				enum: ["spread", "binpack", "random"],
				default: "spread",
			},
			load: { type: "number", minimum: 0, default: 1 },
			overcommit: { type: "number", minimum: 0, default: 0.05 },
			shared: {
				type: "array",
				items: { type: "string" },
				default: [
					"/dev",
					"/proc",
					"/sys",
					"/etc/localtime",
					"/etc/timezone",
					"/lib/modules",
					"/run/docker.sock",
					"/var/run/docker.sock",
					"/run/arpanet.sock",
					"/var/run/arpanet.sock",
				],
			},
		},
	},
	setup(config, services, all) {
		const { cluster, slots, volumes, store, log } = services;
		const parts = PARTS.map((part) => part(config, services));
		/** Slots of creates that are under way, by their facts. */
		const taken = new WeakMap<Facts, Slot>();

		return {
			async create(context) {
				const { facts, body, recordName, onlyHost } = context;
				const isOurs = Object.keys(facts).length > 0; // another plugin's fact is enough
				if (!isOurs && (onlyHost || cluster.alone)) return;

				await learn(context, services);
				await slots.ready();
				const counted =
					!cluster.alone && isCounted(placedOf(context, recordName))
						? await slots.counted()
						: undefined;
				const settled =
					(await settle(context)) ?? (await settleAfresh(context));
				if (!settled) throw underWay(context) ?? impossible(context);
				const { host, slot, before } = settled;
				taken.set(facts, slot);
				facts.host = host.name;
				facts.slot = slot.number;
				// a stock powerstrip carries no image
				if (!onlyHost) await nameById(body, host.name, services);
				context.explain("placement", reasons(context, host.name, before));

				const { modifyIndex: index } = host;
				// it may be drained meanwhile, or be another
				if (index !== undefined) {
					context.commit(unchanged({ key: hostKeys(host.name).record, index }));
				}
				holdSlot(context, slot);
				if (counted) {
					const known = hasMet(context, isCount) ? undefined : counted;
					context.commit(slots.count(host.name, known));
				}
				for (const key of keysOf(context, host.name)) {
					context.hold(key, { container: recordName } satisfies Holding);
				}
				moveToLabels(body);
			},

			/** Also when a create does not go on. */
			removed({ facts, holds }) {
				const slot = taken.get(facts);
				if (slot) slots.release(slot.key);
				for (const key of holds.filter(isSlot)) slots.release(key);
			},

			async adopt(context) {
				const { container, facts, recordName } = context;
				if (!facts.host) return;
				const { Config, HostConfig } = container;
				const body = { Labels: Config.Labels ?? {}, HostConfig };
				await slots.ready();
				const placed = placedOf({ body, facts }, recordName);
				const key = facts.slot && slotKey(facts.host, facts.slot);
				if (!key || !(await putBack(key, placed))) {
					const slot = slots.take(facts.host, placed, true);
					holdSlot(context, slot);
				}
				for (const each of keysOf({ body, facts }, facts.host)) {
					await putBack(each, { container: recordName });
				}

				async function putBack(key: string, value: Holding) {
					const known = await store.get<Holding>(key);
					if (known && known.value.container !== recordName) return false;
					context.hold(key, value, known);
					return true;
				}
			},

			/** `docker update` may have changed what it reserves. */
			started: recount,
			stopped: recount,

			async place(context) {
				return jury(
					await Promise.all(parts.map((part) => part.place(context))),
				);
			},
		};

		async function recount({ container, facts }: ContainerContext) {
			const slot = slots.named(container.Name.slice(1));
			if (!slot || slot.host !== facts.host) return;
			const { HostConfig } = container;
			const now = reserved({ HostConfig });
			const { cpus = 0, memory = 0 } = slot.placed;
			if (now.cpus === cpus && now.memory === memory) return;
			const entry = await store.get<Placed>(slot.key);
			if (entry?.value.container !== slot.placed.container) return;
			const { key, index, value } = entry;
			await ignoreConflict(
				store.commit([
					{ verb: "update", key, value: { ...value, ...now }, index },
				]),
			);
		}

		/** Takes a place on the best host; undefined if there is none. */
		async function settle(
			context: CreateContext,
		): Promise<
			{ host: Candidate; slot: Slot; before: string | undefined } | undefined
		> {
			const { recordName, facts, onlyHost, previous } = context;
			const judge = jury(
				await Promise.all(all.map((each) => judgeOf(each, context, log))),
			);
			const hosts = onlyHost
				? [await cluster.hosts.get(onlyHost)]
				: await cluster.all();
			const own = { container: recordName, ...facts };
			const former = await formerSlots(own, services);

			// from here to the slot in one breath: the next create counts this one
			const replaced = [...slots.of(own), ...former];
			const candidates = hosts.map((each) => candidate(each, replaced));
			// others may share its namespaces, and its ports are known by its host
			const before = replaced.find(
				({ key }) => !previous?.holds.includes(key),
			)?.host;
			const host = choose(candidates, judge, context, before);
			if (!host) return undefined;
			const placed = placedOf(context, recordName);
			const held = heldSlot(previous?.holds, host.name, replaced);
			const slot = held
				? { ...held, placed: withCopy(placed, held.placed) }
				: slots.take(host.name, placed, goesFreely(context));
			return { host, slot, before };
		}

		/** The views may be a moment behind: nothing is refused for what has just gone. */
		async function settleAfresh(context: CreateContext) {
			await Promise.all([
				slots.refresh(),
				volumes.refresh(),
				cluster.hosts.refresh(),
			]);
			context.verdicts.length = 0;
			return settle(context);
		}

		function candidate(
			host: Awaited<ReturnType<typeof cluster.all>>[number],
			replaced: Slot[],
		): Candidate {
			const use = slots.use(host.name);
			const gone = replaced.filter((slot) => slot.host === host.name);
			if (gone.length === 0) return { ...host, use };
			const placed = new Set(gone.map((slot) => slot.placed));
			return { ...host, use: use.without(placed) };
		}

		function keysOf(container: Wanting, host: string): string[] {
			return parts.flatMap((part) => part.keys?.(container, host) ?? []);
		}
	},
});

/** What the last try has taught: whose slot it is that we wanted, or that a host has changed. */
async function learn(
	context: CreateContext,
	{ slots, cluster }: Services,
): Promise<void> {
	const last = keyIn(context.conflicts.at(-1));
	if (!last) return;
	if (isSlot(last) || isCopy(last)) await slots.learn(last);
	else if (isCount(last)) {
		await setTimeout(Math.random() * PAUSE_MS * context.conflicts.length);
	} else if (isHostRecord(last)) {
		await cluster.hosts.refresh();
	}
}

function holdSlot({ hold }: Pick<CreateContext, "hold">, slot: Slot): void {
	hold(slot.key, slot.placed);
	const copy = copyKey(slot);
	const { container } = slot.placed;
	if (copy) hold(copy, { container, slot: slot.key } satisfies Copy);
}

/**
 * The host where an earlier create of the same name may be under way, though its engine has no such container yet: this
 * one goes there or nowhere, so that there are never two of that name.
 */
function earlierHost({
	previous,
	lostHost,
}: CreateContext): string | undefined {
	return lostHost ? undefined : previous?.facts.host;
}

/**
 * The best host that nobody refuses.
 * @param before where the container is that this one replaces: it stays there, unless copies avoid each other
 */
function choose(
	hosts: Candidate[],
	judge: Judge,
	context: CreateContext,
	before: string | undefined,
): Candidate | undefined {
	const { verdicts } = context;
	const earlier = earlierHost(context);
	let best: Candidate | undefined;
	let lowest = Number.POSITIVE_INFINITY;
	for (const host of hosts) {
		const refused = judge.filter?.(host);
		if (refused !== undefined) {
			verdicts.push({ host: host.name, refused });
			continue;
		}
		const score = judge.score?.(host) ?? 0;
		verdicts.push({ host: host.name, score });
		if (earlier && host.name !== earlier) continue;
		const weight = host.name === before ? score - COPY / 2 : score;
		if (!best || weight < lowest) best = host;
		lowest = Math.min(lowest, weight);
	}
	return best;
}

/** What the client reads if another host could run it. */
function underWay(context: CreateContext): HttpError | undefined {
	const { name, verdicts } = context;
	const host = earlierHost(context);
	if (!host || verdicts.every(({ refused }) => refused !== undefined)) {
		return undefined;
	}
	const why = verdicts.find((each) => each.host === host)?.refused;
	return new HttpError(
		503,
		`placement: an earlier create of ${name ?? "the container"} may still be under way on host ${host}, where it cannot go now${why ? ` (${why})` : ""}; try again in a minute, or, if that host is gone for good, arpanet host rm ${host}`,
	);
}

/** What the client reads: every host, and the reason of its refusal. */
function impossible({ name, verdicts }: CreateContext): HttpError {
	return new HttpError(
		409,
		`placement: no host can run ${name ?? "the container"}: ${refusals(verdicts)}`,
	);
}

/**
 * Whether it need not be noticed when others place a container on the same host: there is no other host, or so many do
 * it that one is in the others' way.
 */
function goesFreely(context: CreateContext): boolean {
	const { verdicts } = context;
	const possible = verdicts.filter(({ refused }) => refused === undefined);
	return (
		possible.length === 1 ||
		hasMet(context, (key) => isSlot(key) || isCopy(key))
	);
}

/** Whether a create has lost so often against others over keys of a kind that it gives way no longer. */
function hasMet(
	{ conflicts }: CreateContext,
	isOfKind: (key: string) => boolean,
): boolean {
	const keys = conflicts.map(keyIn).filter((key) => key !== undefined);
	return keys.filter(isOfKind).length > MAX_MEETINGS;
}

/** Why a host was chosen, and each of the others not. */
function reasons(
	{ verdicts, previous }: CreateContext,
	chosen: string,
	before: string | undefined,
): string {
	if (verdicts.length === 1) return "there is no other host";
	const own = verdicts.find(({ host }) => host === chosen);
	const others = verdicts
		.filter(({ host }) => host !== chosen)
		.map(({ host, refused, score = 0 }) =>
			refused ? `${host}: ${refused}` : `${host} scores ${score.toFixed(2)}`,
		);
	const why =
		previous?.facts.host === chosen
			? "an earlier try was placed here"
			: before === chosen
				? "the container that it replaces is here"
				: `scores ${(own?.score ?? 0).toFixed(2)}, the lowest is chosen`;
	return [why, ...others].join("; ");
}

/** `h1, h2: it is lost; h3: port 80/tcp is taken by abc_web_1` */
function refusals(verdicts: readonly Verdict[]): string {
	const hosts = new Map<string, string[]>();
	for (const { host, refused } of verdicts) {
		if (refused === undefined) continue;
		hosts.set(refused, [...(hosts.get(refused) ?? []), host]);
	}
	return [...hosts]
		.map(([reason, names]) => `${names.join(", ")}: ${reason}`)
		.join("; ");
}

function heldSlot(
	holds: readonly string[] | undefined,
	host: string,
	known: Slot[],
): Slot | undefined {
	const key = holds?.find((each) => isSlot(each) && slotOf(each).host === host);
	return known.find((slot) => slot.key === key);
}

/** Whether a host can have too much of what it asks for. */
function isCounted({ cpus, memory, ports }: Placed): boolean {
	return Boolean(cpus || memory || ports);
}

function withCopy(placed: Placed, { copy }: Placed): Placed {
	return copy === undefined ? placed : { ...placed, copy };
}

function placedOf({ body, facts }: Wanting, container: string): Placed {
	const { deployment, service, index, indexFrom } = facts;
	const { cpus, memory } = reserved(body);
	const fixed = fixedPorts(body);
	const volumes = namedVolumes(body);
	return {
		container,
		...(deployment ? { deployment } : {}),
		...(service ? { service } : {}),
		...(index !== undefined && !indexFrom ? { index } : {}),
		...(cpus ? { cpus } : {}),
		...(memory ? { memory } : {}),
		...(fixed.length > 0 ? { ports: fixed } : {}),
		...(volumes.length > 0 ? { volumes } : {}),
	};
}
