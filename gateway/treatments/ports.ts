import type { Listed } from "../view/host-view.ts";

/** With several hosts, "all addresses" is said as the one by which the others reach the host. */
const EVERYWHERE = "0.0.0.0";
const EVERYWHERE_6 = "::";

interface Port {
	IP?: string;
}

/** A row of a host's list, with the host's address where it publishes ports. */
export function ofHost(row: Listed, address: string): Listed {
	const head = row.head.toString();
	// within a string its quotes were escaped
	const ports = head.replace(/(?<!\\)"Ports":(\[\{[^\]]*\])/, (_, text) => {
		const own = (JSON.parse(text) as Port[])
			.filter(({ IP }) => IP !== EVERYWHERE_6)
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
				?.filter(({ HostIp }) => HostIp !== EVERYWHERE_6)
				.map((binding) =>
					binding.HostIp === EVERYWHERE
						? { ...binding, HostIp: address }
						: binding,
				) ?? null,
		]),
	);
}
