import { pino } from "pino";
import type { Config } from "../pipeline/config.ts";
import type { ContainerCreate } from "../pipeline/docker.ts";
import { isDisabled, withoutForged } from "../pipeline/facts.ts";
import type {
	CreateContext,
	Loaded,
	Services,
	Verdict,
} from "../pipeline/plugin.ts";
import { boot } from "./boot.ts";
import {
	type FileOptions,
	type Planned,
	readComposeFile,
} from "./compose-file.ts";
import { table } from "./table.ts";

/** Where one container would go. */
interface Plan {
	container: string;
	/** Undefined if no host can run it. */
	host?: string;
	/** It is there already. */
	exists?: true;
	/** Every host, with the reason why not or how good it is; none for what exists, or is none of arpanet's. */
	verdicts: Verdict[];
	/** What the client would read. */
	error?: string;
}

/**
 * Where each container of a file would go, and why not elsewhere; nothing is created or reserved.
 * @param file path of a fig.yml or Compose file; `-` is standard input
 * @returns the text to show; `failed` if a container can go nowhere
 * @throws Error for a file that cannot be read, HttpError 503 when Consul does not answer
 */
export async function plan(
	config: Config,
	file: string,
	{ json, ...options }: FileOptions & { json?: boolean },
): Promise<{ text: string; failed: boolean }> {
	const planned = await readComposeFile(file, options);
	const { services, plugins, close } = await boot(
		config,
		pino({ level: "silent" }),
	);
	try {
		const { slots, cluster } = services;
		cluster.hosts.follow();
		slots.follow();
		await slots.ready();
		await mustBelong(services);
		const plans: Plan[] = [];
		const called = new Map<string, string>();
		for (const each of planned) {
			callPartners(each.body, called);
			const found = await planOne(each, plugins, services);
			called.set(each.name, found.container);
			plans.push(found);
		}
		const failed = plans.some(({ host }) => !host);
		const text = json ? JSON.stringify(plans, null, 2) : drawn(plans);
		return { text, failed };
	} finally {
		await close();
	}
}

/** @throws Error if the plan would be that of a host nobody knows */
async function mustBelong({ cluster, host }: Services): Promise<void> {
	const known = (await cluster.hosts.list()).map(({ name }) => name);
	if (known.length === 0 || known.includes(host.name)) return;
	throw new Error(
		`${host.name} is no host of the cluster; run this on one of them (${known.join(", ")}), or name its configuration with --config`,
	);
}

/**
 * Names those with whom a container shares something as they are called.
 * @param called by the names that they are planned under
 */
function callPartners(
	{ HostConfig = {} }: ContainerCreate,
	called: ReadonlyMap<string, string>,
): void {
	const call = (name: string) => called.get(name) ?? name;
	const { VolumesFrom } = HostConfig;
	HostConfig.VolumesFrom = (VolumesFrom as string[]).map(call);
	for (const mode of ["NetworkMode", "PidMode", "IpcMode"]) {
		const [kind, name] = String(HostConfig[mode] ?? "").split(":");
		if (name) HostConfig[mode] = `${kind}:${call(name)}`;
	}
}

/** Runs the plugins as far as placement, as a create would; what it takes stays in this process. */
async function planOne(
	{ name, otherwise, body }: Planned,
	plugins: Loaded[],
	{ slots, host }: Services,
): Promise<Plan> {
	if (isDisabled(body.Labels)) {
		return { container: name, host: host.name, verdicts: [] };
	}

	const there = slots.named(name) ?? slots.named(otherwise);
	if (there) {
		const container = there.placed.container;
		return { container, host: there.host, exists: true, verdicts: [] };
	}
	const context: CreateContext = {
		name,
		body: withoutForged(body) ?? body,
		recordName: name,
		facts: {},
		verdicts: [],
		networks: [],
		headers: {},
		conflicts: [],
		explain: () => {},
		onlyHost: undefined,
		previous: undefined,
		replaced: undefined,
		commit: () => {},
		hold: () => {},
	};
	let error: string | undefined;
	const last = plugins.findIndex((plugin) => plugin.name === "placement");
	for (const { hooks } of plugins.slice(0, last + 1)) {
		try {
			await hooks.create?.(context);
		} catch (thrown) {
			error = (thrown as Error).message;
			break;
		}
	}
	const { facts, verdicts } = context;
	return {
		container: name,
		...(facts.host && !error ? { host: facts.host } : {}),
		verdicts,
		...(error ? { error } : {}),
	};
}

function drawn(plans: Plan[]): string {
	const rows = plans.flatMap((each) => {
		const why = reasons(each);
		const [first = "", ...more] = why;
		return [
			[each.container, each.host ?? "none", first],
			...more.map((line) => ["", "", line]),
		];
	});
	return table([["CONTAINER", "HOST", "WHY NOT ELSEWHERE"], ...rows]).join(
		"\n",
	);
}

/** One line for each reason, with the hosts that it is true of. */
function reasons({ host, exists, verdicts, error }: Plan): string[] {
	if (exists) return ["(is there already)"];
	if (error && verdicts.length === 0) return [error];
	if (host && verdicts.length === 0) {
		return ["(none of arpanet's: on the host whose gateway is asked)"];
	}
	const lines = new Map<string, string[]>();
	for (const verdict of verdicts) {
		if (verdict.host === host) continue;
		const reason = verdict.refused ?? "would do";
		lines.set(reason, [...(lines.get(reason) ?? []), verdict.host]);
	}
	return [...lines].map(([reason, names]) => `${names.join(", ")}: ${reason}`);
}
