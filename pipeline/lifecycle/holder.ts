import { PATIENCE_MS } from "../cluster.ts";
import { isOurs, readLabels } from "../facts.ts";
import type { ContainerContext, Services } from "../plugin.ts";
import {
	areMadeAtOnce,
	type ContainerRecord,
	isSame,
} from "../state/containers.ts";
import { isSuperseded } from "../state/moves.ts";
import { ignoreConflict } from "../state/operations.ts";
import type { Entry } from "../state/store.ts";

/** A container that a record is of. */
interface Holder {
	Id: string;
	/** With a leading slash. */
	Names: string[];
	/** As its facts tell. */
	made: string | undefined;
}

/** A container of ours by id, prefix or name, as its engine shows it now. */
export async function contextOf(
	ref: string,
	{ locator }: Pick<Services, "locator">,
): Promise<ContainerContext | undefined> {
	const container = (await locator.find(ref))?.container;
	if (!container || !isOurs(container)) return undefined;
	return { container, facts: readLabels(container.Config.Labels) };
}

/**
 * The container that a record with a lease is of, by its name or by when it was made: another may have had that lease before, or have it
 * by now. Without a lease, the one of its name.
 * @throws HttpError 502 if its host does not answer
 */
export async function holderOf(
	entry: Entry<ContainerRecord>,
	{ cluster, containers }: Pick<Services, "cluster" | "containers">,
): Promise<Holder | undefined> {
	const { address, network, host = cluster.self } = entry.value.facts;
	const name = containers.name(entry.key);
	const asking = { patience: PATIENCE_MS };
	if (!address || !network) {
		const found = await cluster.ask(
			host,
			(engine) => engine.containerNamed(name),
			asking,
		);
		const { made } = readLabels(found?.Config.Labels ?? null);
		return found && { Id: found.Id, Names: [found.Name], made };
	}
	const leased = await cluster.ask(
		host,
		(engine) => engine.listContainers(`arpanet.address=${address}`),
		asking,
	);
	const holders = leased
		.filter(({ Labels }) => Labels["arpanet.network"] === network)
		.filter(({ Names }) => !Names.some(isSuperseded))
		.map(({ Id, Names, Labels }) => {
			return { Id, Names, made: readLabels(Labels).made };
		});
	return (
		holders.find(({ Names }) => Names.includes(`/${name}`)) ??
		holders.find(({ made }) => areMadeAtOnce(made, entry.value.facts.made))
	);
}

/** A container has a new name; its record goes with it. */
export async function followName(
	ref: string,
	services: Services,
): Promise<void> {
	const context = await contextOf(ref, services);
	if (!context) return;
	const { containers, store } = services;
	const name = context.container.Name.slice(1);
	const entry = await containers.find(name, context.facts);
	if (!entry || entry.key === containers.key(name)) return;
	const before = containers.name(entry.key);
	const other = await containers.get(name);
	const facts = other && (await contextOf(before, services))?.facts;
	if (facts && isSame(facts, other.value.facts)) {
		// two have exchanged their names: each one's record would be in the way of the other's for ever
		const both = await containers.exchange(entry, other);
		await ignoreConflict(store.commit(both));
		return;
	}
	const holder = await holderOf(entry, services);
	if (holder?.Names.includes(`/${before}`)) return; // of an image committed from that one
	await ignoreConflict(store.commit(await containers.rename(entry, name)));
}
