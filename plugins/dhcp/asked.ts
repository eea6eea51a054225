import {
	type ContainerCreate,
	isUnasked,
	type NetworkCreate,
} from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { WantedNetwork } from "../../pipeline/state/networks.ts";

/** The network that a deployment has without asking. @param host where its first container is placed */
export function implicitNetwork(
	deployment: string,
	host: string,
	subnet: string | undefined,
): WantedNetwork {
	return {
		scope: deployment,
		deployment,
		name: `${deployment}_default`,
		implicit: true,
		host,
		...(subnet ? { subnet } : {}),
	};
}

/** What a network asks for beside its addresses, for every host that it comes to. */
export function askedOf({
	Internal,
	Attachable,
	Options,
	Labels,
}: NetworkCreate): Pick<WantedNetwork, "body"> {
	const own = Object.entries(Labels ?? {}).filter(
		([label]) => !label.startsWith("arpanet."),
	);
	const body = {
		...(Internal ? { Internal } : {}),
		...(Attachable ? { Attachable } : {}),
		...(Object.keys(Options ?? {}).length > 0 ? { Options } : {}),
		...(own.length > 0 ? { Labels: Object.fromEntries(own) } : {}),
	};
	return Object.keys(body).length > 0 ? { body } : {};
}

/** Subnet, gateway, range and addresses of others that the user asks for, in IPv4; IPv6 is Docker's. */
export function rangeOf(body: NetworkCreate) {
	const ranges = body.IPAM?.Config ?? [];
	const asked = ranges.find(({ Subnet }) => !Subnet?.includes(":"));
	const others = Object.values(asked?.AuxiliaryAddresses ?? {});
	return {
		asked,
		rest: ranges.filter((range) => range !== asked),
		wanted: {
			...(asked?.Subnet ? { subnet: asked.Subnet } : {}),
			...(asked?.Gateway ? { gateway: asked.Gateway } : {}),
			...(asked?.IPRange ? { range: asked.IPRange } : {}),
			...(others.length > 0 ? { reserved: others } : {}),
		},
	};
}

/** The address that the user fixed himself, if he did. @param name of the network */
export function requested(
	body: ContainerCreate,
	name: string,
): string | undefined {
	const endpoint = body.NetworkingConfig?.EndpointsConfig?.[name];
	if (endpoint?.IPAMConfig?.IPv4Address) return endpoint.IPAMConfig.IPv4Address;
	return isUnasked(name) ? weaveCidr(body)?.split("/")[0] : undefined;
}

/** `WEAVE_CIDR=10.2.1.7/24` set by the user: his address and subnet, to be leased as they are. */
export function weaveCidr(body: ContainerCreate): string | undefined {
	return body.Env?.find((pair) => pair.startsWith("WEAVE_CIDR="))?.slice(11);
}

/** @throws HttpError 400 for a size that is no number in range */
export function sizeAsked(label: string | undefined, usual: number): number {
	if (label === undefined) return usual;
	const size = Number(label);
	if (Number.isInteger(size) && size >= 1 && size <= 65_534) return size;
	throw new HttpError(
		400,
		`dhcp: label arpanet.size=${label} is no number of addresses; use 1 to 65534`,
	);
}
