import { createPrivateKey, X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { messageOf } from "./errors.ts";

/** Where the PEM files are, as dockerd's --tlscacert, --tlscert and --tlskey name them. */
export interface TlsConfig {
	/** Authority that signed every host's and every client's certificate. */
	ca: string;
	cert: string;
	key: string;
}

/** The files' contents, for a server and for a client alike. */
export interface Tls {
	ca: Buffer;
	cert: Buffer;
	key: Buffer;
}

/** Purpose "TLS server", which a host's certificate has and a client's has not (RFC 5280, 4.2.1.12). */
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";
const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";

/** @throws Error naming the file that cannot be read or is of no use, never what is in it */
export function readTls({ ca, cert, key }: TlsConfig): Tls {
	const tls = { ca: readPem(ca), cert: readPem(cert), key: readPem(key) };
	parsed(ca, () => certificates(tls.ca));
	const [own] = parsed(cert, () => certificates(tls.cert));
	const secret = parsed(key, () => createPrivateKey(tls.key));
	if (!own?.checkPrivateKey(secret)) {
		throw new Error(
			`tls: ${key} is not the key of ${cert}; name two files that were made together, or make them anew with arpanet certs`,
		);
	}
	return tls;
}

/**
 * A file of certificates or a key.
 * @throws Error naming it
 */
export function readPem(file: string): Buffer {
	try {
		return readFileSync(file);
	} catch (error) {
		const { code } = error as NodeJS.ErrnoException;
		const remedy =
			code === "EACCES"
				? "run arpanet as root, or as one who may read it"
				: 'correct "tls" in powerstrip.yml, or make the files with arpanet certs';
		throw new Error(`tls: ${file} cannot be read (${code}); ${remedy}`);
	}
}

/** What others will not like about certificates that can be used: one sentence each, with the remedy. */
export function faultsOf({ ca, cert }: Tls, now = new Date()): string[] {
	const [own, ...between] = certificates(cert);
	const authorities = certificates(ca);
	if (!own) return [];
	const faults: string[] = [];
	for (const each of [own, ...between, ...authorities]) {
		const name = each.subject.replaceAll("\n", ", ");
		if (new Date(each.validTo) < now) {
			faults.push(
				`${name} was good until ${each.validTo}; make the certificates anew with arpanet certs`,
			);
		} else if (new Date(each.validFrom) > now) {
			faults.push(
				`${name} is good from ${each.validFrom} on; set this host's clock`,
			);
		}
	}
	const issued = [...between, ...authorities].some(
		(issuer) => own.checkIssued(issuer) && own.verify(issuer.publicKey),
	);
	if (!issued) {
		faults.push(
			"the certificate is not of the authority in ca; name the ca.pem that was made with it",
		);
	}
	const purposes = own.keyUsage ?? [];
	if (!purposes.includes(SERVER_AUTH) || !purposes.includes(CLIENT_AUTH)) {
		faults.push(
			"the certificate is not a host's: its extended key usage lacks serverAuth or clientAuth; use the files of the folder host that arpanet certs makes",
		);
	}
	return faults;
}

/** Whether a certificate is a host's: one that a server may show. */
export function isHosts(certificate: X509Certificate): boolean {
	return certificate.keyUsage?.includes(SERVER_AUTH) ?? false;
}

/** Host and port of `tcp://10.0.0.1:2378` or `tcp://[fd00::1]:2378`; undefined for anything else. */
export function tcpAddress(
	address: string,
): { host: string; port: number } | undefined {
	const [, v6, name, port] =
		/^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([^:/[\]]+)):(\d+)$/.exec(address) ?? [];
	const host = v6 ?? name;
	return host && Number(port) < 65_536
		? { host, port: Number(port) }
		: undefined;
}

/** Whether nobody but this machine reaches an address: `tcp://127.0.0.1:2375`, `unix:///…`; not so for what is neither. */
export function isLoopback(address: string): boolean {
	if (address.startsWith("unix://")) return true;
	const { host = "" } = tcpAddress(address) ?? {};
	return /^(127(\.\d+){3}|localhost|::1)$/.test(host);
}

/**
 * @param address `tcp://10.0.0.1:2375`, `unix:///…`
 * @throws Error for an address that others can reach without having to show a certificate
 */
export function mustBeSafe(
	address: string,
	{ tls, insecure }: { tls?: unknown; insecure: boolean },
): void {
	if (tls || insecure || isLoopback(address)) return;
	throw new Error(
		`${address} can be reached by others, and whoever reaches it is root on this host; set "tls" in powerstrip.yml (or --tlsverify), or "insecure: true" (--insecure) if the network is all yours`,
	);
}

/** All certificates of a PEM file, in its order. */
function certificates(pem: Buffer): X509Certificate[] {
	const blocks = pem
		.toString("latin1")
		.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
	if (!blocks) throw new Error("it holds no certificate");
	return blocks.map((block) => new X509Certificate(block));
}

function parsed<T>(file: string, parse: () => T): T {
	try {
		return parse();
	} catch (error) {
		throw new Error(
			`tls: ${file} is not what "tls" asks for (${messageOf(error)}); it wants PEM, the key without a passphrase`,
		);
	}
}
