import { once } from "node:events";
import type { Server } from "node:http";
import type { Logger } from "pino";
import { adapterApp, listen } from "../adapters/server.ts";
import { Agent } from "../agent/agent.ts";
import { createGateway, HttpAdapter } from "../gateway/gateway.ts";
import type { Config } from "../pipeline/config.ts";
import { parseEngineUrl } from "../pipeline/engine.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import type { Adapter } from "../pipeline/protocol.ts";
import type { Booted } from "./boot.ts";

/** A part of arpanet that runs until it is told to stop. */
export interface Role {
	stop(): Promise<void>;
}

/**
 * Docker's API, listening as powerstrip.yml says.
 * @param local serves the hooks of adapters whose URL is this process's own, without a detour over HTTP
 */
export async function runGateway(
	config: Config,
	log: Logger,
	local?: Pipeline,
): Promise<Role> {
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
		const http = new HttpAdapter(name, url, settings.hookTimeout);
		remote.push(http);
		adapters[name] = http;
	}
	const gateway = createGateway({
		engine: parseEngineUrl(engine),
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
			await Promise.all(remote.map((each) => each.close()));
		},
	};
}

/** The two endpoints that a powerstrip calls. */
export async function runAdapter(
	config: Config,
	log: Logger,
	{ pipeline }: Booted,
): Promise<Role> {
	const { hostname, port } = new URL(config.arpanet.adapter.listen);
	const server: Server = await listen(
		adapterApp(pipeline, log),
		hostname,
		Number(port),
	);
	log.info({ address: config.arpanet.adapter.listen }, "adapter listens");
	return {
		stop: async () => {
			const closed = once(server, "close");
			server.close();
			server.closeIdleConnections();
			await closed;
		},
	};
}

/** What happens on this host without a request. */
export function runAgent(booted: Booted): Role {
	const agent = new Agent(booted);
	agent.start();
	return { stop: () => agent.stop() };
}
