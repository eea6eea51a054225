import { connect } from "node:net";

/** What dialling came to: `refused` is the machine's own answer. */
export type Reached = "open" | "refused" | "none";

/** Whether somebody takes a connection at an address. @param ms after which there is no answer */
export function reach(
	at: { host: string; port: number },
	ms: number,
): Promise<Reached> {
	return new Promise((resolve) => {
		const socket = connect(at);
		const end = (reached: Reached) => {
			clearTimeout(timer);
			socket.destroy();
			resolve(reached);
		};
		const timer = setTimeout(end, ms, "none");
		socket.once("connect", () => end("open"));
		socket.once("error", ({ code }: NodeJS.ErrnoException) =>
			end(code === "ECONNREFUSED" ? "refused" : "none"),
		);
	});
}
