import type { Arpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { startOpenCluster } from "../lab/cluster.ts";
import { loadImages } from "../lab/images.ts";
import type { Host, Lab } from "../lab/lab.ts";

/** Three hosts, each with busybox, whose gateways are asked in turn: any is the whole cluster. */
export class Cluster {
	readonly hosts: [Host, Host, Host];
	/** By host. */
	readonly gateways: [Arpanet, Arpanet, Arpanet];
	readonly #lab: Lab;
	#turn = 0;

	private constructor(lab: Lab, gateways: Arpanet[]) {
		this.#lab = lab;
		this.hosts = lab.hosts as [Host, Host, Host];
		this.gateways = gateways as [Arpanet, Arpanet, Arpanet];
	}

	static async start(): Promise<Cluster> {
		const { gateways, ...lab } = await startOpenCluster();
		const cluster = new Cluster(lab, gateways);
		const others = cluster.hosts.slice(1);
		await Promise.all(others.map((host) => loadImages(host, ["busybox"])));
		return cluster;
	}

	stop(): Promise<void> {
		return this.#lab.stop();
	}

	/** The gateway whose turn it is. */
	next(): Arpanet {
		return this.gateways[this.#turn++ % this.gateways.length] as Arpanet;
	}

	/** The docker CLI at the next gateway. @returns what it prints @throws Error with what it says */
	async cli(...args: string[]): Promise<string> {
		const { code, stdout, stderr } = await docker(this.next(), args);
		if (code !== 0) throw new Error(stderr || stdout);
		return stdout.trim();
	}

	/** The API through the next gateway, unless another is meant. */
	async api(
		method: string,
		path: string,
		body?: object,
		gateway = this.next(),
		// biome-ignore lint/suspicious/noExplicitAny: whatever Docker answers
	): Promise<{ status: number; body: any }> {
		const answer = await fetch(urlOf(gateway, path), {
			method,
			...(body && {
				body: JSON.stringify(body),
				headers: { "content-type": "application/json" },
			}),
		});
		const text = await answer.text();
		return { status: answer.status, body: text ? JSON.parse(text) : undefined };
	}

	/** The containers that the list says, by name. @param query as Docker takes it */
	async names(query: string): Promise<string[]> {
		const { status, body } = await this.api("GET", `/containers/json?${query}`);
		if (status !== 200) throw new Error(body.message);
		return body.map(({ Names }: { Names: string[] }) => Names[0]?.slice(1));
	}
}

/** What the API has at a gateway, for fetch. */
export function urlOf({ docker }: Arpanet, path: string): string {
	return docker.replace("tcp:", "http:") + path;
}

/** Part of a query. */
export function filters(by: object): string {
	return `filters=${encodeURIComponent(JSON.stringify(by))}`;
}

/** A container on a host that is not its gateway's choice: straight to the engine. */
export async function put(
	host: Host,
	name: string,
	...args: string[]
): Promise<void> {
	const run = ["run", "-d", "--name", name, "--stop-timeout", "0"];
	const { code, stderr } = await docker(host, [
		...run,
		...args,
		"busybox",
		"sleep",
		"1000",
	]);
	if (code !== 0) throw new Error(stderr);
}
