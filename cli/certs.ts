import { execFile } from "node:child_process";
import { access, chmod, mkdir } from "node:fs/promises";
import { isIP } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { messageOf } from "../pipeline/errors.ts";

const run = promisify(execFile);
const KEY = [
	"-newkey",
	"ec",
	"-pkeyopt",
	"ec_paramgen_curve:prime256v1",
	"-nodes",
];

/**
 * Makes an authority (`ca.pem`, `ca-key.pem`) and a certificate of it (`cert.pem`, `key.pem`) that is good
 * for every host and for clients. An authority that is in the folder already is used again.
 * @param folder where the files go; made if need be, readable by its owner alone
 * @param names addresses or names by which hosts are reached
 * @param days that the certificate is good for; the authority is for ten times as long
 * @throws Error when openssl is not there or fails, with what it said
 */
export async function makeCertificates(
	folder: string,
	names: string[],
	days: number,
): Promise<void> {
	await mkdir(folder, { recursive: true, mode: 0o700 });
	const at = (name: string) => join(folder, name);
	const hasAuthority = await access(at("ca-key.pem")).then(
		() => true,
		() => false,
	);
	if (!hasAuthority) {
		await openssl([
			...["req", "-x509", ...KEY, "-subj", "/CN=arpanet authority"],
			...["-days", String(days * 10)],
			...["-keyout", at("ca-key.pem"), "-out", at("ca.pem")],
		]);
	}
	const alternatives = ["127.0.0.1", "localhost", ...names]
		.map((name) => `${isIP(name) ? "IP" : "DNS"}:${name}`)
		.join(",");
	await openssl([
		...["req", ...KEY, "-subj", "/CN=arpanet"],
		...["-addext", `subjectAltName=${alternatives}`],
		...["-addext", "extendedKeyUsage=serverAuth,clientAuth"],
		...["-keyout", at("key.pem"), "-out", at("request.pem")],
	]);
	await openssl([
		...["x509", "-req", "-in", at("request.pem"), "-days", String(days)],
		...["-copy_extensions", "copy", "-CAcreateserial"],
		...[
			"-CA",
			at("ca.pem"),
			"-CAkey",
			at("ca-key.pem"),
			"-out",
			at("cert.pem"),
		],
	]);
	await Promise.all(
		["ca-key.pem", "key.pem"].map((name) => chmod(at(name), 0o600)),
	);
}

async function openssl(args: string[]): Promise<void> {
	try {
		await run("openssl", args, { timeout: 30_000 });
	} catch (error) {
		const { code, stderr } = error as NodeJS.ErrnoException & {
			stderr?: string;
		};
		if (code === "ENOENT") {
			throw new Error(
				"openssl is not on this machine; install it: apt-get install openssl",
			);
		}
		throw new Error(`openssl ${args[0]} failed: ${stderr || messageOf(error)}`);
	}
}
