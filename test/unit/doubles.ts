import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { type Logger, pino } from "pino";
import type {
	ContainerCreate,
	ContainerInspect,
	NetworkCreate,
	VolumeCreate,
	VolumeInspect,
} from "../../pipeline/docker.ts";
import type { Engine } from "../../pipeline/engine.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { CreateContext } from "../../pipeline/plugin.ts";

export const silent: Logger = pino({ level: "silent" });

/** A create on its way through the chain. */
export function createContext(
	body: ContainerCreate = {},
	more: Partial<CreateContext> = {},
): CreateContext {
	return {
		name: undefined,
		body,
		facts: {},
		verdicts: [],
		explain: () => {},
		networks: [],
		headers: {},
		onlyHost: undefined,
		recordName: "record",
		previous: undefined,
		replaced: undefined,
		conflicts: [],
		commit: () => {},
		hold: () => {},
		...more,
	};
}

/** The little of an engine that plugins ask of it, in memory. */
export class EngineDouble {
	readonly containers = new Map<string, ContainerInspect>();
	#ids = 0;
	networks = new Map<string, NetworkCreate & { Id: string }>();
	volumes = new Map<string, VolumeInspect>();
	/** Tags of its images. */
	images: string[] = [];
	/** How often a network was made, by name. */
	made: string[] = [];

	/** What Docker would do with a create. @throws HttpError 409 for a name in use */
	create(name: string, body: ContainerCreate): string {
		if (this.#named(name)) throw new HttpError(409, "Conflict.");
		const id = `${++this.#ids}`.padEnd(64, "c");
		const endpoints = body.NetworkingConfig?.EndpointsConfig ?? {};
		this.containers.set(id, {
			Id: id,
			Name: `/${name}`,
			Created: "",
			State: {
				Running: false,
				Paused: false,
				Restarting: false,
				StartedAt: "",
			},
			Config: { Image: "", Labels: body.Labels ?? {}, Env: body.Env ?? [] },
			HostConfig: body.HostConfig ?? {},
			NetworkSettings: {
				Networks: Object.fromEntries(
					Object.entries(endpoints).map(([key, value]) => [key, value ?? {}]),
				),
			},
		});
		return id;
	}

	/** Removes its volumes' folders. */
	async clean(): Promise<void> {
		for (const { Mountpoint } of this.volumes.values()) {
			await rm(Mountpoint, { recursive: true, force: true });
		}
	}

	get engine(): Engine {
		const double = {
			url: "double",
			inspectContainer: async (ref: string) =>
				this.containers.get(ref) ?? this.#named(ref),
			listContainers: async (label: string) => {
				const [key = "", value] = label.split("=");
				return [...this.containers.values()]
					.filter(({ Config }) => {
						const found = key ? Config.Labels?.[key] : "";
						return value === undefined ? found !== undefined : found === value;
					})
					.map(({ Id, Name, Config, NetworkSettings }) => ({
						Id,
						Names: [Name],
						State: "created",
						Status: "Created",
						Labels: Config.Labels ?? {},
						NetworkSettings,
					}));
			},
			get: async (path: string) => {
				if (path.startsWith("/images/json"))
					return this.images.map((tag) => ({
						Id: `sha256:${tag}`,
						RepoTags: [tag],
					}));
				const [, image] = /^\/images\/(.+)\/json$/.exec(path) ?? [];
				if (image) {
					const has = this.images.includes(image);
					return has ? { Id: `sha256:${image}` } : undefined;
				}
				if (path.startsWith("/containers/json"))
					return double.listContainers("");
				const [, network] = /^\/networks\/(.+)$/.exec(path) ?? [];
				if (network) return this.networks.get(network);
				if (path === "/volumes") return { Volumes: [...this.volumes.values()] };
				return this.volumes.get(/^\/volumes\/(.*)/.exec(path)?.[1] ?? "");
			},
			post: async (path: string) => {
				const [, id = "", name = ""] =
					/^\/containers\/(\w+)\/rename\?name=(.+)$/.exec(path) ?? [];
				const container = this.containers.get(id);
				if (container) container.Name = `/${decodeURIComponent(name)}`;
			},
			createVolume: async ({ Name, DriverOpts, Labels }: VolumeCreate) => {
				const name = Name ?? "";
				if (this.volumes.has(name)) return;
				this.volumes.set(name, {
					...{ Name: name, Driver: "local", Scope: "local" },
					...{ Options: DriverOpts ?? null, Labels: Labels ?? null },
					Mountpoint: await mkdtemp(`${tmpdir()}/arpanet-volume-`),
				});
			},
			remove: async (path: string) => {
				const name = path.replace("/volumes/", "");
				const { Mountpoint } = this.volumes.get(name) ?? {};
				this.volumes.delete(name);
				if (Mountpoint) await rm(Mountpoint, { recursive: true });
			},
			containerNamed: async (name: string) => this.#named(name),
			inspectNetwork: async (ref: string) =>
				this.networks.get(ref) ??
				[...this.networks.values()].find(({ Id }) => Id === ref),
			networkNamed: async (name: string) => this.networks.get(name),
			listNetworks: async () => [...this.networks.values()],
			createNetwork: async (body: NetworkCreate) => {
				if (this.networks.has(body.Name)) {
					throw new HttpError(
						409,
						`network with name ${body.Name} already exists`,
					);
				}
				this.networks.set(body.Name, { ...body, Id: body.Name });
				this.made.push(body.Name);
				return { Id: body.Name };
			},
			removeNetwork: async (name: string) => {
				this.networks.delete(name);
			},
		};
		return double as unknown as Engine;
	}

	#named(name: string): ContainerInspect | undefined {
		return [...this.containers.values()].find(
			(each) => each.Name === `/${name}`,
		);
	}
}
