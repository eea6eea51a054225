import type { ContainerInspect } from "./docker.ts";
import { Engine } from "./engine.ts";
import { HttpError } from "./errors.ts";
import type { Hosts, KnownHost } from "./state/hosts.ts";
import type { Tls } from "./tls.ts";

/** A container and the host it is on. */
export interface Located {
	container: ContainerInspect;
	host: string;
}

/** The engines of all hosts. */
export class Cluster {
	readonly hosts: Hosts;
	/** Name of this host. */
	readonly self: string;
	readonly #local: Engine;
	readonly #remote = new Map<string, Engine>();
	/** Certificates for the other hosts' engines. */
	readonly tls: Tls | undefined;

	/**
	 * @param self name of this host
	 * @param local its engine
	 */
	constructor(hosts: Hosts, self: string, local: Engine, tls?: Tls) {
		this.tls = tls;
		this.hosts = hosts;
		this.self = self;
		this.#local = local;
	}

	/** Whether there is no other host, as far as is known. */
	get alone(): boolean {
		return this.hosts.count <= 1;
	}

	/** Hosts that live and whose engines can be reached from here, this one first. */
	async reachable(): Promise<KnownHost[]> {
		return (await this.all()).filter(
			({ name, state, engine }) => name === this.self || (state && engine),
		);
	}

	/** All hosts, lost ones too, this one first. */
	async all(): Promise<KnownHost[]> {
		const others = (await this.hosts.list()).filter(
			({ name }) => name !== this.self,
		);
		return [await this.hosts.get(this.self), ...others];
	}

	/**
	 * The engine of a host; of this one without a name.
	 * @throws HttpError 502 for a host that is not known or lets nobody in
	 */
	async engine(host?: string): Promise<Engine> {
		if (host === undefined || host === this.self) return this.#local;
		if ((await this.hosts.list()).length === 0) return this.#local;
		const { engine: url } = await this.hosts.get(host);
		if (!url) {
			throw new HttpError(
				502,
				`host ${host} does not let others reach its engine; set host.engine in its powerstrip.yml`,
			);
		}
		const known = this.#remote.get(url);
		if (known) return known;
		const engine = new Engine(url, this.tls);
		this.#remote.set(url, engine);
		return engine;
	}

	/** A container by id, prefix or name, wherever it is; looked for here first. */
	async find(ref: string): Promise<Located | undefined> {
		const container = await this.#local.inspectContainer(ref);
		if (container) return { container, host: this.self };
		const others = (await this.reachable()).slice(1);
		const found = await Promise.allSettled(
			others.map(async ({ name }) => {
				const engine = await this.engine(name);
				const container = await engine.inspectContainer(ref);
				return container && { container, host: name };
			}),
		);
		return found.flatMap((each) =>
			each.status === "fulfilled" && each.value ? [each.value] : [],
		)[0];
	}

	async close(): Promise<void> {
		this.hosts.close();
		await Promise.all(
			[this.#local, ...this.#remote.values()].map((each) => each.close()),
		);
	}
}
