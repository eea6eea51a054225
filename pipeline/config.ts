import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { type Document, isMap, LineCounter, parseDocument } from "yaml";
import type { ConsulConfig } from "./consul-access.ts";
import { parseEngineUrl } from "./engine.ts";
import { type TlsConfig, tcpAddress } from "./tls.ts";
import { ConfigError, validate } from "./validate.ts";

/** An endpoint of powerstrip.yml and the adapters whose hooks run there. */
export interface Endpoint {
	/** Method and path, both shell globs, as in powerstrip.yml. */
	pattern: string;
	pre: string[];
	post: string[];
}

/** A plugin in the list: its name, path or package, and its own configuration. */
export interface PluginEntry {
	name: string;
	config: unknown;
	/** `powerstrip.yml:12`, for messages. */
	where: string;
}

/** All that powerstrip.yml says: powerstrip's own part, and ours under `arpanet:`. */
export interface Config {
	/** Path of the file, from which relative plugin paths start. */
	file: string;
	endpoints: Endpoint[];
	/** Name → URL. */
	adapters: Record<string, string>;
	plugins: PluginEntry[];
	arpanet: ArpanetConfig;
}

export interface ArpanetConfig {
	/** The Docker Engine behind the gateway. */
	engine: string;
	consul: ConsulConfig;
	host: {
		name: string;
		address?: string;
		engine?: string;
		labels?: Record<string, string>;
	};
	/** Folder for what `arpanet up` notes of its own Consul, and for the key of `encrypt`; gone after a reboot is fine. */
	stateDir: string;
	/** Whoever comes from another host shows a certificate of this authority, and so do we. */
	tls?: TlsConfig;
	/** Listen beyond loopback without certificates. */
	insecure: boolean;
	/** Containers' packets go from host to host through WireGuard; all hosts have to say so. */
	encrypt: boolean;
	/** Milliseconds that one plugin may take over one hook. */
	pluginTimeout: number;
	gateway: { listen: string[]; hookTimeout: number; maxBody: number };
	adapter: { listen: string };
}

const strings = { type: "array", items: { type: "string" } };

/** Longer ones Node's timers do not know. */
const milliseconds = { type: "integer", minimum: 1, maximum: 2 ** 31 - 1 };

const ENDPOINT = {
	type: "object",
	additionalProperties: false,
	minProperties: 1,
	properties: { pre: strings, post: strings },
};

const ARPANET = {
	type: "object",
	additionalProperties: false,
	default: {},
	properties: {
		engine: { type: "string", default: "unix:///var/run/docker.sock" },
		consul: {
			type: "object",
			additionalProperties: false,
			default: {},
			properties: {
				address: { type: "string", default: "http://127.0.0.1:8500" },
				token: { type: "string", minLength: 1 },
				tokenFile: { type: "string" },
				tls: {
					type: "object",
					additionalProperties: false,
					dependencies: { cert: ["key"], key: ["cert"] },
					properties: {
						ca: { type: "string" },
						cert: { type: "string" },
						key: { type: "string" },
					},
				},
			},
		},
		host: {
			type: "object",
			additionalProperties: false,
			default: {},
			properties: {
				name: { type: "string", format: "dns-label" },
				address: { type: "string", format: "ipv4" },
				/** Where the other hosts reach this one's engine. */
				engine: { type: "string", format: "tcp-for-others" },
				/** What constraints go by. */
				labels: { type: "object", additionalProperties: { type: "string" } },
			},
		},
		stateDir: { type: "string", format: "folder", default: "/run/arpanet" },
		tls: {
			type: "object",
			additionalProperties: false,
			required: ["ca", "cert", "key"],
			properties: {
				ca: { type: "string" },
				cert: { type: "string" },
				key: { type: "string" },
			},
		},
		insecure: { type: "boolean", default: false },
		encrypt: { type: "boolean", default: false },
		pluginTimeout: { ...milliseconds, default: 20_000 },
		gateway: {
			type: "object",
			additionalProperties: false,
			default: {},
			properties: {
				listen: {
					...strings,
					default: ["tcp://127.0.0.1:2375", "unix:///var/run/arpanet.sock"],
				},
				/** Milliseconds that one hook may take. */
				hookTimeout: { ...milliseconds, default: 30_000 },
				/** Bytes of a body that a hook reads. */
				maxBody: { type: "integer", minimum: 1, default: 4 * 1024 * 1024 },
			},
		},
		adapter: {
			type: "object",
			additionalProperties: false,
			default: {},
			properties: {
				listen: {
					type: "string",
					format: "tcp",
					default: "tcp://127.0.0.1:2378",
				},
			},
		},
		plugins: { type: "array", items: { type: ["string", "object"] } },
	},
};

// Powerstrip ignores other top-level keys: that is where ours stand.
const SCHEMA = {
	type: "object",
	required: ["endpoints", "adapters"],
	properties: {
		version: { const: 1 },
		endpoints: { type: "object", additionalProperties: ENDPOINT },
		adapters: { type: "object", additionalProperties: { type: "string" } },
		arpanet: ARPANET,
	},
};

/** The chain that runs when the file lists none. */
export const DEFAULT_PLUGINS = [
	"deployment-id",
	"placement",
	"volumes",
	"dhcp",
	"links",
	"expose",
	"network",
	"dns-search",
	"consul-register",
];

/**
 * Reads powerstrip.yml.
 * @throws ConfigError with file, line and remedy
 */
export async function loadConfig(file: string): Promise<Config> {
	let text: string;
	try {
		text = await readFile(file, "utf8");
	} catch (error) {
		throw new ConfigError(
			`${file}: cannot be read (${(error as Error).message}); name another with --config`,
		);
	}
	return parseConfig(text, file);
}

