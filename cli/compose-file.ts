import { homedir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parse } from "yaml";
import { type ContainerCreate, keyAndValue } from "../pipeline/docker.ts";
import { messageOf } from "../pipeline/errors.ts";
import { isObject } from "../pipeline/json.ts";
import { readInput } from "./input.ts";
import { dotEnv, expanded } from "./variables.ts";

/** A container that a file asks for, as a client would create it. */
export interface Planned {
	name: string;
	/** Its name under the other Compose. */
	otherwise: string;
	body: ContainerCreate;
}

export interface FileOptions {
	/** `-p`: the deployment's id. */
	project?: string;
	/** Copies of a service, over what the file says. */
	scale?: Record<string, number>;
}

type Dictionary = Record<string, unknown>;

interface Project {
	name: string;
	folder: string;
	/** fig.yml has services at its top and nothing else. */
	fig: boolean;
	services: Record<string, Dictionary>;
	volumes: Dictionary;
	networks: Dictionary;
	secrets: Dictionary;
	configs: Dictionary;
	scale: Record<string, number>;
}

/**
 * The containers of a fig.yml or Compose file, each after those that it needs, with that of a service which placement
 * goes by. Compose itself is not asked.
 * @param file path; `-` is standard input
 * @throws Error naming the service and what is wrong
 */
export async function readComposeFile(
	file: string,
	{ project, scale = {} }: FileOptions = {},
): Promise<Planned[]> {
	const folder = file === "-" ? process.cwd() : dirname(resolve(file));
	const text = await readInput(file, "a fig.yml or Compose file");
	const variables = { ...(await dotEnv(folder)), ...process.env };
	const root = expanded(parse(text, { merge: true }), variables);
	if (!isObject(root)) {
		throw new Error(
			`${file} is no fig.yml or Compose file: it has no services`,
		);
	}
	const fig = !isObject(root.services);
	const named = project || variables.COMPOSE_PROJECT_NAME || root.name;
	return containersOf({
		name: String(named || basename(folder))
			.toLowerCase()
			.replaceAll(/[^-_a-z0-9]/g, ""),
		folder,
		fig,
		services: (fig ? root : root.services) as Record<string, Dictionary>,
		volumes: dictionary(fig ? {} : root.volumes),
		networks: dictionary(fig ? {} : root.networks),
		secrets: dictionary(fig ? {} : root.secrets),
		configs: dictionary(fig ? {} : root.configs),
		scale,
	});
}

function containersOf(project: Project): Planned[] {
	const unknown = Object.keys(project.scale).find(
		(service) => !Object.hasOwn(project.services, service),
	);
	if (unknown !== undefined) {
		throw new Error(
			`--scale ${unknown}: the file has no such service (it has ${Object.keys(project.services).join(", ")})`,
		);
	}
	const planned: Planned[] = [];
	const seen = new Set<string>();
	const visit = (service: string) => {
		if (seen.has(service)) return;
		seen.add(service);
		const settings = project.services[service];
		if (!isObject(settings)) {
			throw new Error(`the file has no service ${service}`);
		}
		if (settings.extends) {
			throw new Error(
				`service ${service} extends another, which is not followed here; pipe the output of docker-compose config to arpanet plan -f -`,
			);
		}
		if (list(settings.profiles).length > 0) return; // not started unless asked for
		for (const other of needs(settings, project)) visit(other);
		for (let i = 1; i <= copies(service, settings, project); i++) {
			planned.push(container(service, i, settings, project));
		}
	};
	for (const service of Object.keys(project.services)) visit(service);
	return planned;
}

/** The services whose containers must be there first. */
function needs(settings: Dictionary, { services }: Project): string[] {
	const links = list(settings.links).map((link) => link.split(":")[0] ?? "");
	const dependsOn = isObject(settings.depends_on)
		? Object.keys(settings.depends_on)
		: list(settings.depends_on);
	const shared = [
		...list(settings.volumes_from).map((from) => from.split(":")[0] ?? ""),
		...MODES.map(([key]) => String(settings[key] ?? "").split(":")[1] ?? ""),
	];
	return [...dependsOn, ...links, ...shared].filter((name) => name in services);
}

