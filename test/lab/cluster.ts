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
export interface LabCluster extends Lab {
	/** By host. */
	gateways: Arpanet[];
	certificates: Certificates;
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
	try {
		const certificates = await certify(lab.hosts);
		const [, ...gateways] = await Promise.all([
			loadImages(lab.hosts[0] as Host), // others get them from there
			...lab.hosts.map((host) =>
				startMember(host, certificates, "arpanet", (config) =>
					configure?.(config, host),
				),
			),
		]);
		await Promise.all(
			gateways.map((each) => sees(each, lab.hosts.length, certificates)),
		);
		return { ...lab, gateways, certificates };
	} catch (error) {
		await lab.stop();
		throw error;
	}
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
	return startArpanet(host, {
		name,
		configure: (config) => {
			config.arpanet.host.engine = `tcp://${host.address}:2377`;
			config.arpanet.insecure = false;
			config.arpanet.tls = tls;
			configure?.(config);
		},
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
export async function sees(
	gateway: Arpanet,
	hosts: number,
	{ client }: Certificates,
): Promise<void> {
	for (const end = Date.now() + READY_MS; ; await sleep(100)) {
		const info = await docker(gateway, ["info"], { env: client });
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
