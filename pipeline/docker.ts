import { Ajv } from "ajv";
import { fold, type Shape, spell } from "./spelling.ts";

/**
 * The parts of Docker's API objects that arpanet reads or writes, by Docker's own names.
 * Everything else in a body is carried along untouched.
 */

export interface EndpointSettings {
	IPAMConfig?: { IPv4Address?: string; [key: string]: unknown } | null;
	IPAddress?: string;
	/** Given with a create or connect, an engine goes by it and not by the network's name, be it the id, its beginning or a name. */
	NetworkID?: string | null;
	Aliases?: string[] | null;
	Links?: string[] | null;
	[key: string]: unknown;
}

export interface HostConfig {
	NetworkMode?: string;
	Links?: string[] | null;
	Dns?: string[] | null;
	DnsSearch?: string[] | null;
	DnsOptions?: string[] | null;
	[key: string]: unknown;
}

/** Body of `POST /containers/create`. */
export interface ContainerCreate {
	Env?: string[] | null;
	Labels?: Record<string, string>;
	HostConfig?: HostConfig;
	NetworkingConfig?: {
		EndpointsConfig?: Record<string, EndpointSettings | null> | null;
	} | null;
	[key: string]: unknown;
}

/** Answer of `GET /containers/{id}/json`. */
export interface ContainerInspect {
	Id: string;
	/** With a leading slash: `/abc_web_1` */
	Name: string;
	/** The id of its image. */
	Image?: string;
	Created: string;
	State: {
		Running: boolean;
		Paused: boolean;
		Restarting: boolean;
		/** `2026-11-23T16:00:00.123456789Z` */
		StartedAt: string;
		Health?: { Status: string } | null;
		[key: string]: unknown;
	};
	Config: {
		Image: string;
		Labels: Record<string, string> | null;
		Env: string[] | null;
		[key: string]: unknown;
	};
	HostConfig: HostConfig;
	NetworkSettings: { Networks: Record<string, EndpointSettings> };
	/** What is mounted as its `/etc/resolv.conf`, on its engine's machine. */
	ResolvConfPath?: string;
}

/** One row of `GET /containers/json`. */
export interface ContainerSummary {
	Id: string;
	Names: string[];
	ImageID?: string;
	State: string;
	Status: string;
	Labels: Record<string, string>;
	NetworkSettings?: { Networks: Record<string, EndpointSettings> };
}

/** A range of addresses of a network. */
export interface IpamRange {
	Subnet?: string;
	Gateway?: string;
	/** The part of the subnet that addresses are given from. */
	IPRange?: string;
	/** By names that mean nothing to Docker. */
	AuxiliaryAddresses?: Record<string, string> | null;
}

/** Body of `POST /networks/create`. */
export interface NetworkCreate {
	Name: string;
	Driver?: string;
	Internal?: boolean;
	Attachable?: boolean;
	CheckDuplicate?: boolean;
	/** From API 1.48 on, which is Docker 28; true unless it is said. */
	EnableIPv4?: boolean;
	IPAM?: {
		Driver?: string;
		Config?: IpamRange[] | null;
		[key: string]: unknown;
	} | null;
	Options?: Record<string, string> | null;
	Labels?: Record<string, string> | null;
	[key: string]: unknown;
}

/** Answer of `GET /networks/{id}`. */
export interface NetworkInspect extends NetworkCreate {
	Id: string;
	Containers?: Record<string, { Name: string; IPv4Address: string }>;
}

/** Body of `POST /volumes/create`. */
export interface VolumeCreate {
	Name?: string | null;
	Driver?: string | null;
	DriverOpts?: Record<string, string> | null;
	Labels?: Record<string, string> | null;
}

/** Answer of `GET /volumes/{name}`. */
export interface VolumeInspect {
	Name: string;
	Driver: string;
	/** `local`, or `global` for one that every host has. */
	Scope: string;
	Options: Record<string, string> | null;
	Labels: Record<string, string> | null;
	/** Folder on its host where its data are. */
	Mountpoint: string;
}

/** Body of `POST /networks/{id}/connect` and, without the settings, `/disconnect`. */
export interface NetworkConnect {
	Container: string;
	EndpointConfig?: EndpointSettings | null;
	[key: string]: unknown;
}

/** One line of `GET /events`. */
export interface EngineEvent {
	Type: string;
	/** `start`, `die`, `health_status: healthy`, … */
	Action: string;
	Actor: { ID: string; Attributes: Record<string, string> };
	timeNano: number;
}

