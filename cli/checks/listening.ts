import { statSync } from "node:fs";
import { dirname } from "node:path";
import type { Config } from "../../pipeline/config.ts";
import { type EngineAddress, parseEngineUrl } from "../../pipeline/engine.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { originOf } from "../../pipeline/http-client.ts";
import {
	bindTcp,
	describe,
	isArpanet,
	listenerAt,
} from "../../pipeline/listeners.ts";
import { readTls, tcpAddress } from "../../pipeline/tls.ts";
import { ask } from "../ask.ts";
import { mustAllBeSafe } from "../roles.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";
import { handshakeRemedy } from "./tls.ts";

/** Every adapter answers, or will as soon as arpanet is up. */
export function checkAdapters(config: Config): Promise<Finding[]> {
	const own = new URL(config.arpanet.adapter.listen).host;
	const tls = config.arpanet.tls && readTls(config.arpanet.tls);
	return Promise.all(
		Object.entries(config.adapters).map(async ([name, url]) => {
			const { host, pathname } = new URL(url);
			try {
				const answer = await ask(originOf(url, tls), pathname, ANSWER_MS);
				const refused = [400, 403].includes(answer.status);
				if (refused) {
					return fail(
						`adapter ${name}: ${url} lets us not in (${answer.text.trim()})`,
						"correct its URL under adapters, or arpanet.tls",
					);
				}
				return ok(`adapter ${name}: ${url} answers`);
			} catch (error) {
				if (host === own && codeOf(error) === "ECONNREFUSED") {
					return ok(`adapter ${name}: ${url} is free for arpanet up`);
				}
				return fail(
					`adapter ${name}: ${url} does not answer (${messageOf(error)})`,
					handshakeRemedy(error, "arpanet.tls") ??
						"start it, or correct its URL under adapters",
				);
			}
		}),
	);
}

/** Where the gateway shall listen, and this host's engine be reached by the others, nobody else does. */
export function checkListening({ arpanet }: Config): Promise<Finding[]> {
	const { gateway, host } = arpanet;
	return Promise.all([
		...gateway.listen.map((listen) =>
			checkListener("gateway", listen, "arpanet.gateway.listen"),
		),
		...(host.engine
			? [checkListener("engine port", host.engine, "arpanet.host.engine")]
			: []),
	]);
}

async function checkListener(
	part: string,
	listen: string,
	setting: string,
): Promise<Finding> {
	let address: EngineAddress;
	try {
		address = parseEngineUrl(listen);
	} catch (error) {
		return fail(`${part}: ${messageOf(error)}`, `correct ${setting}`);
	}
	const tcp = tcpAddress(listen);
	try {
		if (tcp) await bindTcp(tcp.host, 0);
	} catch (error) {
		return fail(
			`${part}: cannot listen on ${listen}, which is no address of this machine (${codeOf(error)})`,
			`correct ${setting}`,
		);
	}
	const obstacle = "socketPath" in address && inTheWay(address.socketPath);
	if (obstacle) {
		return fail(
			`${part}: cannot listen on ${listen}: ${obstacle}`,
			`put that right, or correct ${setting}`,
		);
	}
	try {
		await ask(tcp ?? address, "/_ping", ANSWER_MS);
	} catch (error) {
		if (["ECONNREFUSED", "ENOENT"].includes(codeOf(error) ?? "")) {
			return ok(`${part}: ${listen} is free`);
		}
	}
	const listener = await listenerAt(
		"port" in address ? { port: address.port } : { path: address.socketPath },
	);
	if (isArpanet(listener)) return ok(`${part}: listens on ${listen}`);
	if (!listener && process.getuid?.() !== 0) {
		return warn(
			`${part}: a program that you may not see listens on ${listen}`,
			"run arpanet check as root to be told which",
		);
	}
	return fail(
		`${part}: ${describe(listener)} listens on ${listen}`,
		`stop it, or choose another address in ${setting}`,
	);
}

/** What others can reach asks them for a certificate, or is meant to be open: else arpanet does not start. */
export function checkExposure(config: Config): Finding[] {
	try {
		mustAllBeSafe(["adapter", "agent", "gateway"], config);
		return [];
	} catch (error) {
		return [{ level: "fail", what: messageOf(error) }]; // says the remedy itself
	}
}

/** Why there can be no socket. */
function inTheWay(path: string): string | undefined {
	const folder = statSync(dirname(path), { throwIfNoEntry: false });
	if (!folder?.isDirectory()) return `there is no folder ${dirname(path)}`;
	const there = statSync(path, { throwIfNoEntry: false });
	if (there && !there.isSocket()) return `${path} is there, and no socket`;
	return undefined;
}

function codeOf(error: unknown): string | undefined {
	return (error as NodeJS.ErrnoException).code;
}