/**
 * Reads the text of a powerstrip.yml.
 * @param file path for messages and for relative plugin paths
 * @throws ConfigError with file, line and remedy
 */
export function parseConfig(text: string, file: string): Config {
	const lines = new LineCounter();
	const document = parseDocument(text, { lineCounter: lines });
	const broken = document.errors[0];
	if (broken) {
		const { line } = lines.linePos(broken.pos[0]);
		throw new ConfigError(
			`${file}:${line}: not YAML: ${broken.message.split("\n")[0]}`,
		);
	}
	const where = (path: string[]) => `${file}:${lineOf(document, lines, path)}`;
	const root = toJS(document, file);
	validate(SCHEMA, root ?? {}, where);
	const raw = root as {
		endpoints: Record<string, { pre?: string[]; post?: string[] }>;
		adapters: Record<string, string>;
		arpanet: ArpanetConfig & { plugins?: unknown[] };
	};
	const { plugins, ...arpanet } = raw.arpanet;
	const config: Config = {
		file,
		endpoints: Object.entries(raw.endpoints).map(
			([pattern, { pre = [], post = [] }]) => ({ pattern, pre, post }),
		),
		adapters: raw.adapters,
		plugins: (plugins ?? DEFAULT_PLUGINS).map((entry, i) =>
			pluginEntry(entry, where(["arpanet", "plugins", String(i)])),
		),
		arpanet,
	};
	config.arpanet.host.name ??= defaultHostName();
	checkReferences(config, where);
	return config;
}

/** @throws ConfigError for aliases that would become too much */
function toJS(document: Document, file: string): unknown {
	try {
		return document.toJS();
	} catch (error) {
		const { message } = error as Error;
		throw new ConfigError(`${file}: ${message}; write it without aliases (*)`);
	}
}

function checkReferences(
	config: Config,
	where: (path: string[]) => string,
): void {
	for (const { pattern, pre, post } of config.endpoints) {
		const at = ["endpoints", pattern];
		if (!/^\S+ \S+$/.test(pattern)) {
			throw new ConfigError(
				`${where(at)}: endpoint "${pattern}" is not "METHOD PATH", such as "POST */containers/create"`,
			);
		}
		for (const name of [...pre, ...post]) {
			if (Object.hasOwn(config.adapters, name)) continue;
			throw new ConfigError(
				`${where(at)}: endpoint "${pattern}" names adapter "${name}", which is not under "adapters"; define it there`,
			);
		}
	}
	for (const [name, url] of Object.entries(config.adapters)) {
		if (isHttp(url)) continue;
		throw new ConfigError(
			`${where(["adapters", name])}: adapter "${name}" has no URL: "${url}"; write http://host:port/path`,
		);
	}
	const { host, gateway } = config.arpanet;
	const same = gateway.listen.find((listen) => isSamePort(listen, host.engine));
	if (same) {
		throw new ConfigError(
			`${where(["arpanet", "host", "engine"])}: host.engine is ${host.engine}, where the gateway listens (${same}); give the engine port another one, such as 2377`,
		);
	}
	try {
		parseEngineUrl(config.arpanet.engine);
	} catch (error) {
		throw new ConfigError(
			`${where(["arpanet", "engine"])}: ${(error as Error).message}`,
		);
	}
	if (!isHttp(config.arpanet.consul.address)) {
		throw new ConfigError(
			`${where(["arpanet", "consul", "address"])}: "${config.arpanet.consul.address}" is no URL; write http://127.0.0.1:8500`,
		);
	}
}

/** Whether two cannot listen at once. */
function isSamePort(listen: string, engine: string | undefined): boolean {
	const [a, b] = [tcpAddress(listen), tcpAddress(engine ?? "")];
	if (!a || !b || a.port !== b.port) return false;
	return a.host === b.host || /^[0.:]+$/.test(a.host);
}

function isHttp(url: string): boolean {
	return URL.canParse(url) && /^https?:$/.test(new URL(url).protocol);
}

function pluginEntry(entry: unknown, where: string): PluginEntry {
	if (typeof entry === "string") return { name: entry, config: {}, where };
	const pairs = Object.entries(entry as object);
	const [name, config] = pairs[0] ?? [];
	if (pairs.length !== 1 || !name) {
		throw new ConfigError(
			`${where}: a plugin is a name, or one name with its configuration: "- dhcp: {pool: 10.32.0.0/12}"`,
		);
	}
	return { name, config: config ?? {}, where };
}

/** Line of the deepest part of a path that stands in the file. */
function lineOf(
	document: Document,
	lines: LineCounter,
	path: string[],
): number {
	for (let depth = path.length; depth > 0; depth--) {
		const parent =
			document.getIn(path.slice(0, depth - 1), true) ?? document.contents;
		const key = path[depth - 1];
		if (isMap(parent)) {
			const pair = parent.items.find((item) => String(item.key) === key);
			const range = (pair?.key as { range?: [number] } | undefined)?.range;
			if (range) return lines.linePos(range[0]).line;
		}
		const node = document.getIn(path.slice(0, depth), true);
		const range = (node as { range?: [number] } | undefined)?.range;
		if (range) return lines.linePos(range[0]).line;
	}
	return 1;
}

/** The machine's host name as a DNS label: `Node1.example.com` is `node1`. */
function defaultHostName(): string {
	const label = (hostname().split(".")[0] ?? "")
		.toLowerCase()
		.replaceAll(/[^a-z0-9-]/g, "-")
		.replaceAll(/^-+|-+$/g, "");
	return label || "host";
}
