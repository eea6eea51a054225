import { inTime } from "../../pipeline/deadline.ts";
import type { ContainerSummary } from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { readLabels } from "../../pipeline/facts.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { type Identity, isSuccessor } from "../../pipeline/state/successors.ts";
import { type Expression, expressions, holds, labelOf } from "./expressions.ts";
import { type PartMaker, SOFT } from "./part.ts";

/** An engine that takes longer to say what it has is not where a container should go. */
const PATIENCE_MS = 2_000;

/** What a host has of that which an affinity can name. */
interface Inventory {
	containers: { names: string[]; labels: Record<string, string> }[];
	/** Ids, tags, and names without their tags. */
	images: string[];
}

/**
 * `affinity:container==db`: which containers or images a host must have or, with `~`, should have. Any other key is a
 * label of the containers there. The engines are asked, as nobody else knows all labels and images.
 */
export const affinity: PartMaker = (_, services) => ({
	async place({ body, facts, recordName }) {
		const asked = expressions("affinity", body);
		if (asked.length === 0) return undefined;

		const stock = await takeStock(services);
		const own = { container: recordName, ...facts };
		const unmet = (name: string, soft: boolean) =>
			asked.filter(
				(each) =>
					each.soft === soft &&
					!holds(each, valuesOf(each, stock.get(name), own)),
			);
		return {
			filter({ name }) {
				if (!stock.has(name)) return "its engine does not say what runs there";
				const [first] = unmet(name, false);
				return first && `affinity ${first.text} is not met`;
			},
			score: ({ name }) => SOFT * unmet(name, true).length,
		};
	},
});

async function takeStock({
	cluster,
	slots,
}: Services): Promise<Map<string, Inventory>> {
	const stock = new Map<string, Inventory>();
	await Promise.all(
		(await cluster.reachable()).map(async (name) => {
			try {
				stock.set(name, await inventoryOf(await cluster.engine(name)));
			} catch {
				// the filter says so
			}
		}),
	);
	for (const [name, { containers }] of stock) {
		const listed = new Set(containers.flatMap(({ names }) => names));
		// those whose creates are under way, or planned: of their labels no more is known
		for (const { container, deployment = "", service = "" } of slots.use(name)
			.containers) {
			if (listed.has(container)) continue;
			const labels = {
				"com.docker.compose.project": deployment,
				"com.docker.compose.service": service,
			};
			containers.push({ names: [container], labels });
		}
	}
	return stock;
}

async function inventoryOf(engine: Engine): Promise<Inventory> {
	const answers = Promise.all([
		engine.get<ContainerSummary[]>("/containers/json?all=1"),
		engine.get<{ Id: string; RepoTags: string[] | null }[]>("/images/json"),
	]);
	const [containers = [], images = []] = await inTime(
		answers,
		PATIENCE_MS,
		() => new Error("it took too long"),
	);
	return {
		containers: containers.map(({ Id, Names, Labels }) => ({
			names: [Id, ...Names.map((each) => each.slice(1))],
			labels: Labels,
		})),
		images: images.flatMap(({ Id, RepoTags }) => [
			Id,
			...(RepoTags ?? []).flatMap((tag) => [tag, tag.replace(/:[^:/]*$/, "")]),
		]),
	};
}

/** @param own what is placed: the container that it replaces does not keep it away */
function valuesOf(
	{ key, operator }: Expression,
	inventory: Inventory | undefined,
	own: Identity,
): string[] {
	if (!inventory) return [];
	if (key === "image") return inventory.images.flatMap(withShort);
	const others = inventory.containers.filter(
		({ names, labels }) =>
			operator === "==" ||
			!names.some((container) =>
				isSuccessor(own, { container, ...readLabels(labels) }),
			),
	);
	if (key === "container") {
		return others.flatMap(({ names }) => names.flatMap(withShort));
	}
	return others.map(({ labels }) => labelOf(labels, key));
}

/** An id, and the twelve characters of it that clients show; any other name as it is. */
function withShort(name: string): string[] {
	const [, id] = /^(?:sha256:)?([0-9a-f]{64})$/.exec(name) ?? [];
	return id ? [name, id, id.slice(0, 12)] : [name];
}
