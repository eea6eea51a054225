import { Resolver } from "node:dns/promises";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { inspect } from "node:util";
import test from "ava";
import type { Result } from "../../examples/images/tools.ts";
import type {
	ContainerInspect,
	ContainerSummary,
	NetworkInspect,
} from "../../pipeline/docker.ts";
import { Engine } from "../../pipeline/engine.ts";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import type { HostOptions } from "../lab/host.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";

/**
 * One host with `arpanet up` on it, and what a test asks of it from outside. With `STAGE_HOSTS=3` in the environment, three:
 * then each command goes through any of their gateways, the same ones for the same `SEED`.
 */
export class Stage {
	readonly lab: Lab;
	readonly host: Host;
	/** The engine itself, to see what is true; of several hosts, what the first one's gateway says of them. */
	readonly engine: Engine;
	/** `SEED` of the environment, else another each time. */
	readonly seed = Number(process.env.SEED ?? Date.now() % 100_000);
	readonly #gateways: Arpanet[];
	readonly #below = random(this.seed);
	readonly #resolver = new Resolver({ timeout: 2_000, tries: 3 });

	private constructor(lab: Lab, gateways: Arpanet[]) {
		const [host] = lab.hosts as [Host];
		this.lab = lab;
		this.host = host;
		this.#gateways = gateways;
		const [first] = gateways as [Arpanet];
		this.engine = new Engine(gateways.length > 1 ? first.docker : host.docker);
		this.#resolver.setServers([host.address]);
	}

	/** arpanet on the host; on several, on any. */
	get arpanet(): Arpanet {
		return this.#gateways[this.#below(this.#gateways.length)] as Arpanet;
	}

	static async start(options: HostOptions = {}): Promise<Stage> {
		const hosts = Number(process.env.STAGE_HOSTS ?? 1);
		const lab = await startLab({ ...options, hosts });
		try {
			const [first] = lab.hosts as [Host];
			await loadImages(first);
			const gateways = await Promise.all(
				lab.hosts.map((host) =>
					startArpanet(host, {
						configure: ({ arpanet }) => {
							if (hosts === 1) return;
							arpanet.host.engine = `tcp://${host.address}:2377`;
						},
					}),
				),
			);
			for (const gateway of hosts > 1 ? gateways : []) {
				await until(
					() => docker(gateway, ["info"]),
					({ stdout }) => stdout.includes(`Hosts: ${hosts}`),
					60,
				);
			}
			return new Stage(lab, gateways);
		} catch (error) {
			await lab.stop();
			throw error;
		}
	}

	/** What is published at an address as Docker says it: of one host, "all addresses" are its own. */
	url(address: string): string {
		return `http://${address.trim().replace("0.0.0.0", this.host.address)}/`;
	}

	/** The host that a container is on. */
	async hostOf(container: string): Promise<Host> {
		for (const host of this.lab.hosts) {
			const { code } = await docker(host, ["inspect", container]);
			if (code === 0) return host;
		}
		throw new Error(`no host has ${container}`);
	}

	async stop(): Promise<void> {
		this.engine.close();
		await this.lab.stop();
	}

	/** The last warnings and errors that arpanet has logged, and what chose the gateways. */
	complaints(): string {
		const lines = this.#gateways.map((each) => each.log()).join("\n");
		return lines
			.split("\n")
			.filter((line) => !line.includes('"level":30'))
			.slice(-30)
			.concat(`SEED=${this.seed}`)
			.join("\n");
	}

	/** Writes a file into the host's folder and returns its path. */
	async file(name: string, text: string): Promise<string> {
		const path = join(this.host.dataDir, "files", name);
		await mkdir(dirname(path), { recursive: true });
		await writeFile(path, text);
		return path;
	}

