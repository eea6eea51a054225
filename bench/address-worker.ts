import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { pino } from "pino";
import { parse, stringify } from "yaml";
import { boot } from "../cli/boot.ts";
import { parseConfig } from "../pipeline/config.ts";
import { type Lease, Leases, leaseKey } from "../pipeline/state/leases.ts";
import type { NetworkRecord } from "../pipeline/state/networks.ts";
import { Conflict, unchanged } from "../pipeline/state/operations.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { atOnce } from "./figures.ts";

/** What a worker is told: `count` addresses of a deployment's network, `width` at once. */
export interface Work {
	/** A lease alone, as of a container that is connected to a network; or all that a create writes. */
	kind: "lease" | "create";
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
const leases = new Leases(services.store);

// as every role does: who is there is read once and then followed
services.cluster.hosts.follow();
services.slots.follow();

let names = 0;

async function allocate({
	kind,
	deployment,
	count,
	width,
}: Work): Promise<Result> {
	const Labels = { "arpanet.deployment": deployment, "arpanet.size": "8000" };
	// as the first container of a deployment does: its network is granted
	const network = await services.networks.ensure(
		{
			scope: deployment,
			deployment,
			name: `${deployment}_default`,
			implicit: true,
			host: host ?? "",
		},
		{ pool: "10.32.0.0/12", reserved: [], size: 8_000 },
	);
	const before = services.store.requests;
	await atOnce(count, width, async () => {
		const name = `${deployment}-${host}-copy-${++names}`;
		if (kind === "lease") return lease(network, name);
		return containers.create({
			...{ name, headers: {}, onlyHost: undefined },
			body: { Image: "busybox", Labels: { ...Labels } },
		});
	});
	return { requests: services.store.requests - before };
}

/** One address, as the dhcp plugin leases it: picked here, and whose it is Consul decides. */
async function lease(
	network: Entry<NetworkRecord>,
	container: string,
): Promise<void> {
	const { scope, deployment } = network.value;
	for (;;) {
		const address = await leases.pick(network.value);
		const value: Lease = { host: host ?? "", deployment, container };
		try {
			await services.store.commit([
				unchanged(network),
				{ verb: "create", key: leaseKey(scope, address), value },
			]);
			return;
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
			leases.taken(scope, address);
		}
	}
}

process.on("message", async (work: Work) => {
	try {
		process.send?.(await allocate(work));
	} catch (error) {
		process.send?.({ requests: 0, error: String(error) } satisfies Result);
	}
});

// a process that has served for a while, not one that still compiles
for (const kind of ["lease", "create"] as const) {
	await allocate({
		kind,
		deployment: `warm-${kind}-${host}`,
		count: 1_000,
		width: 64,
	});
}
process.send?.("ready");
