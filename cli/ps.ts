import type { Config } from "../pipeline/config.ts";
import { openCluster } from "./boot.ts";
import {
	type Copy,
	type Deployment,
	listEverywhere,
	readCluster,
} from "./deployments.ts";
import { table } from "./table.ts";

/**
 * What runs, as Consul and the engines of all hosts know it.
 * @returns a table for people, or JSON for programs
 * @throws HttpError 503 when Consul does not answer; an engine that does not is a line in the table
 */
export async function ps(config: Config, json: boolean): Promise<string> {
	const { store, cluster, close } = openCluster(config);
	try {
		const { containers, silent } = await listEverywhere(cluster);
		const deployments = await readCluster(store, containers, domainOf(config));
		if (json) return JSON.stringify(deployments, null, 2);
		const notes = silent.map((each) => `\n(${each})`).join("");
		if (deployments.length === 0) return empty(config) + notes;
		return deployments.map(drawn).join("\n\n") + notes;
	} finally {
		await close();
	}
}

function domainOf(config: Config): string {
	const entry = config.plugins.find(({ name }) => name === "dns-search");
	const { domain } = (entry?.config ?? {}) as { domain?: string };
	return domain ?? "service.consul";
}

function empty(config: Config): string {
	const { gateway, tls } = config.arpanet;
	const [listen = ""] = gateway.listen;
	const show =
		tls && listen.startsWith("tcp:")
			? "DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=<folder of a client> "
			: "";
	return `No deployments. Start one, with arpanet up running:\n  ${show}DOCKER_HOST=${listen} docker-compose -p abc -f fig.yml up -d`;
}

const HEAD = [
	"SERVICE",
	"COPY",
	"CONTAINER",
	"HOST",
	"ADDRESS",
	"STATE",
	"DNS",
	"NAME",
];

function drawn({ deployment, networks, copies }: Deployment): string {
	const subnets = networks.map(({ name, subnet }) => `${name} ${subnet}`);
	const rows = table([HEAD, ...copies.flatMap(cells)]);
	return [
		`${deployment}  (${subnets.join(", ") || "no network"})`,
		...rows.map((row) => `  ${row}`),
	].join("\n");
}

/** One line for each network that a copy is in; what is the same stands in the first. */
function cells(copy: Copy): string[][] {
	const { service, index, container, host, state, addresses } = copy;
	const own = [service ?? "-", String(index ?? "-"), container, host];
	const [first, ...more] = addresses;
	return [
		[
			...own,
			first?.address ?? "-",
			state,
			first?.dns ?? "-",
			first?.name ?? "-",
		],
		...more.map(({ address, dns, name }) => [
			...own.map(() => ""),
			address,
			"",
			dns,
			name ?? "-",
		]),
	];
}
