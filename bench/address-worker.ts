import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { parse, stringify } from "yaml";
import { boot } from "../cli/boot.ts";
import { parseConfig } from "../pipeline/config.ts";
import { atOnce } from "./figures.ts";

/** What a worker is told: `count` creates of a deployment's containers, `width` at once. */
export interface Work {
	deployment: string;
	count: number;
	width: number;
}

export interface Result {
	/** Requests to Consul that it took. */
	requests: number;
	error?: string;
}

const SHIPPED = fileURLToPath(new URL("../../powerstrip.yml", import.meta.url));
/** Those that lease an address; the others need an engine. */
const PLUGINS = ["deployment-id", "placement", { dhcp: {} }];

/**
 * An adapter process that is asked for nothing but addresses: the chain, the leases and the commit of a
 * create, by the product's own code. Run by `fork` with Consul's address and a host's name.
 */
const [consul, host] = process.argv.slice(2);
const file = parse(await readFile(SHIPPED, "utf8"));
file.arpanet.consul.address = consul;
file.arpanet.host = { name: host, address: "10.0.0.1" };
file.arpanet.plugins = PLUGINS;
const config = parseConfig(stringify(file), "powerstrip.yml");
const { containers, services } = await boot(config, pino({ level: "silent" }));

// as every role does: who is there is read once and then followed
services.cluster.hosts.follow();

let names = 0;

async function allocate({ deployment, count, width }: Work): Promise<Result> {
	const Labels = { "arpanet.deployment": deployment, "arpanet.size": "4000" };
	// as the first container of a deployment does: its network is granted
	await services.networks.ensure(
		{
			scope: deployment,
			deployment,
			name: `${deployment}_default`,
			implicit: true,
			host: host ?? "",
		},
		4_000,
		{ pool: "10.32.0.0/12", reserved: [] },
		() => [],
	);
	const before = services.store.requests;
	await atOnce(count, width, () =>
		containers.create({
			name: `${deployment}-${host}-copy-${++names}`,
			body: { Image: "busybox", Labels: { ...Labels } },
			headers: {},
			onlyHost: undefined,
		}),
	);
	return { requests: services.store.requests - before };
}

process.on("message", async (work: Work) => {
	try {
		process.send?.(await allocate(work));
	} catch (error) {
		process.send?.({ requests: 0, error: String(error) } satisfies Result);
	}
});

// a process that has served for a while, not one that still compiles
await allocate({ deployment: `warm-${host}`, count: 1_000, width: 64 });
process.send?.("ready");