	/** The addresses that Consul's DNS gives for a name, sorted. */
	async dns(name: string): Promise<string[]> {
		await this.#caughtUp();
		try {
			return (await this.#resolver.resolve4(`${name}.service.consul`)).sort();
		} catch (error) {
			const { code } = error as NodeJS.ErrnoException;
			if (code === "ENOTFOUND" || code === "ENODATA") return [];
			throw error;
		}
	}

	/** The addresses that a container gets for a name as it would look it up itself, sorted. */
	async dnsInside(container: string, name: string): Promise<string[]> {
		await this.#caughtUp();
		const { stdout } = await this.inside(container, "nslookup", name);
		const answer = stdout.slice(stdout.indexOf("\n\n"));
		const found = answer.matchAll(/^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)/gm);
		return [...new Set([...found].map((match) => match[1] as string))].sort();
	}

	/** Returns when each host's Consul, which answers DNS from its own copy, knows of all services that the leader knew of. */
	async #caughtUp(): Promise<void> {
		if (this.lab.hosts.length === 1) return;
		const index = async ({ consul }: Host, mode: string) => {
			const answer = await fetch(`${consul}/v1/catalog/services?${mode}`);
			return Number(answer.headers.get("x-consul-index"));
		};
		const newest = await index(this.host, "consistent");
		const behind = (host: Host) =>
			eventually(
				() => index(host, "stale"),
				(own) => own >= newest,
			);
		await Promise.all(this.lab.hosts.map(behind));
	}

	/** Runs a command in a container, through the gateway. */
	inside(container: string, ...command: string[]): Promise<Result> {
		return docker(this.arpanet, ["exec", container, ...command]);
	}

	/** All containers of a project, stopped ones too, as the engine has them, by name. */
	async containers(
		project: string,
		service?: string,
	): Promise<ContainerInspect[]> {
		const rows: ContainerSummary[] = await this.engine.listContainers(
			`com.docker.compose.project=${project}`,
		);
		const all = await Promise.all(
			rows.map(({ Id }) => this.engine.inspectContainer(Id)),
		);
		return all
			.filter((each) => each !== undefined)
			.filter(({ Config }) => !service || serviceOf(Config.Labels) === service)
			.sort((a, b) => a.Name.localeCompare(b.Name));
	}

	/** How many hosts the containers of a project are on. */
	async spread(project: string): Promise<number> {
		const labels = (await this.containers(project)).map(
			({ Config }) => Config.Labels?.["arpanet.host"],
		);
		return new Set(labels).size;
	}

	/** The addresses of the running copies of a service in one of its networks, as the engine has them, sorted. */
	async running(
		project: string,
		service: string,
		network = `${project}_default`,
	): Promise<string[]> {
		return (await this.containers(project, service))
			.filter(({ State }) => State.Running && !State.Paused)
			.filter(({ Config }) => !isOneOff(Config.Labels))
			.map((container) => addressIn(container, network))
			.sort();
	}

	network(name: string): Promise<NetworkInspect | undefined> {
		return this.engine.inspectNetwork(name);
	}

	/** Consul's keys under a prefix, with their values as text. */
	async kv(prefix = "arpanet/"): Promise<Record<string, string>> {
		const answer = await fetch(`${this.host.consul}/v1/kv/${prefix}?recurse`);
		if (answer.status === 404) return {};
		const rows = (await answer.json()) as { Key: string; Value: string }[];
		return Object.fromEntries(
			rows.map(({ Key, Value }) => [
				Key,
				Buffer.from(Value, "base64").toString(),
			]),
		);
	}

	/** Consul's keys under a prefix. */
	async keys(prefix = "arpanet/"): Promise<string[]> {
		return Object.keys(await this.kv(prefix));
	}

	/** Addresses leased to containers in a network, each with the container's name. */
	async leases(scope: string): Promise<Record<string, string>> {
		const prefix = `arpanet/leases/${scope}/`;
		const leases = Object.entries(await this.kv(prefix)).map(([key, value]) => [
			key.slice(prefix.length),
			JSON.parse(value).container,
		]);
		return Object.fromEntries(leases.filter(([, container]) => container));
	}

	/** Whatever in Docker and in Consul speaks of a deployment. */
	async traces(project: string): Promise<string[]> {
		const named = new RegExp(`(^|[^a-z0-9])${project}([^a-z0-9]|$)`);
		const containers = await this.containers(project);
		const networks = await this.engine.listNetworks("arpanet.network");
		const registered = await this.registered();
		return [
			...containers.map(({ Name }) => Name),
			...networks.map(({ Name }) => Name),
			...registered.map(({ id, name }) => `${id} ${name}`),
			...Object.entries(await this.kv())
				.filter(([key]) => !/^arpanet\/(repairs|images)\//.test(key)) // images stay
				.map((entry) => entry.join(" ")),
		].filter((trace) => named.test(trace));
	}

	/** Names of all volumes, as the engines have them, sorted. */
	async volumes(): Promise<string[]> {
		const lists = await Promise.all(
			this.lab.hosts.map((host) => docker(host, ["volume", "ls", "-q"])),
		);
		return lists.flatMap(({ stdout }) => stdout.match(/.+/g) ?? []).sort();
	}

	/** What is registered under the hosts, by ServiceID. */
	async registered(): Promise<{ id: string; name: string; address: string }[]> {
		const nodes = await Promise.all(
			this.lab.hosts.map(async ({ name }) => {
				const answer = await fetch(
					`${this.host.consul}/v1/catalog/node/arpanet-${name}`,
				);
				return (await answer.json()) as {
					Services: Record<
						string,
						{ ID: string; Service: string; Address: string }
					>;
				} | null;
			}),
		);
		return nodes
			.flatMap((node) => Object.values(node?.Services ?? {}))
			.map(({ ID, Service, Address }) => ({
				id: ID,
				name: Service,
				address: Address,
			}))
			.sort((a, b) => a.id.localeCompare(b.id));
	}
}