/** A container that does not run any more, as far as the event of its end tells: who it is and its labels. */
export function asTold({ Actor }: EngineEvent): ContainerInspect {
	const { name = "", image = "", ...Labels } = Actor.Attributes;
	return {
		...{ Id: Actor.ID, Name: `/${name}`, Created: "" },
		State: { Running: false, Paused: false, Restarting: false, StartedAt: "" },
		Config: { Image: image, Labels, Env: null },
		HostConfig: {},
		NetworkSettings: { Networks: {} },
	};
}

/** Of any type: whoever reads it checks it. */
const any = {};
const string = { type: "string" };
/** Docker takes null for what is not there, and docker-py sends it. */
const text = { type: ["string", "null"] };
const texts = { type: ["array", "null"], items: text };
const labels = { type: ["object", "null"], additionalProperties: text };
const endpoint = {
	type: ["object", "null"],
	properties: {
		IPAMConfig: {
			type: ["object", "null"],
			properties: { IPv4Address: text },
		},
		Aliases: texts,
		Links: texts,
		NetworkID: text,
	},
};

const hostConfig = {
	NetworkMode: text,
	Links: texts,
	Dns: texts,
	DnsSearch: texts,
	DnsOptions: texts,
	Binds: any,
	Mounts: any,
	VolumesFrom: any,
	PortBindings: any,
	PidMode: any,
	IpcMode: any,
	Memory: any,
	MemoryReservation: any,
	NanoCpus: any,
	CpuQuota: any,
	CpuPeriod: any,
};

const ajv = new Ajv({ allowUnionTypes: true });

/**
 * Whether the fields that arpanet reads have Docker's types; if not, Docker says so itself. Only keys listed here are
 * found in any spelling (spelling.ts).
 */
export const isContainerCreate = ajv.compile<ContainerCreate>({
	type: "object",
	properties: {
		// see gatherHostConfig
		...Object.fromEntries(Object.keys(hostConfig).map((key) => [key, any])),
		Env: texts,
		Hostname: text,
		Image: any,
		Labels: labels,
		HostConfig: { type: ["object", "null"], properties: hostConfig },
		NetworkingConfig: {
			type: ["object", "null"],
			properties: {
				EndpointsConfig: {
					type: ["object", "null"],
					additionalProperties: endpoint,
				},
			},
		},
	},
});

/** Keys of a create that Docker looks for nowhere else. */
const BESIDE_HOST_CONFIG = new Set(
	[
		"ArgsEscaped AttachStderr AttachStdin AttachStdout Cmd Cpuset Domainname Entrypoint Env ExposedPorts Healthcheck",
		"HostConfig Hostname Image Labels MacAddress NetworkDisabled NetworkingConfig OnBuild OpenStdin Shell StdinOnce",
		"StopSignal StopTimeout Tty User Volumes WorkingDir",
	]
		.flatMap((line) => line.split(" "))
		.map(fold),
);

/**
 * Gives a create a HostConfig, in place, of what stands beside it: without one, Docker looks there (moby, runconfig,
 * ContainerConfigWrapper; 26 still does), and with one, such as ours, it does not. A key that is not known stays there, too.
 */
export function gatherHostConfig(body: object): void {
	const create = body as ContainerCreate;
	if (create.HostConfig !== undefined && create.HostConfig !== null) return;
	const beside = Object.entries(create).filter(
		([key]) => !BESIDE_HOST_CONFIG.has(fold(key)),
	);
	if (beside.length === 0) return;
	create.HostConfig = structuredClone(Object.fromEntries(beside));
	spell(body, isContainerCreate.schema as Shape);
}

/** As `isContainerCreate`. */
export const isNetworkCreate = ajv.compile<NetworkCreate>({
	type: "object",
	required: ["Name"],
	properties: {
		Name: string,
		Driver: text,
		Labels: labels,
		Options: labels,
		IPAM: {
			type: ["object", "null"],
			properties: {
				Driver: text,
				Config: {
					type: ["array", "null"],
					items: {
						type: "object",
						properties: {
							Subnet: text,
							Gateway: text,
							IPRange: text,
							AuxiliaryAddresses: labels,
						},
					},
				},
			},
		},
	},
});

/** As `isContainerCreate`. */
export const isVolumeCreate = ajv.compile<VolumeCreate>({
	type: "object",
	properties: { Name: text, Driver: text },
});

