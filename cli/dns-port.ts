import { createSocket } from "node:dgram";
import { messageOf } from "../pipeline/errors.ts";
import { bindTcp, describe, listenerAt } from "../pipeline/listeners.ts";

/** Where containers ask: they cannot be told another port. */
export const DNS_PORT = 53;

/**
 * Checks that DNS can be served at an address.
 * @throws Error naming the address, who has it, and the remedy
 */
export async function mustBeFreeForDns(address: string): Promise<void> {
	for (const bind of [bindUdp, bindTcp]) {
		try {
			await bind(address, DNS_PORT);
		} catch (error) {
			throw new Error(await whyNoDns(address, error as NodeJS.ErrnoException));
		}
	}
}

async function whyNoDns(
	address: string,
	error: NodeJS.ErrnoException,
): Promise<string> {
	const where = `consul: cannot serve DNS on ${address}:${DNS_PORT}`;
	switch (error.code) {
		case "EADDRINUSE":
			return `${where}: ${describe(await listenerAt({ port: DNS_PORT }))} listens there; stop it or bind it to other addresses, or set arpanet.host.address to another address of this host`;
		case "EADDRNOTAVAIL":
			return `${where}: it is no address of this machine; set arpanet.host.address to one that containers can reach`;
		case "EACCES":
			return `${where}: not allowed; run arpanet as root`;
		default:
			return `${where}: ${messageOf(error)}`;
	}
}

function bindUdp(address: string, port: number): Promise<void> {
	const socket = createSocket("udp4");
	return new Promise((resolve, reject) => {
		socket.once("error", reject);
		socket.bind(port, address, () => socket.close(() => resolve()));
	});
}
