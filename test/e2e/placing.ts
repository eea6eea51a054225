import type { ExecutionContext } from "ava";
import { type Arpanet, LASTING } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { startOpenCluster, startOpenMember } from "../lab/cluster.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { eventually, until } from "./stage.ts";

/** What a host's powerstrip.yml says of it. */
const LABELS: Record<string, Record<string, string>> = {
	h1: { disk: "ssd", zone: "eu-1" },
	h2: { disk: "hdd", zone: "eu-2" },
	h3: { zone: "us-1" },
};

/** Three hosts with labels, and where containers come to be on them. */
export class Placing {
	/** By host. */
	gateways: [Arpanet, Arpanet, Arpanet];
	readonly #lab: Lab;

	private constructor(lab: Lab, gateways: Arpanet[]) {
		this.#lab = lab;
		this.gateways = gateways as [Arpanet, Arpanet, Arpanet];
	}

	static async start(): Promise<Placing> {
		const { gateways, ...lab } = await startOpenCluster(labelled);
		return new Placing(lab, gateways);
	}

	stop(): Promise<void> {
		return this.#lab.stop();
	}

	get hosts(): [Host, Host, Host] {
		return this.#lab.hosts as [Host, Host, Host];
	}

	/** Starts arpanet anew on the second and the third host, each with its settings of placement. */
	async restart(second: object, third: object): Promise<void> {
		const [first, ...others] = this.gateways;
		await Promise.all(others.map((gateway) => gateway.stop()));
		const start = (host: Host, placement: object) =>
			startOpenMember(host, "arpanet", (config) => {
				labelled(config, host);
				const { plugins } = config.arpanet;
				plugins[plugins.indexOf("placement")] = { placement };
			});
		this.gateways = [
			first,
			await start(this.hosts[1], second),
			await start(this.hosts[2], third),
		];
		for (const gateway of this.gateways) {
			await until(
				() => docker(gateway, ["info"]),
				({ stdout }) => stdout.includes("Hosts: 3"),
				60,
			);
		}
	}

	/** Runs the docker CLI against one of the gateways, by its host's number. */
	at(gateway: number, ...args: string[]) {
		return docker(this.gateways[gateway - 1] as Arpanet, args);
	}

	/** Creates a container and says on which host it is, or what the user reads instead. */
	place(name: string, ...args: string[]): Promise<string> {
		return this.placeAt(1, name, ...args);
	}

	/** The same through the gateway of a host. */
	async placeAt(
		gateway: number,
		name: string,
		...args: string[]
	): Promise<string> {
		const { code, stderr } = await this.at(
			gateway,
			...["create", "--name", name, ...args, "busybox", "sleep", "100"],
		);
		return code === 0 ? this.hostOf(name) : stderr.trim();
	}

	/** Creates through one of the gateways without a client in between. */
	async create(i: number, name: string, body: object) {
		const { docker } = this.gateways[i % 3] as Arpanet;
		const url = docker.replace("tcp:", "http:");
		const answer = await fetch(`${url}/v1.41/containers/create?name=${name}`, {
			method: "POST",
			headers: { "content-type": "application/json" },
			body: JSON.stringify(body),
		});
		const { message = "" } = (await answer.json()) as { message?: string };
		return { status: answer.status, message };
	}

	async hostOf(container: string): Promise<string> {
		for (const host of this.hosts) {
			const { stdout } = await docker(host, [
				...["ps", "-aq", "-f", `name=^${container}$`],
			]);
			if (stdout.trim()) return host.name;
		}
		return "nowhere";
	}

	/** `plan_web_1 h1` of all whose names begin so. */
	async perContainer(prefix: string): Promise<string[]> {
		const found = await Promise.all(
			this.hosts.map(async (host) => {
				const format = ["--format", "{{.Names}}", "-f", `name=^${prefix}`];
				const { stdout } = await docker(host, ["ps", "-a", ...format]);
				const names = stdout.split("\n").filter(Boolean);
				return names.map((name) => `${name} ${host.name}`);
			}),
		);
		return found.flat();
	}

	/** What Consul has under a prefix. */
	async keys(prefix: string): Promise<string[]> {
		const [{ consul }] = this.hosts;
		const answer = await fetch(`${consul}/v1/kv/${prefix}?keys`);
		return answer.ok ? ((await answer.json()) as string[]) : [];
	}

	/** Removes the containers whose names have a part like this. */
	async removeAll(t: ExecutionContext, part: string): Promise<void> {
		const { stdout } = await this.at(1, "ps", "-aq", "-f", `name=${part}`);
		const ids = stdout.split("\n").filter(Boolean);
		if (ids.length === 0) return;
		const { code, stderr } = await this.at(1, "rm", "-fv", ...ids);
		t.is(code, 0, stderr);
	}

	/** All containers go, and nothing is left on record. */
	async nothingIsLeft(t: ExecutionContext): Promise<void> {
		await this.removeAll(t, "");
		const left = await eventually(
			async () =>
				(await this.keys("arpanet/")).filter((key) => !LASTING.test(key)),
			(all) => all.length === 0,
			60,
		);
		t.deepEqual(left, []);
	}
}

// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
function labelled({ arpanet }: any, host: Host): void {
	arpanet.host.labels = LABELS[host.name];
}
