import { Resolver } from "node:dns/promises";
import type { ExecutionContext } from "ava";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { type Arpanet, arpanetProgram } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { startOpenCluster, startOpenMember } from "../lab/cluster.ts";
import { loadImages } from "../lab/images.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { eventually, until } from "./stage.ts";

/** Three hosts, each with busybox, whose arpanets end and are started again. */
export class Members {
	readonly #lab: Lab;
	readonly #arpanets: Map<Host, Arpanet>;
	#starts = 0;

	private constructor(lab: Lab, gateways: Arpanet[]) {
		this.#lab = lab;
		this.#arpanets = new Map(
			lab.hosts.map((host, i) => [host, gateways[i] as Arpanet]),
		);
	}

	static async start(): Promise<Members> {
		const { gateways, ...lab } = await startOpenCluster();
		const others = lab.hosts.slice(1);
		await Promise.all(others.map((host) => loadImages(host, ["busybox"])));
		return new Members(lab, gateways);
	}

	stop(): Promise<void> {
		return this.#lab.stop();
	}

	get hosts(): [Host, Host, Host] {
		return this.#lab.hosts as [Host, Host, Host];
	}

	/** Those that run, or were started last. */
	get arpanets(): Iterable<Arpanet> {
		return this.#arpanets.values();
	}

	/** Starts a host's arpanet again. */
	async startAgain(host: Host): Promise<void> {
		const arpanet = await startOpenMember(host, `again${this.#starts++}`);
		this.#arpanets.set(host, arpanet);
	}

	gateway(host = this.hosts[0]): Arpanet {
		return this.#arpanets.get(host) as Arpanet;
	}

	/** The arpanet command on a host. */
	async command(host: Host, ...args: string[]) {
		return host.exec(process.execPath, [
			arpanetProgram,
			...args,
			"--config",
			this.gateway(host).config,
		]);
	}

	/** Consul lets a server that was lost vote again only after a while; until then it can lose no other. */
	async consulIsWhole(): Promise<void> {
		const [host] = this.hosts;
		await until(
			async () => {
				const answer = await fetch(
					`${host.consul}/v1/operator/autopilot/health`,
				);
				return (await answer.json()) as { FailureTolerance: number };
			},
			({ FailureTolerance }) => FailureTolerance === 1,
			60,
		);
	}

	/** Every agent has said that it lives. */
	async allAreHeard(): Promise<void> {
		await until(
			() =>
				Promise.all(
					this.hosts.map(({ name }) => this.value(hostKeys(name).alive)),
				),
			(all) => all.every(Boolean),
			30,
		);
	}

	/** What stands under a key, as the first of these hosts says whose Consul answers. */
	async value<T>(
		key: string,
		from: Host[] = this.hosts,
	): Promise<T | undefined> {
		for (const host of from) {
			const answer = await fetch(`${host.consul}/v1/kv/${key}?raw`, {
				signal: AbortSignal.timeout(2_000),
			}).catch(() => undefined);
			if (answer?.status === 404) return undefined;
			if (answer?.ok) return (await answer.json()) as T;
		}
		throw new Error("no Consul answers");
	}

	async put(key: string, content: unknown): Promise<void> {
		const [host] = this.hosts;
		await fetch(`${host.consul}/v1/kv/${key}`, {
			method: "PUT",
			body: JSON.stringify(content),
		});
	}

	/** The host whose agent leads, once one does that is not among `others`. */
	async leader(...others: (Host | undefined)[]): Promise<Host> {
		const names = others.map((host) => host?.name);
		const up = this.hosts.filter((host) => !others.includes(host));
		const found = await eventually(
			() =>
				this.value<{ host: string }>("arpanet/leader", up).catch(
					() => undefined,
				),
			(seen) => seen !== undefined && !names.includes(seen.host),
			40,
		);
		return this.hosts.find(({ name }) => name === found?.host) as Host;
	}

	/** Runs copies of web. */
	async copies(
		t: ExecutionContext,
		deployment: string,
		count: number,
	): Promise<void> {
		for (let i = 1; i <= count; i++) {
			const { code, stderr } = await docker(this.gateway(), [
				...["run", "-d", "--name", `${deployment}_web_${i}`, "--init"],
				...[
					"-l",
					`arpanet.deployment=${deployment}`,
					"-l",
					"arpanet.service=web",
				],
				...["busybox", "sleep", "9999"],
			]);
			t.is(code, 0, stderr);
		}
	}
}

/** What Consul's DNS on a host answers for a deployment's web, sorted. */
export async function resolved(
	host: Host,
	deployment: string,
): Promise<string[]> {
	const resolver = new Resolver({ timeout: 1_000, tries: 1 });
	resolver.setServers([host.address]);
	for (let tries = 1; ; tries++) {
		try {
			return (
				await resolver.resolve4(`web.${deployment}.service.consul`)
			).sort();
		} catch (error) {
			// one packet that is late says nothing
			const isLate = (error as NodeJS.ErrnoException).code === "ETIMEOUT";
			if (!isLate || tries === 3) return [];
		}
	}
}

/** Addresses of the web copies that the engines of hosts have, sorted. */
export async function addresses(
	hosts: Host[],
	deployment: string,
): Promise<string[]> {
	const found = await Promise.all(
		hosts.map(async (host) => {
			const { stdout } = await docker(host, [
				...["ps", "--filter", `name=${deployment}_web_`],
				...["--format", '{{.Label "arpanet.address"}}'],
			]);
			return stdout.split("\n").filter(Boolean);
		}),
	);
	return found.flat().sort();
}

/** Seconds until DNS on every one of these hosts answers with exactly these addresses. */
export async function untilResolved(
	t: ExecutionContext,
	hosts: Host[],
	deployment: string,
	wanted: string[],
): Promise<number> {
	const began = performance.now();
	for (const host of hosts) {
		const seen = await eventually(
			() => resolved(host, deployment),
			(found) => String(found) === String(wanted),
			30,
		);
		t.deepEqual(seen, wanted, `as ${host.name} sees it`);
	}
	return (performance.now() - began) / 1000;
}

/** The host whose engine has a running container of that name; undefined while none has. */
export async function hostWith(
	hosts: Host[],
	name: string,
): Promise<Host | undefined> {
	for (const host of hosts) {
		const { stdout } = await docker(host, [
			...["ps", "-q", "--filter", `name=^/${name}$`],
		]);
		if (stdout) return host;
	}
	return undefined;
}
