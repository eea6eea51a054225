import { isDeepStrictEqual } from "node:util";
import type { Listed } from "../view/host-view.ts";

/**
 * With several hosts, "all addresses" is said as the one by which the others reach the host; a second line for IPv6 of the same port is
 * left out.
 */
const EVERYWHERE = "0.0.0.0";
const EVERYWHERE_6 = "::";

interface Port {
	IP?: string;
	PrivatePort?: number;
	PublicPort?: number;
	Type?: string;
}

/** A row of a host's list, with the host's address where it publishes ports. */
export function ofHost(row: Listed, address: string): Listed {
	const head = row.head.toString();
	// within a string its quotes were escaped
	const ports = head.replace(/(?<!\\)"Ports":(\[\{[^\]]*\])/, (_, text) => {
		const all = JSON.parse(text) as Port[];
		const own = all
			.filter((port) => {
				const twin = { ...port, IP: EVERYWHERE };
				return (
					port.IP !== EVERYWHERE_6 ||
					!all.some((each) => isDeepStrictEqual(each, twin))
				);
			})
			.map((port) =>
				port.IP === EVERYWHERE ? { ...port, IP: address } : port,
			);
		return `"Ports":${JSON.stringify(own)}`;
	});
	return ports === head ? row : { ...row, head: Buffer.from(ports) };
}

/** `NetworkSettings.Ports` of an inspected container: `{"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}`. */
export type PortMap = Record<
	string,
	{ HostIp: string; HostPort: string }[] | null
>;

/** The ports that an inspected container publishes, with its host's address. */
export function portsOf(ports: PortMap, address: string): PortMap {
	return Object.fromEntries(
		Object.entries(ports).map(([port, bindings]) => [
			port,
			bindings
				?.filter(
					({ HostIp, HostPort }) =>
						HostIp !== EVERYWHERE_6 ||
						!bindings.some(
							(each) =>
								each.HostIp === EVERYWHERE && each.HostPort === HostPort,
						),
				)
				.map((binding) =>
					binding.HostIp === EVERYWHERE
						? { ...binding, HostIp: address }
						: binding,
				) ?? null,
		]),
	);
}
