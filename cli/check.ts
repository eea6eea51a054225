import { pino } from "pino";
import { type Config, loadConfig } from "../pipeline/config.ts";
import { messageOf } from "../pipeline/errors.ts";
import { type Found, findPlugins } from "../pipeline/load.ts";
import type { Pool } from "../pipeline/state/subnets.ts";
import { builtins } from "../plugins/index.ts";
import { boot, hostOf } from "./boot.ts";
import { checkConsul } from "./checks/consul.ts";
import { checkEngine } from "./checks/engine.ts";
import { type Finding, ok } from "./checks/finding.ts";
import { checkHooks } from "./checks/hooks.ts";
import { checkHosts } from "./checks/hosts.ts";
import { checkIpv6 } from "./checks/ipv6.ts";
import {
	checkAdapters,
	checkExposure,
	checkListening,
} from "./checks/listening.ts";
import { checkPool } from "./checks/pool.ts";
import { checkPrograms } from "./checks/programs.ts";
import { checkTls } from "./checks/tls.ts";

/**
 * Looks at the configuration and at all parts that arpanet stands on; changes nothing.
 * @param print gets one line for each thing that was looked at
 * @returns whether nothing failed
 */
export async function check(
	file: string,
	print: (line: string) => void,
): Promise<boolean> {
	let good = true;
	const tell = ({ level, what, remedy }: Finding) => {
		if (level === "fail") good = false;
		print(`${level.padEnd(4)}  ${what}${remedy ? `; ${remedy}` : ""}`);
	};
	let config: Config;
	let found: Found[];
	try {
		config = await loadConfig(file);
		tell(ok(`configuration: ${file}`));
		found = await findPlugins(config.plugins, builtins, file);
		await (await boot(config, pino({ level: "silent" }))).close();
		tell(ok(`plugins: ${found.map(({ plugin }) => plugin.name).join(", ")}`));
	} catch (error) {
		tell({ level: "fail", what: messageOf(error) }); // says the remedy itself
		return good;
	}
	// one's own in the place of a built-in has others
	const settings = new Map(
		found
			.filter(({ plugin }) => plugin === builtins[plugin.name])
			.map(({ plugin, config }) => [plugin.name, config]),
	);
	const dns = settings.get("dns-search") as { servers: string[] } | undefined;
	const pool = settings.get("dhcp") as Pool | undefined;
	const servers = dns?.servers.length ? dns.servers : [hostOf(config).address];
	for (const part of [
		checkEngine(config),
		checkPrograms(config),
		checkIpv6(config),
		checkTls(config),
		checkConsul(config, dns ? servers : []),
		checkHosts(config),
		checkHooks(config),
		checkAdapters(config),
		checkListening(config),
		checkExposure(config),
		pool ? checkPool(config, pool) : [],
	]) {
		for (const finding of await part) tell(finding);
	}
	return good;
}
