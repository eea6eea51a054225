#!/usr/bin/env -S node --max-semi-space-size=2 --v8-pool-size=1 --expose-gc
// Node's 16 MiB for what is short-lived, and four threads to collect it, make a daemon that has nothing to do 20 MB larger.
import { Command, InvalidArgumentError, Option } from "commander";
import { messageOf } from "../pipeline/errors.ts";
import type { AccessFlags } from "./access.ts";
import { findConfig, version } from "./files.ts";
import type { RoleName } from "./roles.ts";
import type { TryOptions } from "./try.ts";

// every command loads what it needs itself: --help and a slip of the finger are answered at once

/** Of the log, that are kept while they cannot be written. */
const LOG_BYTES = 1_000_000;
const LEVELS = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];

const program = new Command("arpanet")
	.description("A plain fig.yml or Compose file over many Docker hosts")
	.configureHelp({ showGlobalOptions: true })
	.version(version())
	.option(
		"-c, --config <file>",
		"powerstrip.yml to use (default: ./powerstrip.yml, else /etc/powerstrip/adapters.yml, else the one that comes with arpanet)",
	)
	.addHelpText(
		"after",
		example(
			"arpanet up &",
			"DOCKER_HOST=tcp://127.0.0.1:2375 docker-compose -p abc -f fig.yml up -d",
		),
	);

role(
	"up",
	"run everything in this process; on a host that is alone (no host.engine), with a Consul of its own if none runs",
	["adapter", "agent", "gateway"],
	"arpanet up --log-level debug",
);
role(
	"gateway",
	"run Docker's API in front of the engine",
	["gateway"],
	"arpanet gateway --config /etc/powerstrip/adapters.yml",
);
role(
	"adapter",
	"run the two endpoints that a powerstrip calls",
	["adapter"],
	"arpanet adapter --log-level warn",
);
role(
	"agent",
	"watch this host's engine and keep Consul true",
	["agent"],
	"arpanet agent",
);

program
	.command("ps")
	.description("show deployments, their copies, addresses and names in DNS")
	.option("--json", "for programs: the same as JSON")
	.addHelpText("after", example("arpanet ps"))
	.action(async (options: { json?: boolean }) => {
		const { ps } = await import("./ps.ts");
		print(await ps(await config(), options.json ?? false));
	});

program
	.command("hosts")
	.description("show the hosts of the cluster, their state and load")
	.addHelpText("after", example("arpanet hosts"))
	.action(async () => {
		const { listHosts } = await import("./hosts.ts");
		print(await listHosts(await config()));
	});

program
	.command("explain")
	.description("show why a container has its host and its address")
	.argument("<container>", "its name")
	.addHelpText("after", example("arpanet explain abc_web_1"))
	.action(async (container: string) => {
		const { explain } = await import("./explain.ts");
		print(await explain(await config(), container));
	});

program
	.command("leader")
	.description("show whose agent leads, since when, and what was repaired")
	.addHelpText("after", example("arpanet leader"))
	.action(async () => {
		const { showLeader } = await import("./leader.ts");
		print(await showLeader(await config()));
	});

const host = program
	.command("host")
	.description("keep new containers off a host, or forget one that is gone")
	.addHelpText("after", example("arpanet host drain node1"));
for (const [name, text, drained] of [
	["drain", "no new containers; what runs there goes on running", true],
	["undrain", "new containers again", false],
] as const) {
	host
		.command(name)
		.description(text)
		.argument("<name>", "as arpanet hosts shows it")
		.action(async (which: string) => {
			const { drainHost } = await import("./hosts.ts");
			print(await drainHost(await config(), which, drained));
		});
}
host
	.command("rm")
	.description("forget a host that is gone for good")
	.argument("<name>", "as arpanet hosts shows it")
	.option(
		"--force",
		"with all its containers and volumes: what they held is given back",
	)
	.action(async (which: string, { force = false }: { force?: boolean }) => {
		const { removeHost } = await import("./hosts.ts");
		print(await removeHost(await config(), which, force));
	});

program
	.command("plan")
	.description(
		"show where each container of a file would go and, for each host, why not",
	)
	.requiredOption("-f, --file <file>", "fig.yml or Compose file; - is stdin")
	.option("-p, --project-name <name>", "the deployment's id, as for Compose")
	.option(
		"--scale <service=number>",
		"copies of a service, as for Compose; can be given again",
		(text: string, all: Record<string, number>) => {
			const [, service, number] = /^([^=]+)=(\d+)$/.exec(text) ?? [];
			if (service) return { ...all, [service]: Number(number) };
			throw new InvalidArgumentError(
				"Write a service and a whole number, such as web=2.",
			);
		},
		{},
	)
	.option("--json", "for programs: with the score of every host")
	.addHelpText("after", example("arpanet plan -f fig.yml -p abc"))
	.action(async ({ file, projectName, ...options }: PlanOptions) => {
		const { plan } = await import("./plan.ts");
		const { text, failed } = await plan(await config(), file, {
			...(projectName ? { project: projectName } : {}),
			...options,
		});
		print(text);
		if (failed) process.exitCode = 1;
	});

