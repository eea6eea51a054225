import type { ListenOptions, Server } from "node:net";
import type { Logger } from "pino";
import { messageOf } from "./errors.ts";
import { describe, listenerAt } from "./listeners.ts";

/**
 * Makes a server listen. What goes wrong with it later, such as no file handles for one more
 * connection, is logged and ends nothing.
 * @param address as messages call it
 * @throws Error naming the address, the cause and the remedy
 */
export function listening(
	server: Server,
	where: ListenOptions,
	{ address, log }: { address: string; log: Logger },
): Promise<void> {
	return new Promise((resolve, reject) => {
		const failed = async (error: NodeJS.ErrnoException) => {
			const why =
				error.code === "EADDRINUSE"
					? `${await whoListens(where)} listens there; stop it or choose another address`
					: messageOf(error);
			reject(
				new Error(`cannot listen on ${address}: ${why}`, { cause: error }),
			);
		};
		server.once("error", failed);
		server.listen(where, () => {
			server.off("error", failed);
			server.on("error", (err) => log.error({ err, address }, "cannot accept"));
			resolve();
		});
	});
}

async function whoListens({ path, port }: ListenOptions): Promise<string> {
	const place = path ? { path } : { port: Number(port) };
	return describe(await listenerAt(place).catch(() => undefined));
}
