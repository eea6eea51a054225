import { Resolver } from "node:dns/promises";
import type { Config } from "../../pipeline/config.ts";
import { consulAccess } from "../../pipeline/consul-access.ts";
import { HttpError, messageOf } from "../../pipeline/errors.ts";
import { originOf } from "../../pipeline/http-client.ts";
import { formatRefusal, readFormat } from "../../pipeline/state/format.ts";
import { Store } from "../../pipeline/state/store.ts";
import { ask } from "../ask.ts";
import { isAbsent } from "../consul.ts";
import { DNS_PORT, mustBeFreeForDns } from "../dns-port.ts";
import { findProgram } from "../files.ts";
import { checkRights } from "./consul-rights.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";
import { handshakeRemedy } from "./tls.ts";

/** The part of `/v1/agent/self` that matters to containers. */
interface Self {
	Config: { Version: string };
	DebugConfig: { DNSRecursors?: string[] | null; DNSUDPAnswerLimit?: number };
}

/** So many copies of one service are usual. */
const ENOUGH_ANSWERS = 20;

/**
 * Consul answers and has a leader; its DNS is where containers ask, knows other names, and shows every copy.
 * @param servers addresses at which containers ask for names
 */
export async function checkConsul(
	config: Config,
	servers: string[],
): Promise<Finding[]> {
	const { address } = config.arpanet.consul;
	if (await isAbsent(config).catch(() => false)) {
		return checkEmbedded(address, servers);
	}
	let leader: string;
	try {
		leader = await get(config, "/v1/status/leader");
	} catch (error) {
		return [
			fail(
				`consul: ${address} does not answer (${messageOf(error)})`,
				handshakeRemedy(error, "arpanet.consul.tls") ??
					"start Consul, or set arpanet.consul.address",
			),
		];
	}
	if (JSON.parse(leader) === "") {
		return [
			fail(
				`consul: ${address} answers but has no leader`,
				"start more of its servers, or see its log",
			),
		];
	}
	const found = [
		ok(`consul: ${address} answers and has a leader`),
		...(await checkRights(config)),
		...(await checkFormat(config)),
	];
	try {
		const self = await get(config, "/v1/agent/self");
		found.push(...checkSettings(JSON.parse(self) as Self));
	} catch (error) {
		found.push(
			warn(
				`consul: does not show its settings (${messageOf(error)})`,
				'add agent_prefix "" { policy = "read" } to the token\'s policy to have them checked',
			),
		);
	}
	return [...found, ...(await Promise.all(servers.map(checkDns)))];
}

/** What `arpanet up` needs to start a Consul of its own. */
async function checkEmbedded(
	address: string,
	servers: string[],
): Promise<Finding[]> {
	const program = findProgram("consul");
	if (!program) {
		return [
			fail(
				`consul: nothing answers at ${address}, and there is no consul on PATH`,
				"install Consul, or set arpanet.consul.address",
			),
		];
	}
	try {
		for (const server of servers) await mustBeFreeForDns(server);
	} catch (error) {
		const [what = "", remedy = ""] = messageOf(error).split("; ");
		return [fail(what, remedy)];
	}
	return [
		ok(`consul: none at ${address} yet; arpanet up starts ${program}`),
		ok(`dns: port ${DNS_PORT} of ${servers.join(", ")} is free for it`),
	];
}

/** Whether this arpanet understands the state that is there. */
async function checkFormat({ arpanet }: Config): Promise<Finding[]> {
	const store = new Store(arpanet.consul);
	try {
		const found = (await readFormat(store))?.value;
		const refusal = formatRefusal(found);
		const [what = "", remedy = ""] = refusal?.split(": ") ?? [];
		if (refusal) return [fail(`consul: ${what}`, remedy)];
		return found === undefined
			? [ok("consul: no state of arpanet yet")]
			: [ok(`consul: state of format ${found}`)];
	} catch (error) {
		const isNone = error instanceof HttpError && error.status === 500;
		if (!isNone) return []; // the rights that are missing say why
		const [what = "", remedy = ""] = error.message.split("; ");
		return [fail(what, remedy)];
	} finally {
		store.close();
	}
}

function checkSettings({ DebugConfig: settings }: Self): Finding[] {
	const { DNSRecursors, DNSUDPAnswerLimit = 3 } = settings;
	const recursors = DNSRecursors ?? [];
	return [
		recursors.length > 0
			? ok(
					`consul: asks ${recursors.join(", ")} for names that are not its own`,
				)
			: warn(
					"consul: has no recursors, so it refuses every name outside of .consul",
					'add "recursors": ["<the host\'s name server>"] to its configuration',
				),
		DNSUDPAnswerLimit >= ENOUGH_ANSWERS
			? ok(`consul: shows up to ${DNSUDPAnswerLimit} copies in an answer`)
			: warn(
					`consul: dns_config.udp_answer_limit is ${DNSUDPAnswerLimit}, so plain UDP clients do not see the other copies of a service`,
					'add "dns_config": {"udp_answer_limit": 100} to its configuration',
				),
	];
}

async function checkDns(server: string): Promise<Finding> {
	const resolver = new Resolver({ timeout: ANSWER_MS, tries: 1 });
	try {
		resolver.setServers([server]);
		await resolver.resolve4("consul.service.consul");
		return ok(`dns: ${server}:${DNS_PORT} answers for .consul`);
	} catch (error) {
		const { code = messageOf(error) } = error as NodeJS.ErrnoException;
		const what = `dns: ${server}:${DNS_PORT}, where containers ask, does not know consul.service.consul (${code})`;
		if (code === "ENOTFOUND") {
			return fail(
				what,
				'Consul answers and may not tell: give its anonymous token node_prefix "" { policy = "read" } and service_prefix "" { policy = "read" }',
			);
		}
		return fail(
			what,
			`give Consul "ports": {"dns": ${DNS_PORT}} and "addresses": {"dns": "${server}"}`,
		);
	}
}

/** @throws Error when it does not answer 200 */
async function get({ arpanet }: Config, path: string): Promise<string> {
	const { token, tls } = consulAccess(arpanet.consul);
	const { status, text } = await ask(
		originOf(arpanet.consul.address, tls),
		path,
		ANSWER_MS,
		token ? { "X-Consul-Token": token } : {},
	);
	if (status === 200) return text;
	throw new Error(`status ${status}: ${text.trim()}`);
}
