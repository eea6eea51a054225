import type { EndpointSettings } from "../docker.ts";
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
	{ networks }: Pick<Services, "networks">,
): Promise<boolean> {
	let any = false;
	for (const [name, settings] of Object.entries(endpoints)) {
		const id = settings?.NetworkID;
		if (!id) continue;
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