function copies(
	service: string,
	settings: Dictionary,
	{ scale }: Project,
): number {
	const { replicas } = dictionary(settings.deploy);
	const wanted = scale[service] ?? replicas ?? settings.scale ?? 1;
	const number = Number(wanted);
	if (Number.isInteger(number) && number >= 0) return number;
	throw new Error(
		`service ${service} is to have ${wanted} copies; write a whole number`,
	);
}

/** Settings that may name another container's namespace, and what the API calls them. */
const MODES = [
	["network_mode", "NetworkMode"],
	["net", "NetworkMode"],
	["pid", "PidMode"],
	["ipc", "IpcMode"],
] as const;

function container(
	service: string,
	number: number,
	settings: Dictionary,
	project: Project,
): Planned {
	const { memory, memoryReservation, cpus } = resources(settings);
	const HostConfig: Dictionary = {
		Binds: [
			...list(settings.volumes, true)
				.map((volume) => mounted(volume, project))
				.filter((bind) => bind !== undefined),
			...files(settings, project),
		],
		PortBindings: portBindings(service, list(settings.ports, true)),
		VolumesFrom: list(settings.volumes_from).map((from) =>
			containerName(from.replace(/^container:/, ""), project),
		),
		Memory: memory,
		MemoryReservation: memoryReservation,
		NanoCpus: cpus * 1e9,
		CpuQuota: Number(settings.cpu_quota ?? 0),
	};
	for (const [key, mode] of MODES) {
		const value = settings[key];
		if (typeof value !== "string") continue;
		HostConfig[mode] = value.replace(
			/^(service|container):(.*)$/,
			(_, _kind, name) => `container:${containerName(name, project)}`,
		);
	}
	const network = foreignNetwork(settings, project);
	if (network) HostConfig.NetworkMode ??= network;
	const named = settings.container_name;
	const joint = project.fig ? "-" : "_";
	return {
		name: String(named ?? nameOf(service, number, project)),
		otherwise: String(named ?? nameOf(service, number, project, joint)),
		body: {
			Image: settings.image ?? `${project.name}_${service}`,
			Env: pairs(settings.environment),
			Labels: {
				...Object.fromEntries(pairs(settings.labels).map(keyAndValue)),
				"com.docker.compose.project": project.name,
				"com.docker.compose.service": service,
				"com.docker.compose.container-number": String(number),
			},
			Volumes: Object.fromEntries(
				list(settings.volumes, true)
					.map(unnamed)
					.filter((path) => path !== undefined)
					.map((path) => [path, {}]),
			),
			HostConfig,
		},
	};
}

/** @param joint fig and Compose 1 join names by `_`, Compose v2 by `-` */
function nameOf(
	service: string,
	number: number,
	{ name, fig }: Project,
	joint = fig ? "_" : "-",
) {
	return [name, service, number].join(joint);
}

/** The container that is meant by a service's name, or by its own. */
function containerName(ref: string, project: Project): string {
	const name = ref.split(":")[0] as string;
	const settings = project.services[name];
	if (!settings) return name;
	return String(settings.container_name ?? nameOf(name, 1, project));
}

/** A network that the file does not make itself. */
function foreignNetwork(
	settings: Dictionary,
	{ networks }: Project,
): string | undefined {
	const joined = isObject(settings.networks)
		? Object.keys(settings.networks)
		: list(settings.networks);
	for (const network of joined) {
		const { external, name } = dictionary(networks[network]);
		if (external) return String(name ?? dictionary(external).name ?? network);
	}
	return undefined;
}

/** `./src:/app` or `{type, source}` as a bind of the API; undefined for what has neither path nor name. */
function mounted(volume: unknown, project: Project): string | undefined {
	const long = isObject(volume);
	const [source, target, mode] = long
		? [volume.source, volume.target]
		: String(volume).split(":");
	if (!source || !target || (long && volume.type === "tmpfs")) return undefined;
	const rest = [target, mode].filter(Boolean).join(":");
	return `${sourceOf(String(source), project)}:${rest}`;
}

/** Where a volume without a name is mounted; undefined for any other. */
function unnamed(volume: unknown): string | undefined {
	if (!isObject(volume)) {
		return String(volume).includes(":") ? undefined : String(volume);
	}
	const { type, source, target } = volume;
	return type === "volume" && !source ? String(target) : undefined;
}