/** A test that on several hosts is left out unless the environment has `ALL_TESTS`: each takes long there. */
export const thorough =
	process.env.STAGE_HOSTS && !process.env.ALL_TESTS
		? test.serial.skip
		: test.serial;

/** Numbers below what is asked for, the same ones for the same seed: a linear congruential generator. */
export function random(seed: number): (below: number) => number {
	let state = BigInt(seed);
	return (below) => {
		state = (state * 6364136223846793005n + 1442695040888963407n) % (1n << 64n);
		return Number(state >> 33n) % below;
	};
}

/** Calls until it does not throw, for as long as a slow machine may need. */
export async function within<T>(
	seconds: number,
	attempt: () => Promise<T>,
): Promise<T> {
	const end = performance.now() + seconds * 1000;
	for (;;) {
		try {
			return await attempt();
		} catch (error) {
			if (performance.now() > end) throw error;
			await sleep(100);
		}
	}
}

/** Gives what a look gives once it satisfies; for a test to assert on, it gives the last one when time is up. */
export async function eventually<T>(
	look: () => Promise<T>,
	satisfies: (seen: T) => boolean,
	seconds = 20,
): Promise<T> {
	const end = performance.now() + seconds * 1000;
	for (;;) {
		const seen = await look();
		if (satisfies(seen) || performance.now() > end) return seen;
		await sleep(100);
	}
}

/** Looks until what it sees satisfies. @throws Error telling what was seen last, when time is up */
export async function until<T>(
	look: () => Promise<T>,
	satisfies: (seen: T) => boolean,
	seconds = 20,
): Promise<void> {
	const seen = await eventually(look, satisfies, seconds);
	if (satisfies(seen)) return;
	throw new Error(`not so after ${seconds} s: ${inspect(seen)}`);
}

/** A container's address in a network, as Docker has it. */
export function addressIn(
	{ NetworkSettings }: ContainerInspect,
	network: string,
): string {
	return NetworkSettings.Networks[network]?.IPAddress ?? "";
}

function serviceOf(labels: Record<string, string> | null): string | undefined {
	return labels?.["com.docker.compose.service"];
}

function isOneOff(labels: Record<string, string> | null): boolean {
	return labels?.["com.docker.compose.oneoff"] === "True";
}
