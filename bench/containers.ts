import type { Client } from "./connection.ts";

/** A create body of a container that just waits. */
export interface Body {
	Image: string;
	Cmd: string[];
	Env?: string[];
	Labels?: Record<string, string>;
	HostConfig?: Record<string, unknown>;
	NetworkingConfig?: object;
}

const WAITING: Body = { Image: "busybox", Cmd: ["sleep", "100000"] };

/** What is created: as docker run does it, or as a copy of a deployment's service. */
export type Kind = "plain" | "network" | "deployment";

/** The deployment whose container everything is done for. */
export const DEPLOYMENT = "bench";
/** What arpanet gives a container, given by hand: a network of its own and an address in it. */
const NETWORK = "by-hand";

let counter = 0;

/** Makes, starts and removes containers over one way; what a kind needs is made by `prepare`. */
export class Containers {
	readonly #client: Client;
	readonly #kind: Kind;
	readonly #host: string | undefined;

	/** @param host the only one that they may go to, if there are several */
	constructor(client: Client, kind: Kind, host?: string) {
		this.#client = client;
		this.#kind = kind;
		this.#host = host;
	}

	/** Makes the network by hand, if no section before has. */
	static async prepare(engine: Client): Promise<void> {
		const { body } = await engine.ask("GET", "/v1.40/networks");
		if (body.includes(`"${NETWORK}"`)) return;
		const Config = [{ Subnet: "10.99.0.0/16", Gateway: "10.99.0.1" }];
		await engine.ask("POST", "/v1.40/networks/create", {
			Name: NETWORK,
			CheckDuplicate: true,
			IPAM: { Config },
		});
	}

	/** @returns its id */
	async create(): Promise<string> {
		const number = ++counter;
		const path = `/v1.40/containers/create?name=${this.#kind}-copy-${number}`;
		const { body } = await this.#client.ask(
			"POST",
			path,
			bodyOf(this.#kind, number, this.#host),
		);
		return (JSON.parse(body) as { Id: string }).Id;
	}

	async start(id: string): Promise<void> {
		await this.#client.ask("POST", `/v1.40/containers/${id}/start`);
	}

	/** Kills it if it runs. */
	async remove(id: string): Promise<void> {
		await this.#client.ask("DELETE", `/v1.40/containers/${id}?force=1`);
	}
}

function bodyOf(kind: Kind, number: number, host: string | undefined): Body {
	switch (kind) {
		case "plain":
			return WAITING;
		case "deployment":
			return {
				...WAITING,
				Labels: { "arpanet.deployment": DEPLOYMENT },
				...(host ? { Env: [`constraint:node==${host}`] } : {}),
			};
		case "network": {
			const IPv4Address = `10.99.${1 + (number >> 8)}.${number & 255}`;
			return {
				...WAITING,
				HostConfig: { NetworkMode: NETWORK },
				NetworkingConfig: {
					EndpointsConfig: { [NETWORK]: { IPAMConfig: { IPv4Address } } },
				},
			};
		}
	}
}
