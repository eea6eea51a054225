import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import type { Config } from "../../pipeline/config.ts";
import {
	faultsOf,
	isLoopback,
	readTls,
	tcpAddress,
} from "../../pipeline/tls.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

/** Milliseconds before its end in which a certificate is asked to be made anew. */
const SOON_MS = 14 * 24 * 3600 * 1000;

/** The certificates are good, for the addresses at which others reach this host too. */
export function checkTls({ arpanet }: Config): Finding[] {
	const { tls, host, gateway } = arpanet;
	if (!tls) return [];
	const files = readTls(tls);
	const faults = faultsOf(files).map((fault): Finding => {
		const [what = "", remedy = ""] = fault.split("; ");
		return fail(`tls: ${what} (${tls.cert})`, remedy);
	});
	const certificate = new X509Certificate(files.cert);
	const engine = host.engine && tcpAddress(host.engine)?.host;
	if (engine && !isFor(certificate, engine)) {
		faults.push(
			fail(
				`tls: other hosts reach this one at ${engine}, for which ${tls.cert} is not good`,
				`make it with that address: arpanet certs <folder> ${engine} …`,
			),
		);
	}
	for (const listen of gateway.listen) {
		const at = tcpAddress(listen)?.host ?? "";
		const isOne = isIP(at) && !/^[0:.]+$/.test(at); // not all addresses, and no name
		if (!isOne || at === engine || isLoopback(listen)) continue;
		if (isFor(certificate, at)) continue;
		faults.push(
			warn(
				`tls: the gateway listens on ${listen}, and ${tls.cert} is not good for that address: clients have to come by a name that it has`,
				`make it with that address: arpanet certs <folder> ${at} …`,
			),
		);
	}
	if (faults.some(({ level }) => level === "fail")) return faults;
	const end = new Date(certificate.validTo);
	const seen = `tls: ${tls.cert} is good until ${end.toISOString().slice(0, 10)}`;
	const isSoon = end.getTime() - Date.now() < SOON_MS;
	return [
		...faults,
		isSoon
			? warn(seen, "make it anew: arpanet certs; then restart arpanet")
			: ok(seen),
	];
}

/** What to do about a TLS handshake that failed; undefined for another kind of error. */
export function handshakeRemedy(
	error: unknown,
	where: string,
): string | undefined {
	const { code = "", message = "" } = error as NodeJS.ErrnoException;
	if (code === "ERR_TLS_CERT_ALTNAME_INVALID") {
		return "ask it by a name or address that its certificate has";
	}
	if (code === "CERT_HAS_EXPIRED") return "its certificate must be made anew";
	if (/CERT|ISSUER|SIGNATURE/.test(code) && !code.startsWith("ERR_SSL")) {
		return `set ${where}.ca to the authority that made its certificate`;
	}
	if (/alert|ERR_SSL_.*(CERT|ALERT)/i.test(`${code} ${message}`)) {
		return `it wants a certificate of its own authority: set ${where}.cert and ${where}.key`;
	}
	if (code.startsWith("ERR_SSL") || code === "EPROTO") {
		return "it speaks no TLS there: write http:// or its other port";
	}
	return undefined;
}

function isFor(certificate: X509Certificate, name: string): boolean {
	return isIP(name)
		? certificate.checkIP(name) !== undefined
		: certificate.checkHost(name) !== undefined;
}
