import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The folder of this package, whether it runs from dist/ of a checkout or is installed. */
const packageFolder: string = findPackage(
	dirname(fileURLToPath(import.meta.url)),
);

/** The powerstrip.yml that comes with arpanet. */
export const shippedConfig: string = join(packageFolder, "powerstrip.yml");

// dist/ holds no package.json, so the first one upwards is the package's own
function findPackage(folder: string): string {
	if (existsSync(join(folder, "package.json"))) return folder;
	return findPackage(dirname(folder));
}

/** The version in package.json. */
export function version(): string {
	const text = readFileSync(join(packageFolder, "package.json"), "utf8");
	return (JSON.parse(text) as { version: string }).version;
}

/**
 * The configuration to use: the file that was named, else powerstrip.yml in the current folder,
 * else the one where powerstrip looks, else the one that comes with arpanet.
 */
export function findConfig(named: string | undefined): string {
	if (named !== undefined) return named;
	const usual = ["powerstrip.yml", "/etc/powerstrip/adapters.yml"];
	return usual.find((file) => existsSync(file)) ?? shippedConfig;
}

/** A program on PATH, or in the folder where this project's setup unpacks it; undefined if there is none. */
export function findProgram(name: string): string | undefined {
	return [
		...(process.env.PATH ?? "").split(":").filter(Boolean),
		join(packageFolder, ".cache/bin"),
	]
		.map((folder) => join(folder, name))
		.find((path) => existsSync(path));
}
