import { Resolver } from "node:dns/promises";
import type { Config } from "../../pipeline/config.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { addressOf, ask } from "../ask.ts";
import { isAbsent } from "../consul.ts";
import { DNS_PORT, mustBeFreeForDns } from "../dns-port.ts";
import { findProgram } from "../files.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";

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
	if (await isAbsent(address).catch(() => false)) {
		return checkEmbedded(address, servers);
	}
	let leader: string;
	try {
		leader = await get(config, "/v1/status/leader");
	} catch (error) {
		return [
			fail(
				`consul: ${address} does not answer (${messageOf(error)})`,
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
	const found = [ok(`consul: ${address} answers and has a leader`)];
	try {
		const self = await get(config, "/v1/agent/self");
		found.push(...checkSettings(JSON.parse(self) as Self));
	} catch (error) {
		found.push(
			warn(
				`consul: does not show its settings (${messageOf(error)})`,
				"give arpanet.consul.token the right agent:read to have them checked",
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
		return fail(
			`dns: ${server}:${DNS_PORT}, where containers ask, does not know consul.service.consul (${(error as NodeJS.ErrnoException).code ?? messageOf(error)})`,
			`give Consul "ports": {"dns": ${DNS_PORT}} and "addresses": {"dns": "${server}"}`,
		);
	}
}

/** @throws Error when it does not answer 200 */
async function get({ arpanet }: Config, path: string): Promise<string> {
	const { address, token } = arpanet.consul;
	if (address.startsWith("https:")) {
		const answer = await fetch(new URL(path, address), {
			headers: headersOf(token),
			signal: AbortSignal.timeout(ANSWER_MS),
		});
		return good(answer.status, await answer.text());
	}
	const { status, text } = await ask(
		addressOf(address),
		path,
		ANSWER_MS,
		headersOf(token),
	);
	return good(status, text);
}

function good(status: number, text: string): string {
	if (status === 200) return text;
	throw new Error(`status ${status}: ${text.trim()}`);
}

function headersOf(token: string | undefined): Record<string, string> {
	return token ? { "X-Consul-Token": token } : {};
}
