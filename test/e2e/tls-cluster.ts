import type { ExecutionContext } from "ava";
import type { NetworkInspect } from "../../pipeline/docker.ts";
import type { Arpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import {
	type Certificates,
	type LabCluster,
	startCluster,
} from "../lab/cluster.ts";
import type { Host } from "../lab/lab.ts";
import { eventually } from "./stage.ts";

/** Three hosts under TLS, and what their containers see of each other. */
export class TlsCluster {
	/** By host. */
	gateways: Arpanet[];
	readonly #lab: LabCluster;
	#turn = 0;

	private constructor(lab: LabCluster) {
		this.#lab = lab;
		this.gateways = lab.gateways;
	}

	static async start(): Promise<TlsCluster> {
		return new TlsCluster(await startCluster({ hosts: 3 }));
	}

	stop(): Promise<void> {
		return this.#lab.stop();
	}

	get hosts(): [Host, Host, Host] {
		return this.#lab.hosts as [Host, Host, Host];
	}

	/** This machine's address on the hosts' wire. */
	get wire(): string {
		return this.#lab.gateway;
	}

	get certificates(): Certificates {
		return this.#lab.certificates;
	}

	/** Any of the three gateways, in turn: each is the whole cluster. */
	any(): Arpanet {
		return this.gateways[this.#turn++ % this.gateways.length] as Arpanet;
	}

	/** The docker CLI at a gateway; whatever its exit code. */
	ask(gateway: Arpanet, ...args: string[]) {
		return docker(gateway, args, { env: this.#lab.certificates.client });
	}

	/** The docker CLI at any gateway. @returns what it prints */
	async cli(t: ExecutionContext, ...args: string[]): Promise<string> {
		const { code, stdout, stderr } = await this.ask(this.any(), ...args);
		t.is(code, 0, `docker ${args.join(" ")}\n${stderr}`);
		return stdout.trim();
	}

	/** A container that waits, on a host of the tester's choice. */
	run(
		t: ExecutionContext,
		name: string,
		host: Host,
		...args: string[]
	): Promise<string> {
		const where = ["-e", `constraint:node==${host.name}`];
		const kept = ["--name", name, "--hostname", name];
		const waits = ["busybox", "sleep", "3600"];
		return this.cli(t, "run", "-d", ...kept, ...where, ...args, ...waits);
	}

	async addressOf(
		t: ExecutionContext,
		container: string,
		network: string,
	): Promise<string> {
		const format = `{{(index .NetworkSettings.Networks "${network}").IPAddress}}`;
		return this.cli(t, "inspect", "-f", format, container);
	}

	/** Whether a packet gets from a container to an address and back. @param more arguments of ping */
	async reaches(from: string, to: string, ...more: string[]) {
		const ping = ["ping", "-c", "1", "-W", "2", ...more, to];
		return (await this.ask(this.any(), "exec", from, ...ping)).code === 0;
	}

	/** The same within half a minute. */
	soonReaches(from: string, to: string): Promise<boolean> {
		return eventually(() => this.reaches(from, to), Boolean, 30);
	}

	/** The addresses that a container gets for a name, sorted. */
	async resolves(
		container: string,
		name: string,
		...server: string[]
	): Promise<string[]> {
		const asking = ["exec", container, "nslookup", name, ...server];
		const { stdout } = await this.ask(this.any(), ...asking);
		const answer = stdout.slice(stdout.indexOf("\n\n"));
		const found = answer.matchAll(/^Address(?: \d+)?: (\d+\.\d+\.\d+\.\d+)/gm);
		return [...new Set([...found].map((match) => match[1] as string))].sort();
	}

	/** The same once there are so many: each host's Consul is a moment behind the others. */
	comesToResolve(container: string, name: string, count = 1) {
		return eventually(
			() => this.resolves(container, name),
			(found) => found.length >= count,
		);
	}

	/** The address that a program in a container takes for a name; nslookup asks in all networks, a program in one after the other. */
	async firstOf(container: string, name: string): Promise<string> {
		const ping = ["ping", "-c", "1", "-W", "1", name];
		return eventually(
			async () => {
				const { stdout } = await this.ask(
					this.any(),
					"exec",
					container,
					...ping,
				);
				return /\((\d+\.\d+\.\d+\.\d+)\)/.exec(stdout)?.[1] ?? "";
			},
			(found) => found !== "",
		);
	}

	async inspect(t: ExecutionContext, ref: string, gateway = this.any()) {
		const { code, stdout, stderr } = await this.ask(
			gateway,
			"network",
			"inspect",
			ref,
		);
		t.is(code, 0, stderr);
		return JSON.parse(stdout)[0] as NetworkInspect;
	}
}
