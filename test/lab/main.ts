/**
 * A lab for a person: as many Docker hosts as you like on this machine, with arpanet on each, until Ctrl-C.
 *
 *     npm run lab -- 3
 *
 * What a lab that was killed has left, its guard removes, else the next lab or test run.
 */
import { createWriteStream } from "node:fs";
import { table } from "../../cli/table.ts";
import {
	bold,
	heading,
	say,
	sayCommand,
	sayError,
	sayOutput,
	sayPath,
	secondsSince,
	Trouble,
} from "../../examples/demo/narrate.ts";
import { arpanetProgram } from "./arpanet.ts";
import { type LabCluster, startCluster } from "./cluster.ts";

const USAGE = `Usage: npm run lab [-- HOSTS]

Makes HOSTS Docker hosts (3 unless told, 1 to 9) in network namespaces of this machine, each with an engine,
a Consul and arpanet, and says how to use them. They stay until Ctrl-C, which leaves no trace.
`;

try {
	process.exitCode = await main(process.argv.slice(2));
} catch (error) {
	sayError(error, "lab");
	process.exitCode = 1;
}
process.exit();

async function main([count = "3", ...more]: string[]): Promise<number> {
	if (["--help", "-h"].includes(count)) {
		process.stdout.write(USAGE);
		return 0;
	}
	if (!/^[1-9]$/.test(count) || more.length > 0) {
		throw new Trouble("how many hosts? A number from 1 to 9.", USAGE);
	}
	if (process.getuid?.() !== 0) {
		throw new Trouble(
			"network namespaces and engines need root.",
			"Run it as root: sudo npm run lab",
		);
	}
	const told = signalled();
	const start = performance.now();
	heading(`${count} Docker ${count === "1" ? "host" : "hosts"} on one wire`);
	const lab = await startCluster({ hosts: Number(count) }).catch((error) => {
		if (told.aborted) return undefined; // Ctrl-C reaches what it starts as well
		throw error;
	});
	if (!lab) return 130;
	try {
		keepLogs(lab);
		if (!told.aborted) explain(lab, secondsSince(start));
		if (!told.aborted) {
			await new Promise((resolve) => told.addEventListener("abort", resolve));
		}
	} finally {
		heading("Removing it all");
		await lab.stop();
	}
	say("Nothing is left.");
	return 0;
}

/** The first signal ends the lab; more of them change nothing. */
function signalled(): AbortSignal {
	const abort = new AbortController();
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
		process.on(signal, () => abort.abort());
	}
	// timers keep the process: a lab's own handles do not
	const wait = setInterval(() => {}, 60_000);
	abort.signal.addEventListener("abort", () => clearInterval(wait));
	return abort.signal;
}

/** Writes what arpanet logs into each host's folder, beside the engine's and Consul's logs. */
function keepLogs({ hosts, gateways }: LabCluster): void {
	for (const [i, gateway] of gateways.entries()) {
		const file = createWriteStream(`${hosts[i]?.dataDir}/arpanet.log`);
		file.write(gateway.log());
		gateway.process.stdout?.pipe(file);
		gateway.process.stderr?.pipe(file);
	}
}

function explain(
	{ hosts, gateways, certificates }: LabCluster,
	took: string,
): void {
	const [first] = hosts;
	const [gateway] = gateways;
	if (!first || !gateway) return;
	const rows = hosts.map(({ name, address, consul, socketPath }, i) => [
		...[name, address, gateways[i]?.docker ?? ""],
		...[`unix://${socketPath}`, consul],
	]);
	const head = ["HOST", "ADDRESS", "GATEWAY", "THE ENGINE ITSELF", "CONSUL"];
	sayOutput(table([head, ...rows]).join("\n"));
	say(`Up in ${took}. Any gateway is the whole cluster:`);
	sayPath();
	for (const [name, value] of Object.entries(certificates.client)) {
		sayCommand(`export ${name}=${value}`);
	}
	sayCommand(`export DOCKER_HOST=${gateway.docker}`);
	sayCommand(
		"docker-compose -p abc -f examples/shop/fig.yml up -d --scale pricing=6",
	);
	sayCommand("docker exec abc_web_1 wget -qO- http://pricing/");
	say(`To be on a host, here ${first.name}, with its network and its engine:`);
	const enter = `nsenter --target ${first.pidOfHolder} --net --mount --uts`;
	sayCommand(`${enter} bash`);
	for (const verb of ["hosts", "ps", "check", "host drain h1"]) {
		sayCommand(`${enter} node ${arpanetProgram} ${verb} -c ${gateway.config}`);
	}
	say("To look in:");
	sayCommand(`curl -s ${first.consul}/v1/kv/arpanet/?keys`);
	sayCommand("docker exec abc_web_1 nslookup pricing.abc.service.consul");
	sayCommand(`tail -f ${first.dataDir}/arpanet.log   # engine.log, consul.log`);
	say("To pull a cable and put it back, or to cut a host's power:");
	sayCommand(`ip link set ${first.cable} down   # up`);
	sayCommand(`kill -9 ${first.pidOfEngine}   # its engine`);
	say();
	say(bold("Ctrl-C removes all of it."));
}
