import type { Logger } from "pino";
import { named } from "../../pipeline/chain.ts";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import type {
	Candidate,
	CreateContext,
	Facts,
	Judge,
	Loaded,
	Services,
} from "../../pipeline/plugin.ts";
import type { Holding } from "../../pipeline/state/containers.ts";
import { keyIn } from "../../pipeline/state/operations.ts";
import type { Store } from "../../pipeline/state/store.ts";

/** What powerstrip.yml says under `placement`. */
export interface PlacementConfig {
	strategy: "spread" | "binpack" | "random";
	/** What a host that is busy to the brim counts, in containers. */
	load: number;
	/** Share by which more may be reserved than a host has. */
	overcommit: number;
	/** Paths that are the same on every host. */
	shared: string[];
}

/** One rule of placement, made as a plugin's `place` is. */
interface Part {
	place(context: CreateContext): Judge | undefined | Promise<Judge | undefined>;
	/** Keys that the container holds, so that no other breaks the rule at the same moment. */
	keys?(container: Wanting, host: string): string[];
}

/** What a container asks for, before it is created or as it lives. */
export interface Wanting {
	body: ContainerCreate;
	facts: Facts;
}

export type PartMaker = (config: PlacementConfig, services: Services) => Part;

/** A wish that is not met counts more than any copy, a copy more than any container. */
export const SOFT = 1e12;
export const COPY = 1e6;

/** Several judges as one: the first reason counts, and the sum of the scores. */
export function jury(judges: readonly (Judge | undefined)[]): Judge {
	const seated = judges.filter((judge) => judge !== undefined);
	return {
		filter(host: Candidate) {
			for (const judge of seated) {
				const reason = judge.filter?.(host);
				if (reason !== undefined) return reason;
			}
			return undefined;
		},
		score: (host: Candidate) =>
			seated.reduce((sum, judge) => sum + (judge.score?.(host) ?? 0), 0),
	};
}

/**
 * A plugin's judge, for what it has to say of a create's hosts.
 * @throws HttpError naming the plugin, also out of the judge, if it throws or judges by what is no reason and no number
 */
export async function judgeOf(
	{ name, hooks }: Loaded,
	context: CreateContext,
	log: Logger,
): Promise<Judge | undefined> {
	const fault = (error: unknown) => named(name, "place", error, log);
	const ask = <T>(question: () => T): T => {
		try {
			return question();
		} catch (error) {
			throw fault(error);
		}
	};
	let judge: Judge | undefined;
	try {
		judge = await hooks.place?.(context);
	} catch (error) {
		throw fault(error);
	}
	if (!judge) return undefined;
	return {
		filter: (host) => ask(() => reasonOf(judge.filter?.(host))),
		score: (host) => ask(() => scoreOf(judge.score?.(host))),
	};
}

/** JavaScript's `unfit(host) && "reason"` is false where it is fit. */
function reasonOf(said: unknown): string | undefined {
	if (!said) return undefined;
	if (typeof said === "string") return said;
	throw new TypeError(`its filter gave ${said}; give a reason, or undefined`);
}

/** One that is no number would spoil every comparison of hosts. */
function scoreOf(said: unknown = 0): number {
	if (typeof said === "number" && !Number.isNaN(said)) return said;
	throw new TypeError(`its score gave ${said}; give a number`);
}

/**
 * Who holds the keys that this create could not have, by key; what has been given back since, or is handed over to it
 * by the container that it replaces, is not among them.
 */
export async function holders(
	{ conflicts, replaced }: Pick<CreateContext, "conflicts" | "replaced">,
	prefix: string,
	store: Store,
): Promise<Map<string, string>> {
	const keys = conflicts
		.map((operation) => keyIn(operation) ?? "")
		.filter((key) => key.startsWith(prefix) && !replaced?.holds.includes(key));
	const held = await store.some<Holding>(keys);
	return new Map(
		held.map(({ key, value }) => [key, value.container ?? "another"]),
	);
}