program
	.command("certs")
	.description(
		"make an authority, and certificates of it for hosts and clients",
	)
	.argument("<folder>", "where the files go")
	.argument("<names...>", "addresses or names by which the hosts are reached")
	.option("--days <days>", "that the certificate is good for", days, 365)
	.addHelpText("after", example("arpanet certs ./certs 10.0.0.1 10.0.0.2"))
	.action(
		async (folder: string, names: string[], { days }: { days: number }) => {
			const { makeCertificates } = await import("./certs.ts");
			await makeCertificates(folder, names, days);
			print(
				[
					`${folder}/host: copy it to every host as /etc/arpanet and set "tls" in powerstrip.yml`,
					`${folder}/client: for people, as DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=${folder}/client`,
					`${folder}/ca-key.pem: makes more of both; keep it to yourself`,
				].join("\n"),
			);
		},
	);

program
	.command("try")
	.description(
		"show what the plugins make of a create body; needs neither Docker nor Consul",
	)
	.argument("<file>", "JSON body of POST /containers/create; - is stdin")
	.option("--name <name>", "name that the client asks for, such as abc_web_1")
	.option("--host <host>", "the only host that it may be placed on")
	.addHelpText(
		"after",
		example(
			`echo '{"Image": "busybox"}' | arpanet try - --name abc_web_1`,
			"arpanet try body.json",
		),
	)
	.action(async (file: string, options: TryOptions) => {
		const { tryOut } = await import("./try.ts");
		const { text, failed } = await tryOut(await config(), file, options);
		print(text);
		if (failed) process.exitCode = 1;
	});

program
	.command("check")
	.description(
		"look at the configuration and at everything arpanet needs: what is wrong, and what to do",
	)
	.addHelpText("after", example("arpanet check -c powerstrip.yml"))
	.action(async () => {
		const { check } = await import("./check.ts");
		if (!(await check(configFile(), print))) process.exitCode = 1;
	});

interface PlanOptions {
	file: string;
	projectName?: string;
	scale: Record<string, number>;
	json?: boolean;
}

function role(
	name: string,
	text: string,
	roles: readonly RoleName[],
	sample: string,
): void {
	program
		.command(name)
		.description(text)
		.addOption(
			new Option("--log-level <level>", "the least that is logged")
				.choices(LEVELS)
				.default("info"),
		)
		.option("--tlsverify", "as dockerd's: who connects shows a certificate")
		.option(
			"--tlscacert <file>",
			"its authority (default: powerstrip.yml's, else ca.pem in $DOCKER_CERT_PATH or ~/.docker)",
		)
		.option(
			"--tlscert <file>",
			"our certificate (default: powerstrip.yml's, else cert.pem in $DOCKER_CERT_PATH or ~/.docker)",
		)
		.option(
			"--tlskey <file>",
			"its key (default: powerstrip.yml's, else key.pem in $DOCKER_CERT_PATH or ~/.docker)",
		)
		.option("--insecure", "listen beyond loopback without certificates")
		.addHelpText("after", example(sample))
		.action(async (flags: AccessFlags & { logLevel: string }) => {
			const [{ pino }, { runRoles }, { applyAccess }] = await Promise.all([
				import("pino"),
				import("./up.ts"),
				import("./access.ts"),
			]);
			const out = pino.destination({ sync: false, maxLength: LOG_BYTES });
			// a full disk, or a terminal that is gone, ends no daemon; nor may it keep one from its end, as trying on for ever would
			out.on("error", () => {
				out.flushSync = () => {};
			});
			const log = pino({ name: "arpanet", level: flags.logLevel }, out);
			const settings = applyAccess(await config(), flags);
			await runRoles(roles, settings, log, name === "up");
		});
}

function days(text: string): number {
	if (/^[1-9]\d*$/.test(text)) return Number(text);
	throw new InvalidArgumentError("Write a whole number, 1 or more.");
}

function example(...lines: string[]): string {
	return ["", "Example:", ...lines.map((line) => `  ${line}`)].join("\n");
}

function configFile(): string {
	return findConfig(program.opts<{ config?: string }>().config);
}

async function config() {
	const { loadConfig } = await import("../pipeline/config.ts");
	return loadConfig(configFile());
}

function print(text: string): void {
	process.stdout.write(`${text}\n`);
}

process.stdout.on("error", (error: NodeJS.ErrnoException) => {
	if (error.code !== "EPIPE") throw error;
	process.exit(); // who reads has seen enough, as head(1)
});
try {
	await program.parseAsync();
} catch (error) {
	process.stderr.write(`arpanet: ${messageOf(error)}\n`);
	process.exitCode = 1;
}
// a plugin's timer or another host's connection must not keep us; what a pipe has not taken yet it still gets
process.stdout.write("", () => process.exit());
