#!/usr/bin/env node
import { Command } from "commander";
import { pino } from "pino";
import { loadConfig } from "../pipeline/config.ts";
import { messageOf } from "../pipeline/errors.ts";
import { boot } from "./boot.ts";
import { type Role, runAdapter, runAgent, runGateway } from "./roles.ts";

interface Options {
	config: string;
}

const program = new Command("arpanet")
	.description("A plain fig.yml or Compose file over many Docker hosts")
	.configureHelp({ showGlobalOptions: true })
	.option("-c, --config <file>", "powerstrip.yml to use", "powerstrip.yml");

program
	.command("up")
	.description("run gateway, adapter and agent in this process")
	.action(() => run(["adapter", "agent", "gateway"]));
for (const [role, text] of [
	["gateway", "run Docker's API in front of the engine"],
	["adapter", "run the endpoints that a powerstrip calls"],
	["agent", "watch this host's engine and keep Consul true"],
] as const) {
	program
		.command(role)
		.description(text)
		.action(() => run([role]));
}

/** Runs roles until SIGINT or SIGTERM; the gateway starts last and stops first. */
async function run(roles: ("gateway" | "adapter" | "agent")[]): Promise<void> {
	const log = pino({ name: "arpanet" });
	const config = await loadConfig(program.opts<Options>().config);
	const booted = await boot(config, log);
	const running: Role[] = [];
	for (const role of roles) {
		if (role === "adapter") running.push(await runAdapter(config, log, booted));
		if (role === "agent") running.push(runAgent(booted));
		if (role === "gateway") {
			const local = roles.includes("adapter") ? booted.pipeline : undefined;
			running.push(await runGateway(config, log, local));
		}
	}
	const signal = await new Promise<string>((resolve) => {
		process.once("SIGINT", resolve);
		process.once("SIGTERM", resolve);
	});
	log.info({ signal }, "stopping");
	for (const role of running.reverse()) await role.stop();
	await booted.close();
}

try {
	await program.parseAsync();
} catch (error) {
	process.stderr.write(`arpanet: ${messageOf(error)}\n`);
	process.exitCode = 1;
}
