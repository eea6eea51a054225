import { readFileSync } from "node:fs";

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

/** @throws Error naming the file that cannot be read */
export function readTls({ ca, cert, key }: TlsConfig): Tls {
	return { ca: read(ca), cert: read(cert), key: read(key) };
}

function read(file: string): Buffer {
	try {
		return readFileSync(file);
	} catch (error) {
		throw new Error(
			`tls: ${file} cannot be read (${(error as NodeJS.ErrnoException).code}); see "tls" in powerstrip.yml`,
		);
	}
}

/**
 * @param address `tcp://10.0.0.1:2375`, `unix:///…`
 * @throws Error for an address that others can reach without having to show a certificate
 */
export function mustBeSafe(
	address: string,
	{ tls, insecure }: { tls?: unknown; insecure: boolean },
): void {
	const host = /^tcp:\/\/(.+):\d+$/.exec(address)?.[1];
	if (!host || tls || insecure) return;
	if (/^(127\.|localhost$|\[::1\]$)/.test(host)) return;
	throw new Error(
		`${address} can be reached by others, and whoever reaches it is root on this host; set "tls" in powerstrip.yml, or "insecure: true" if the network is all yours`,
	);
}
