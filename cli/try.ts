import { styleText } from "node:util";
import { pino } from "pino";
import type { Config } from "../pipeline/config.ts";
import {
	type ContainerCreate,
	gatherHostConfig,
	isContainerCreate,
	networksAsked,
} from "../pipeline/docker.ts";
import { HttpError, messageOf } from "../pipeline/errors.ts";
import { isDisabled } from "../pipeline/facts.ts";
import { isObject } from "../pipeline/json.ts";
import type { Loaded } from "../pipeline/plugin.ts";
import { type Shape, spell } from "../pipeline/spelling.ts";
import { boot } from "./boot.ts";
import { diff, type Line } from "./diff.ts";
import { readInput } from "./input.ts";
import { MemoryEngine, MemoryStore } from "./memory.ts";

export interface TryOptions {
	/** Name that the client asks for. */
	name?: string;
	/** The only host that can be chosen. */
	host?: string;
}

/** What one plugin did to the container. */
interface Deed {
	plugin: string;
	/** Facts that it added or changed. */
	facts: Record<string, unknown>;
	/** Whether the body is another than before. */
	amended: boolean;
	/** Whether it threw. */
	refused?: true;
}

/**
 * Runs the plugins over a create body, with a store and an engine in memory.
 * @param file path of the JSON body; `-` is standard input
 * @returns what each plugin did, and the body before and after as a difference; `failed` if a client would read an error
 * @throws ConfigError, or Error for a file that holds no JSON object
 */
export async function tryOut(
	config: Config,
	file: string,
	{ name, host }: TryOptions,
): Promise<{ text: string; failed: boolean }> {
	const body = await readBody(file);
	const outside = { store: new MemoryStore(), engine: new MemoryEngine() };
	const deeds = new Map<string, Deed>();
	const { containers, networks, close } = await boot(
		config,
		pino({ level: "silent" }), // what a plugin throws is shown below
		{
			outside,
			observe: (plugins) => plugins.map((plugin) => watched(plugin, deeds)),
		},
	);
	try {
		for (const network of composeNetworks(body)) {
			const amended = await networks.create(network, {});
			await outside.engine.createNetwork(amended ?? network);
		}
		const after = await containers.create({
			name: name?.replace(/^\//, "") || undefined,
			body,
			headers: {},
			onlyHost: host,
		});
		return { text: report(body, after, [...deeds.values()]), failed: false };
	} catch (error) {
		return { text: complaint(error, [...deeds.values()]), failed: true };
	} finally {
		await close();
	}
}

async function readBody(file: string): Promise<ContainerCreate> {
	const named = file === "-" ? "standard input" : file;
	const text = await readInput(
		file,
		"a file with the body of POST /containers/create",
	);
	let body: unknown;
	try {
		body = JSON.parse(text);
	} catch (error) {
		throw new Error(
			`${named} is not JSON: ${messageOf(error)}; give the body of POST /containers/create`,
		);
	}
	if (!isObject(body)) {
		throw new Error(
			`${named} is not a JSON object; give the body of POST /containers/create, such as {"Image": "busybox"}`,
		);
	}
	spell(body, isContainerCreate.schema as Shape);
	gatherHostConfig(body);
	return body as ContainerCreate;
}

/** The networks that Compose would have made before it asks for this container. */
function composeNetworks(body: ContainerCreate) {
	const project = body.Labels?.["com.docker.compose.project"];
	return networksAsked(body)
		.filter((name) => project && name.startsWith(`${project}_`))
		.map((Name) => ({
			Name,
			Labels: {
				"com.docker.compose.project": project as string,
				"com.docker.compose.network": Name.slice(`${project}_`.length),
			},
		}));
}

/** A plugin whose `create` is looked at: what it finds, and what it leaves. */
function watched(plugin: Loaded, deeds: Map<string, Deed>): Loaded {
	const { name, hooks } = plugin;
	if (!hooks.create) return plugin;
	const create: typeof hooks.create = async (context) => {
		const facts = { ...context.facts } as Record<string, unknown>;
		const body = JSON.stringify(context.body);
		try {
			await hooks.create?.(context);
		} catch (error) {
			const deed: Deed = { plugin: name, facts: {}, amended: false };
			deeds.set(name, { ...deed, refused: true });
			throw error;
		}
		deeds.set(name, {
			plugin: name,
			facts: Object.fromEntries(
				Object.entries(context.facts).filter(
					([fact, value]) => facts[fact] !== value,
				),
			),
			amended: JSON.stringify(context.body) !== body,
		});
	};
	return { name, hooks: { ...hooks, create } };
}

function report(
	before: ContainerCreate,
	after: ContainerCreate | undefined,
	deeds: Deed[],
): string {
	if (!after) {
		return isDisabled(before.Labels)
			? "None of arpanet's: its label arpanet.enabled=false says to leave it alone, so Docker gets the body as it is."
			: "None of arpanet's: no plugin set a fact, so Docker gets the body as it is.\nA deployment id makes it ours: label arpanet.deployment, docker-compose -p, or --name abc_web_1.";
	}
	return [...deeds.map(told), "", ...diff(before, after).map(drawn)].join("\n");
}

function complaint(error: unknown, deeds: Deed[]): string {
	const status = error instanceof HttpError ? error.status : 500;
	const { cause } = error as { cause?: unknown };
	return [
		...deeds.map(told),
		`The client reads, with status ${status}:`,
		`  ${messageOf(error)}`,
		// a plugin that threw: its author wants to know where
		...(status === 500 && cause instanceof Error ? ["", cause.stack] : []),
	].join("\n");
}

function told({ plugin, facts, amended, refused }: Deed): string {
	if (refused) return `${plugin}: refuses`;
	const set = Object.entries(facts).map(([fact, value]) => `${fact}=${value}`);
	const what = [...set, ...(amended ? ["amends the body"] : [])];
	return `${plugin}: ${what.join(", ") || "nothing to do"}`;
}

function drawn({ mark, text }: Line): string {
	const line = `${mark} ${text}`;
	if (mark === " " || !process.stdout.hasColors?.()) return line;
	return styleText(mark === "+" ? "green" : "red", line);
}