/** What a service is given files as, and the folder where its containers find them. */
const FILES = [
	["secrets", "/run/secrets"],
	["configs", "/"],
] as const;

/** Secrets and configs as binds of the API; what comes from no file is none. */
function files(settings: Dictionary, project: Project): string[] {
	return FILES.flatMap(([kind, inside]) =>
		list(settings[kind], true).flatMap((given) => {
			const { source = given, target = source } = dictionary(given);
			const { file } = dictionary(project[kind][String(source)]);
			if (typeof file !== "string") return [];
			const path = resolve(inside, String(target));
			return `${pathOf(file, project)}:${path}:ro`;
		}),
	);
}

/** A path as the file has it, from the root. */
function pathOf(path: string, { folder }: Project): string {
	if (path.startsWith("~")) return join(homedir(), path.slice(1));
	return resolve(folder, path);
}

function sourceOf(source: string, project: Project): string {
	if (/^[~./]/.test(source)) return pathOf(source, project);
	const { fig, name, volumes } = project;
	const { name: own, external } = dictionary(volumes[source]);
	if (own) return String(own);
	return fig || external ? source : `${name}_${source}`;
}

interface Binding {
	HostIp: string;
	HostPort: string;
}

/** All ports of a service as the API has them; one of the container can be bound to several of the host. */
function portBindings(
	service: string,
	all: unknown[],
): Record<string, Binding[]> {
	const bindings: Record<string, Binding[]> = {};
	try {
		for (const [port, binding] of all.flatMap(ports)) {
			bindings[port] = [...(bindings[port] ?? []), binding];
		}
	} catch (error) {
		throw new Error(`service ${service}: ${messageOf(error)}`);
	}
	return bindings;
}

/**
 * `127.0.0.1:8080:80/udp` or `{published, target}` as port bindings of the API.
 * @throws Error for what is no port
 */
function ports(port: unknown): [string, Binding][] {
	if (isObject(port)) {
		const { target, published = "", protocol = "tcp", host_ip = "" } = port;
		const HostPort = String(published);
		return [[`${target}/${protocol}`, { HostIp: String(host_ip), HostPort }]];
	}
	const [address = "", protocol = "tcp"] = String(port).split("/");
	const parts = address.split(":");
	const inside = range(parts.pop() ?? "");
	const outside = range(parts.pop() ?? "");
	const HostIp = parts.join(":");
	return inside.map((target, i) => {
		// one port of the container on any of several is no fixed one
		const fixed = inside.length === outside.length;
		const HostPort = fixed ? String(outside[i]) : "";
		return [`${target}/${protocol}`, { HostIp, HostPort }];
	});
}

function range(text: string): number[] {
	if (!text) return [];
	const [first = 0, last = first] = text.split("-").map(Number);
	if (!(first <= last && last <= 65_535)) {
		throw new Error(`"${text}" is neither a port nor a range of ports`);
	}
	return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

function resources(settings: Dictionary) {
	const { limits, reservations } = dictionary(
		dictionary(settings.deploy).resources,
	);
	const { memory, cpus } = dictionary(limits);
	return {
		memory: bytes(settings.mem_limit ?? memory),
		memoryReservation: bytes(
			settings.mem_reservation ?? dictionary(reservations).memory,
		),
		cpus: Number(settings.cpus ?? cpus ?? 0),
	};
}

/** `1.5g` as bytes. */
function bytes(size: unknown): number {
	const [, number, unit = ""] =
		/^([\d.]+)\s*([kmgt]?)/i.exec(String(size ?? 0)) ?? [];
	const power = " kmgt".indexOf(unit.toLowerCase());
	return Math.round(Number(number ?? 0) * 1024 ** Math.max(0, power));
}

/** What a file gives as a list or as a mapping, as `key=value`. */
function pairs(value: unknown): string[] {
	if (!isObject(value)) return list(value);
	return Object.entries(value).map(([key, each]) => `${key}=${each ?? ""}`);
}

function list(value: unknown): string[];
function list(value: unknown, asIs: true): unknown[];
function list(value: unknown, asIs = false): unknown[] {
	const all = Array.isArray(value) ? value : value ? [value] : [];
	return asIs ? all : all.map(String);
}

function dictionary(value: unknown): Dictionary {
	return isObject(value) ? value : {};
}
