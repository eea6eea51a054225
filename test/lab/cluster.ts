import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { makeCertificates } from "../../cli/certs.ts";
import { type Arpanet, startArpanet } from "./arpanet.ts";
import { docker } from "./clients.ts";
import { loadImages } from "./images.ts";
import { type Host, type Lab, type LabOptions, startLab } from "./lab.ts";

/** How long the hosts may take to find each other. */
const READY_MS = 60_000;

/** A lab in which every host runs arpanet, under certificates of one authority. */
export interface LabCluster extends OpenCluster {
	certificates: Certificates;
}

/** A lab in which every host runs arpanet, and whoever is in the lab gets in. */
export interface OpenCluster extends Lab {
	/** By host. */
	gateways: Arpanet[];
}

/** What the clients and the hosts of a lab show. */
export interface Certificates {
	/** As arpanet certs made it. */
	folder: string;
	/** The environment of a client that shows its certificate. */
	client: Record<string, string>;
	/** `arpanet.tls` of a host. */
	host: { ca: string; cert: string; key: string };
}

/**
 * Starts a lab with arpanet and the base images on every host; returns when every gateway sees all hosts.
 * @param configure changes the powerstrip.yml of a host, over TLS and the engine port
 */
export async function startCluster(
	options: LabOptions = {},
	// biome-ignore lint/suspicious/noExplicitAny: as ArpanetOptions
	configure?: (config: any, host: Host) => void,
): Promise<LabCluster> {
	const lab = await startLab(options);
	return orStop(lab, async () => {
		const certificates = await certify(lab.hosts);
		const start = (host: Host) =>
			startMember(host, certificates, "arpanet", (config) =>
				configure?.(config, host),
			);
		const gateways = await startAll(lab.hosts, start, certificates.client);
		return { ...lab, gateways, certificates };
	});
}

/**
 * Starts a lab of three with arpanet on every host, without TLS; returns when every gateway sees all hosts. The first has
 * the base images.
 * @param configure changes the powerstrip.yml of a host
 */
export async function startOpenCluster(
	// biome-ignore lint/suspicious/noExplicitAny: as ArpanetOptions
	configure?: (config: any, host: Host) => void,
): Promise<OpenCluster> {
	const lab = await startLab({ hosts: 3 });
	return orStop(lab, async () => {
		const start = (host: Host) =>
			startOpenMember(host, "arpanet", (config) => configure?.(config, host));
		return { ...lab, gateways: await startAll(lab.hosts, start) };
	});
}

async function orStop<T>(lab: Lab, work: () => Promise<T>): Promise<T> {
	try {
		return await work();
	} catch (error) {
		await lab.stop().catch((also) => {
			throw new AggregateError([error, also], "did not start, nor stop");
		});
		throw error;
	}
}

/** @param env of a client */
async function startAll(
	hosts: Host[],
	start: (host: Host) => Promise<Arpanet>,
	env?: Record<string, string>,
): Promise<Arpanet[]> {
	const [, ...gateways] = await Promise.all([
		loadImages(hosts[0] as Host), // others get them from there
		...hosts.map(start),
	]);
	await Promise.all(gateways.map((each) => sees(each, hosts.length, env)));
	return gateways;
}

/** Starts arpanet on a host of an open cluster. @param name of its files */
export function startOpenMember(
	host: Host,
	name = "arpanet",
	// biome-ignore lint/suspicious/noExplicitAny: as ArpanetOptions
	configure?: (config: any) => void,
): Promise<Arpanet> {
	return startArpanet(host, {
		name,
		configure: (config) => {
			config.arpanet.host.engine = `tcp://${host.address}:2377`;
			configure?.(config);
		},
	});
}

/**
 * Starts arpanet on a host of a cluster, for the first time or again.
 * @param name of its files
 */
export function startMember(
	host: Host,
	{ host: tls }: Certificates,
	name = "arpanet",
	// biome-ignore lint/suspicious/noExplicitAny: as ArpanetOptions
	configure?: (config: any) => void,
): Promise<Arpanet> {
	return startOpenMember(host, name, (config) => {
		config.arpanet.insecure = false;
		config.arpanet.tls = tls;
		configure?.(config);
	});
}

/** Makes the certificates of a lab, in the folder of its first host. */
export async function certify(hosts: Host[]): Promise<Certificates> {
	const folder = join((hosts[0] as Host).dataDir, "certs");
	const names = hosts.map(({ address }) => address);
	await makeCertificates(folder, names, 2);
	const client = join(folder, "client");
	const at = (name: string) => join(folder, "host", name);
	return {
		folder,
		client: {
			DOCKER_TLS_VERIFY: "1",
			DOCKER_CERT_PATH: client,
			// Python's requests prefers the machine's own authorities, where it has these, to the one docker-py names
			REQUESTS_CA_BUNDLE: join(client, "ca.pem"),
			CURL_CA_BUNDLE: join(client, "ca.pem"),
		},
		host: { ca: at("ca.pem"), cert: at("cert.pem"), key: at("key.pem") },
	};
}

/** Returns when a gateway sees so many hosts. @throws Error with what it says instead */
async function sees(
	gateway: Arpanet,
	hosts: number,
	env?: Record<string, string>,
): Promise<void> {
	for (const end = Date.now() + READY_MS; ; await sleep(100)) {
		const info = await docker(gateway, ["info"], { env });
		// one host is the engine itself, and speaks of no others
		if (
			info.code === 0 &&
			(hosts === 1 || info.stdout.includes(`Hosts: ${hosts}`))
		)
			return;
		if (Date.now() > end) {
			throw new Error(
				`lab: ${gateway.docker} does not see ${hosts} hosts\n${info.stdout}${info.stderr}`,
			);
		}
	}
}
