import { access, readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import type { PluginEntry } from "./config.ts";
import { messageOf } from "./errors.ts";
import type { Hooks, Loaded, Plugin, Services } from "./plugin.ts";
import { ConfigError, validate } from "./validate.ts";

/** A plugin that was found and whose configuration is good, not set up yet. */
export interface Found {
	plugin: Plugin;
	config: unknown;
	/** `powerstrip.yml:12`, for messages. */
	where: string;
}

/**
 * Finds the listed plugins: by the bare name of a built-in, a path relative to the
 * configuration file, or the name of an npm package installed beside that file.
 * @param builtins by name
 * @param file path of powerstrip.yml
 * @throws ConfigError naming file, line and remedy
 */
export async function findPlugins(
	entries: PluginEntry[],
	builtins: Record<string, Plugin>,
	file: string,
): Promise<Found[]> {
	const found: Found[] = [];
	for (const { name, config, where } of entries) {
		const plugin = builtins[name] ?? (await importPlugin(name, file, where));
		const missing = plugin.after?.find(
			(other) => !found.some((before) => before.plugin.name === other),
		);
		if (missing) {
			throw new ConfigError(
				`${where}: plugin ${plugin.name} must stand after ${missing}; put ${missing} before it in the list`,
			);
		}
		if (found.some((before) => before.plugin.name === plugin.name)) {
			throw new ConfigError(
				`${where}: plugin ${plugin.name} stands in the list twice; remove or rename one`,
			);
		}
		found.push({ plugin, config: checked(plugin, config, where), where });
	}
	return found;
}

/** @returns the configuration with defaults @throws ConfigError */
function checked(
	{ name, schema = NOTHING }: Plugin,
	config: unknown,
	where: string,
): unknown {
	const holder = { [name]: config };
	try {
		validate(
			{ type: "object", properties: { [name]: schema } },
			holder,
			() => where,
		);
	} catch (error) {
		if (error instanceof ConfigError) throw error;
		throw new ConfigError(
			`${where}: plugin ${name}: its schema cannot be used: ${messageOf(error)}`,
			{ cause: error },
		);
	}
	return holder[name];
}

/** A plugin without a schema takes no configuration. */
const NOTHING = { type: "object", additionalProperties: false };

/**
 * Sets the plugins up, in list order.
 * @throws ConfigError naming the one that gives no hooks
 */
export function setUp(found: Found[], services: Services): Loaded[] {
	const all: Loaded[] = [];
	for (const { plugin, config, where } of found) {
		const { name } = plugin;
		let hooks: Hooks | undefined;
		try {
			hooks = plugin.setup(config, services, all);
		} catch (error) {
			throw new ConfigError(
				`${where}: plugin ${name} cannot be set up: ${messageOf(error)}`,
				{ cause: error },
			);
		}
		if (hooks instanceof Promise) {
			hooks.catch(() => {}); // what it would have said ends no process
			throw new ConfigError(
				`${where}: plugin ${name}: its setup gives a promise; return the hooks at once, and wait in them`,
			);
		}
		if (typeof hooks !== "object" || hooks === null) {
			throw new ConfigError(
				`${where}: plugin ${name}: its setup gives no hooks; return an object of them`,
			);
		}
		all.push({ name, hooks });
	}
	return all;
}

async function importPlugin(
	name: string,
	file: string,
	where: string,
): Promise<Plugin> {
	const module = await importFrom(name, file, where);
	const exported = module.default as
		| (Partial<Plugin> & { default?: Partial<Plugin> })
		| undefined;
	const plugin = exported?.default ?? exported; // tsc's CommonJS has it a step deeper
	if (typeof plugin?.name !== "string" || typeof plugin.setup !== "function") {
		throw new ConfigError(
			`${where}: "${name}" is no plugin; its default export must be {name, setup}`,
		);
	}
	if (!isNames(plugin.after ?? [])) {
		throw new ConfigError(
			`${where}: plugin ${plugin.name}: its "after" must be a list of names`,
		);
	}
	return plugin as Plugin;
}

function isNames(value: unknown): boolean {
	return (
		Array.isArray(value) && value.every((each) => typeof each === "string")
	);
}

/** The file of a package, also of one that has an export for `import` alone. */
async function findPackage(
	name: string,
	require: NodeJS.Require,
): Promise<string> {
	try {
		return require.resolve(name);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		if (code !== "ERR_PACKAGE_PATH_NOT_EXPORTED") throw error;
	}
	for (const folder of require.resolve.paths(name) ?? []) {
		const file = join(folder, name, "package.json");
		const text = await readFile(file, "utf8").catch(() => undefined);
		if (text === undefined) continue;
		const { exports } = JSON.parse(text) as { exports: Exports };
		const main = forImport(exports);
		if (main) return join(folder, name, main);
	}
	throw new Error(`${name} exports nothing to import`);
}

type Exports = string | { [condition: string]: Exports };

/** What a package's `exports` name for `import "<package>"`: the first condition that holds counts. */
function forImport(exports: Exports): string | undefined {
	if (typeof exports === "string") return exports;
	if (typeof exports !== "object" || exports === null) return undefined;
	const main = exports["."] ?? exports;
	if (typeof main === "string") return main;
	for (const [condition, target] of Object.entries(main)) {
		if (!["node", "import", "default"].includes(condition)) continue;
		const found = forImport(target);
		if (found) return found;
	}
	return undefined;
}

async function importFrom(
	name: string,
	file: string,
	where: string,
): Promise<{ default?: unknown }> {
	const base = resolve(file);
	let target: string;
	try {
		if (/^\.{0,2}\//.test(name)) {
			target = resolve(dirname(base), name);
			await access(target);
		} else {
			target = await findPackage(name, createRequire(base));
		}
	} catch {
		throw new ConfigError(
			`${where}: plugin "${name}" is not found; it is no built-in, and no file or npm package of that name is there (a path starts with ./, from the folder of ${file})`,
		);
	}
	try {
		return (await import(pathToFileURL(target).href)) as { default?: unknown };
	} catch (error) {
		const code = (error as NodeJS.ErrnoException | undefined)?.code; // a module may throw anything
		const remedy =
			code === "ERR_UNKNOWN_FILE_EXTENSION"
				? "; compile it, and name the JavaScript file"
				: "";
		throw new ConfigError(
			`${where}: plugin "${name}" cannot be loaded: ${messageOf(error)}${remedy}`,
			{ cause: error },
		);
	}
}
