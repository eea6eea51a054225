import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
	type Arpanet,
	type ArpanetOptions,
	startArpanet,
} from "../test/lab/arpanet.ts";
import type { HostOptions } from "../test/lab/host.ts";
import { loadImages } from "../test/lab/images.ts";
import { type Host, type Lab, startLab } from "../test/lab/lab.ts";
import { Client, type Target } from "./connection.ts";

const PROXY = fileURLToPath(new URL("node-proxy.js", import.meta.url));

/** A pattern of our own with hooks that have nothing to do: what a hook costs in itself. */
export const HOOKED = "/v1.40/_ping";

/** One way to the engine. */
export interface Way {
	socketPath: string;
	client: Client;
}

/** A host with an engine, and the ways to it that are compared. */
export class Stage {
	readonly lab: Lab;
	readonly host: Host;
	readonly direct: Way;
	readonly node: Way;
	readonly gateway: Way;
	readonly arpanet: Arpanet;
	#ports = 2400;

	private constructor(lab: Lab, arpanet: Arpanet) {
		this.lab = lab;
		this.host = lab.hosts[0] as Host;
		this.arpanet = arpanet;
		this.direct = way(this.host.socketPath);
		this.node = way(socketOf(this.host, "node"));
		this.gateway = way(socketOf(this.host, "arpanet"));
	}

	/**
	 * @param hosts 3 for a cluster of Consul servers; only the first has an engine
	 */
	static async start(hosts: number, options: HostOptions = {}): Promise<Stage> {
		const lab = await startLab({ ...options, hosts, engine: false });
		try {
			const [host] = lab.hosts as [Host];
			await host.startEngine();
			await loadImages(host, ["busybox"]);
			await startNodeProxy(host);
			return new Stage(lab, await startArpanet(host, overSocket(host)));
		} catch (error) {
			await lab.stop();
			throw error;
		}
	}

	/** The ways by name, for tables and rounds. */
	get ways(): Record<"direct" | "node" | "gateway", Way> {
		return { direct: this.direct, node: this.node, gateway: this.gateway };
	}

	/** Another arpanet on the same host: a role, on a socket and a port of its own. */
	async more(
		role: string,
		name: string,
		// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
		configure: (config: any) => void = () => {},
		port = this.nextPort(),
	): Promise<{ arpanet: Arpanet; way: Way; port: number }> {
		const options = overSocket(this.host, name, (config) => {
			const listen = `127.0.0.1:${port}`;
			config.arpanet.adapter.listen = `tcp://${listen}`;
			config.adapters["arpanet-pre"] = `http://${listen}/pre-hook`;
			config.adapters["arpanet-post"] = `http://${listen}/post-hook`;
			configure(config);
		});
		const arpanet = await startArpanet(this.host, { ...options, role });
		return { arpanet, way: way(socketOf(this.host, name)), port };
	}

	/** A port on the host that no arpanet has yet. */
	nextPort(): number {
		return this.#ports++;
	}

	async stop(): Promise<void> {
		for (const { client } of Object.values(this.ways)) client.close();
		await this.lab.stop();
	}
}

/** The socket of an arpanet of that name on a host. */
export function socketOf(host: Host, name: string): string {
	return join(host.dataDir, `${name}.sock`);
}

function way(socketPath: string): Way {
	const target: Target = { socketPath };
	return { socketPath, client: new Client(target) };
}

function overSocket(
	host: Host,
	name = "arpanet",
	// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
	configure: (config: any) => void = () => {},
): ArpanetOptions {
	return {
		name,
		configure: (config) => {
			config.arpanet.gateway.listen = [`unix://${socketOf(host, name)}`];
			config.endpoints[`GET ${HOOKED}`] = {
				pre: ["arpanet-pre"],
				post: ["arpanet-post"],
			};
			configure(config);
		},
	};
}

async function startNodeProxy(host: Host): Promise<void> {
	const child = host.spawn(
		process.execPath,
		[PROXY, host.socketPath, socketOf(host, "node")],
		{ stdio: ["ignore", "pipe", "inherit"] },
	);
	if (child.stdout) await once(child.stdout, "data");
}
