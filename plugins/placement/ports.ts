import type { ContainerCreate } from "../../pipeline/docker.ts";
import { PORTS } from "../../pipeline/state/containers.ts";
import { withoutAddress } from "../../pipeline/state/use.ts";
import { holders, type PartMaker } from "./part.ts";

/** A create is one transaction of at most 64 operations: of a long row of ports the first stand for all. */
const MAX_KEYS = 29;

/** A fixed port of the host is one container's at a time, stopped ones too. A single host is left to its engine. */
export const ports: PartMaker = (_, { cluster, store }) => ({
	async place(context) {
		const asked = fixedPorts(context.body);
		if (asked.length === 0 || cluster.alone) return undefined;

		const known = await holders(context, PORTS, store);
		const hosts = new Map(
			(await cluster.all()).map(({ name, address }) => [address, name]),
		);
		return {
			filter({ name, use }) {
				for (const port of asked) {
					const address = port.slice(0, Math.max(0, port.lastIndexOf(":")));
					const owner = hosts.get(address);
					if (owner && owner !== name)
						return `${address} is ${owner}'s address`;
					const number = withoutAddress(port);
					for (const { ports = [], container } of use.askFor(number)) {
						if (ports.some((other) => clash(port, other))) {
							return `port ${port} is taken by ${container}`;
						}
					}
					const holder = known.get(keyOf(name, port));
					if (holder) return `port ${port} is taken by ${holder}`;
				}
				return undefined;
			},
		};
	},
	keys: ({ body }, host) =>
		cluster.alone
			? []
			: fixedPorts(body)
					.slice(0, MAX_KEYS)
					.map((port) => keyOf(host, port)),
});

/** The ports of the host that a container asks for: `80/tcp`, or `10.0.0.1:80/tcp` on one address alone. */
export function fixedPorts({ HostConfig }: ContainerCreate): string[] {
	const found = new Set<string>();
	const bindings = Object(HostConfig?.PortBindings) as Record<string, unknown>;
	for (const [port, wanted] of Object.entries(bindings)) {
		const protocol = port.split("/")[1] ?? "tcp";
		if (!Array.isArray(wanted)) continue;
		for (const each of wanted) {
			const { HostIp, HostPort } = Object(each) as Record<string, unknown>;
			if (!/^[1-9]\d*$/.test(String(HostPort))) continue; // a range, or any
			const address = HostIp && HostIp !== "0.0.0.0" ? `${HostIp}:` : "";
			found.add(`${address}${HostPort}/${protocol}`);
		}
	}
	return [...found];
}

/** Whether two ports of one number are in each other's way: on any address, or on the same. */
function clash(a: string, b: string): boolean {
	return a === b || !a.includes(":") || !b.includes(":");
}

function keyOf(host: string, port: string): string {
	return `${PORTS}${host}/${port.replace("/", "-")}`;
}
