import { isDeepStrictEqual } from "node:util";
import type { Listed } from "../view/host-view.ts";

/**
 * Ports as they are said of one of several hosts: at all its addresses is at the one by which the others reach it. A second line for IPv6 of
 * the same port is left out.
 * @param key by which a port names its address
 */
function saidOf<K extends string, P extends { [key in K]?: string }>(
	ports: P[],
	key: K,
	address: string,
): P[] {
	const isSecond = (port: P) => {
		if (port[key] !== "::") return false;
		const first = { ...port, [key]: "0.0.0.0" };
		return ports.some((each) => isDeepStrictEqual(each, first));
	};
	return ports
		.filter((port) => !isSecond(port))
		.map((port) =>
			port[key] === "0.0.0.0" ? { ...port, [key]: address } : port,
		);
}

/** A row of a host's list, with the host's address where it publishes ports. */
export function ofHost(row: Listed, address: string): Listed {
	const head = row.head.toString();
	// within a string its quotes were escaped
	const ports = head.replace(/(?<!\\)"Ports":(\[\{[^\]]*\])/, (_, text) => {
		const all = JSON.parse(text) as { IP?: string }[];
		return `"Ports":${JSON.stringify(saidOf(all, "IP", address))}`;
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
			bindings && saidOf(bindings, "HostIp", address),
		]),
	);
}