/** As `isContainerCreate`. */
export const isNetworkConnect = ajv.compile<NetworkConnect>({
	type: "object",
	required: ["Container"],
	properties: { Container: string, EndpointConfig: endpoint },
});

/** The host's device that is the bridge of a network with the driver `bridge`. */
export function bridgeOf({ Id, Options }: NetworkInspect): string {
	return Options?.["com.docker.network.bridge.name"] ?? `br-${Id.slice(0, 12)}`;
}

/** Whether a network is one of Docker's own, of which every host has one. */
export function isPredefined(name: string): boolean {
	return /^(bridge|host|none)$/.test(name);
}

/** Whether a network mode is none of a user's networks: there we give no addresses. */
export function isDockersOwn(mode: string): boolean {
	return isPredefined(mode) || mode.startsWith("container:");
}

/** Whether a network mode is that of who did not ask for one. */
export function isUnasked(mode: string): boolean {
	return mode === "" || mode === "default";
}

/** `A=b=c`, as Docker writes environment and labels, as `["A", "b=c"]`; what has no `=` has an empty value. */
export function keyAndValue(pair: string): [key: string, value: string] {
	const [key = "", ...rest] = pair.split("=");
	return [key, rest.join("=")];
}

/** A list's path with `filters`. @param path with a query of its own, or none */
export function filtered(
	path: string,
	filters: Record<string, string[]>,
): string {
	const joint = path.includes("?") ? "&" : "?";
	const text = encodeURIComponent(JSON.stringify(filters));
	return `${path}${joint}filters=${text}`;
}

/** The networks that a create asks for, by name or id, that of its mode first; without Docker's own, of which every host has one. */
export function networksAsked({
	HostConfig,
	NetworkingConfig,
}: ContainerCreate): string[] {
	const names = new Set([
		HostConfig?.NetworkMode ?? "",
		...Object.keys(NetworkingConfig?.EndpointsConfig ?? {}),
	]);
	return [...names].filter((name) => !isUnasked(name) && !isDockersOwn(name));
}

/** Where the API tells of an image. @param ref name or id, as a client wrote it: whatever it is */
export function imagePath(ref: string): string {
	const path = encodeURI(ref).replaceAll(/[?#]/g, encodeURIComponent);
	return `/images/${path}/json`;
}

/** What a container mounts. */
interface Mounted {
	/** Docker's: `bind`, `volume`, `tmpfs`, `image`, … */
	type: string;
	/** A path of the host, or the name of a volume or an image; empty for none. */
	source: string;
	/** Where the container has it. */
	target: string;
	/** Of a volume that is to be made. */
	driver: string;
	/** The kind of file system of such a volume, where it is said: `nfs`. */
	kind: string;
}

/** What a create mounts, `Binds` first (moby, volume/mounts, linux_parser: a path alone is that of a volume without a name). */
export function mountsOf({ HostConfig }: ContainerCreate): Mounted[] {
	const { Binds, Mounts, VolumeDriver } = HostConfig ?? {};
	const text = (value: unknown) => String(value ?? "");
	const binds = (Array.isArray(Binds) ? Binds : []).map((bind) => {
		const [first = "", second] = String(bind).split(":");
		const [source, target] = second ? [first, second] : ["", first];
		const type = source.startsWith("/") ? "bind" : "volume";
		return { type, source, target, driver: text(VolumeDriver), kind: "" };
	});
	const mounts = (Array.isArray(Mounts) ? Mounts : []).map((mount) => {
		const { Type, Source, Target, VolumeOptions } = Object(mount);
		const { Name, Options } = Object(Object(VolumeOptions).DriverConfig);
		return {
			...{ type: text(Type), source: text(Source), target: text(Target) },
			...{ driver: text(Name), kind: text(Object(Options).type) },
		};
	});
	return [...binds, ...mounts];
}

/** The images that a container is made of: its own, and those that it mounts. @param create as a client sent it, unchecked */
export function imagesOf(create: ContainerCreate): string[] {
	const mounted = mountsOf(create).filter(({ type }) => type === "image");
	return [create.Image, ...mounted.map(({ source }) => source)].filter(
		(image): image is string => typeof image === "string" && image !== "",
	);
}

/** A container's name among those that links give it. */
export function ownName(names: string[]): string {
	return names.find((name) => name.lastIndexOf("/") === 0)?.slice(1) ?? "";
}
