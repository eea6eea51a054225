import type { Config } from "../../pipeline/config.ts";
import { parseEngineUrl } from "../../pipeline/engine.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { ask } from "../ask.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";

/** The oldest API with all that arpanet asks of an engine: Docker 1.12. */
const MIN_API = 24;

/**
 * Releases of Docker in which names do not resolve, all or those in internal networks: its DNS asks nobody else
 * (moby #51614, #47538, #47832).
 */
const WITHOUT_NAMES =
	/^(29\.1\.0|26\.0\.\d+|26\.1\.[0-2]|25\.0\.[45]|23\.0\.11)\b/;

/** The engine answers, is new enough, and is no release that is known not to do. */
export async function checkEngine(config: Config): Promise<Finding[]> {
	const { engine } = config.arpanet;
	try {
		const { text } = await ask(parseEngineUrl(engine), "/version", ANSWER_MS);
		const { Version, ApiVersion } = JSON.parse(text) as {
			Version: string;
			ApiVersion: string;
		};
		const seen = `engine: Docker ${Version} with API ${ApiVersion} answers at ${engine}`;
		const [, minor = 0] = ApiVersion.split(".").map(Number);
		if (minor < MIN_API) {
			return [
				warn(seen, `API 1.${MIN_API} is the oldest known to do; update Docker`),
			];
		}
		const found = [ok(seen)];
		if (WITHOUT_NAMES.test(Version)) {
			found.push(
				warn(
					`engine: in Docker ${Version} names do not resolve in containers, or not in internal networks`,
					"update Docker",
				),
			);
		}
		// what takes its time is none the less there
		const firewall = await checkFirewall(engine).catch(() => []);
		return [...found, ...firewall];
	} catch (error) {
		return [
			fail(
				`engine: ${engine} does not answer (${messageOf(error)})`,
				"start Docker, or set arpanet.engine",
			),
		];
	}
}

/** Docker's own firewall is one that ours can open. */
async function checkFirewall(engine: string): Promise<Finding[]> {
	const { text } = await ask(parseEngineUrl(engine), "/info", ANSWER_MS);
	const { FirewallBackend } = JSON.parse(text) as {
		FirewallBackend?: { Driver: string };
	};
	// `nftables+firewalld` where that runs
	if (!FirewallBackend?.Driver.startsWith("nftables")) return [];
	return [
		warn(
			"engine: its firewall is nftables, so arpanet.expose opens nothing",
			'set "firewall-backend": "iptables" in /etc/docker/daemon.json',
		),
	];
}
