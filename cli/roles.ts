import type { Logger } from "pino";
import { adapterApp, listen } from "../adapters/server.ts";
import { Agent } from "../agent/agent.ts";
import { openEnginePort } from "../agent/engine-port.ts";
import { plainUnderlay, type Underlay } from "../agent/overlay.ts";
import { type Keys, WireGuard, wireguardKeys } from "../agent/wireguard.ts";
import { createGateway } from "../gateway/gateway.ts";
import { HttpAdapter } from "../gateway/http-adapter.ts";
import type { Config } from "../pipeline/config.ts";
import { parseEngineUrl } from "../pipeline/engine.ts";
import type { Adapter } from "../pipeline/protocol.ts";
import type { HostRecord } from "../pipeline/state/hosts.ts";
import { mustBeSafe } from "../pipeline/tls.ts";
import { type Booted, linkMtu } from "./boot.ts";

export type RoleName = "gateway" | "adapter" | "agent";

/** A part of arpanet that runs until it is told to stop. */
export interface Role {
	stop(): Promise<void>;
}

/**
 * Sees to it that others can reach nothing of these roles without a certificate, unless that is meant.
 * @throws Error for the first address that they can
 */
export function mustAllBeSafe(
	roles: readonly RoleName[],
	{ arpanet }: Config,
): void {
	const { adapter, gateway, host } = arpanet;
	const at = {
		adapter: [adapter.listen],
		agent: host.engine ? [host.engine] : [],
		gateway: gateway.listen,
	};
	for (const address of roles.flatMap((role) => at[role])) {
		mustBeSafe(address, arpanet);
	}
}

/**
 * Docker's API, listening as powerstrip.yml says.
 * @param isLocal serve the hooks of adapters whose URL is this process's own without a detour over HTTP
 */
export async function runGateway(
	config: Config,
	log: Logger,
	{ services, pipeline }: Booted,
	isLocal: boolean,
): Promise<Role> {
	const local = isLocal ? pipeline : undefined;
	const { engine, adapter, gateway: settings } = config.arpanet;
	const own = new URL(adapter.listen).host;
	const adapters: Record<string, Adapter> = {};
	const remote: HttpAdapter[] = [];
	for (const [name, url] of Object.entries(config.adapters)) {
		const { host, searchParams } = new URL(url);
		if (local && host === own) {
			const onlyHost = searchParams.get("host");
			adapters[name] = onlyHost ? local.on(onlyHost) : local;
			continue;
		}
		const { tls } = services.cluster;
		const http = new HttpAdapter(name, url, tls);
		remote.push(http);
		adapters[name] = http;
	}
	const gateway = createGateway({
		engine: parseEngineUrl(engine),
		services,
		...(services.cluster.tls ? { tls: services.cluster.tls } : {}),
		endpoints: config.endpoints,
		adapters,
		hookTimeout: settings.hookTimeout,
		maxBody: settings.maxBody,
		log,
	});
	await gateway.listen(settings.listen);
	return {
		stop: async () => {
			await gateway.close();
			for (const each of remote) each.close();
		},
	};
}

/** The two endpoints that a powerstrip calls. */
export async function runAdapter(
	config: Config,
	log: Logger,
	{ pipeline, services }: Booted,
): Promise<Role> {
	const address = config.arpanet.adapter.listen;
	const { tls } = services.cluster;
	const stop = await listen(adapterApp(pipeline, log), { address, tls, log });
	log.info({ address }, "adapter listens");
	return { stop };
}

/** What happens on this host without a request. */
export async function runAgent(
	config: Config,
	log: Logger,
	booted: Booted,
): Promise<Role> {
	const { engine, host } = config.arpanet;
	const { services } = booted;
	const port =
		host.engine &&
		(await openEnginePort(host.engine, engine, log, services.cluster.tls));
	const keys = config.arpanet.encrypt
		? wireguardKeys(config.arpanet.stateDir)
		: undefined;
	if (keys) services.host.wireguard = keys.public; // before start() announces it
	const agent = new Agent({
		...booted,
		leader: booted.fenced(),
		underlay: underlayOf(services.host, keys),
	});
	agent.start();
	return {
		stop: async () => {
			await agent.stop();
			if (port) await port.close();
		},
	};
}

/** The hosts' own network, or WireGuard over it. */
function underlayOf(host: HostRecord, keys: Keys | undefined): Underlay {
	if (!keys) return plainUnderlay(host.address);
	return new WireGuard(keys, host, linkMtu(host.address));
}
