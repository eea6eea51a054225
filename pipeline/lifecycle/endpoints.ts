import type { EndpointSettings } from "../docker.ts";
import type { Engine } from "../engine.ts";
import { HttpError } from "../errors.ts";
import type { Services } from "../plugin.ts";

/**
 * Takes out, in place, what clients say of the ids of networks of ours beside their names, as who makes a container anew from what inspect says of
 * the last one: an engine goes by the id alone, and it may be another host's.
 * @param endpoints by network
 * @returns whether there were any
 * @throws HttpError 400 for another network's id: there nobody would lease an address
 */
export async function forgetIds(
	endpoints: Record<string, EndpointSettings | null | undefined>,
	{ engine, networks }: Pick<Services, "engine" | "networks">,
): Promise<boolean> {
	let any = false;
	for (const [name, settings] of Object.entries(endpoints)) {
		const id = settings?.NetworkID;
		if (!id || (await isForeign(name, id, engine))) continue;
		const [named, meant] = [await networks.find(name), await networks.find(id)];
		if (!named && !meant) continue; // neither is ours
		if (meant && meant.key !== named?.key) {
			throw new HttpError(
				400,
				`network ${name} has NetworkID ${id}, which is ${meant.value.name}; name that network, or leave NetworkID out`,
			);
		}
		delete settings.NetworkID;
		any = true;
	}
	return any;
}

/** Whether an engine says, also without Consul, that a name and an id are those of a network that is none of ours. */
async function isForeign(
	name: string,
	id: string,
	engine: Engine,
): Promise<boolean> {
	const network = await engine.inspectNetwork(id).catch(() => undefined);
	return network?.Name === name && !network.Labels?.["arpanet.network"];
}
