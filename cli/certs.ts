import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, copyFile, mkdir, rename, rm } from "node:fs/promises";
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
/** The last part has a letter: else it would be an address, and no good one. */
const DNS_NAME = /^(\*\.)?([a-z\d_-]+\.)*[\d_-]*[a-z][a-z\d_-]*$/i;

/**
 * Makes an authority (`ca.pem`, `ca-key.pem`) and two sets of certificates of it, each a folder with `ca.pem`, `cert.pem`
 * and `key.pem`: `host` is for the hosts, among each other too; `client` is a DOCKER_CERT_PATH, with which nobody
 * can pass for a host. An authority that is in the folder already is used again.
 * @param folder where the files go; made if need be, readable by its owner alone
 * @param names addresses or names by which hosts are reached
 * @param days that the certificates are good for; the authority is for ten times as long
 * @throws Error for a name that is none, half an authority, and when openssl is not there or fails, with what it said
 */
export async function makeCertificates(
	folder: string,
	names: string[],
	days: number,
): Promise<void> {
	const odd = names.find((name) => !isIP(name) && !DNS_NAME.test(name));
	if (odd !== undefined) {
		throw new Error(
			`"${odd}" is neither an address nor a name of a host; write 10.0.0.1 or node1.example.com`,
		);
	}
	await mkdir(folder, { recursive: true, mode: 0o700 });
	const key = join(folder, "ca-key.pem");
	const authority = join(folder, "ca.pem");
	const hasKey = existsSync(key);
	if (hasKey !== existsSync(authority)) {
		const [there, away] = hasKey ? [key, authority] : [authority, key];
		throw new Error(
			`${there} is there and ${away} is not; put it back, or name an empty folder for a new authority`,
		);
	}
	if (!hasKey) {
		await openssl([
			...["req", "-x509", ...KEY, "-subj", "/CN=arpanet authority"],
			...["-days", String(days * 10)],
			...["-keyout", key, "-out", authority],
		]);
		await chmod(key, 0o600);
	}
	const alternatives = ["127.0.0.1", "localhost", ...names]
		.map((name) => `${isIP(name) ? "IP" : "DNS"}:${name}`)
		.join(",");
	await certify(folder, "host", days, [
		`subjectAltName=${alternatives}`,
		"extendedKeyUsage=serverAuth,clientAuth",
	]);
	await certify(folder, "client", days, ["extendedKeyUsage=clientAuth"]);
}

/**
 * What is there already stays until there is a new key with its certificate.
 * @param extensions as openssl's -addext takes them
 */
async function certify(
	authority: string,
	name: string,
	days: number,
	extensions: string[],
): Promise<void> {
	const folder = join(authority, name);
	await mkdir(folder, { recursive: true, mode: 0o700 });
	const request = join(folder, "request.pem");
	const key = join(folder, "key.pem");
	const certificate = join(folder, "cert.pem");
	await openssl([
		...["req", ...KEY, "-subj", `/CN=arpanet ${name}`],
		...extensions.flatMap((each) => ["-addext", each]),
		...["-keyout", `${key}.new`, "-out", request],
	]);
	await chmod(`${key}.new`, 0o600);
	await openssl([
		...["x509", "-req", "-in", request, "-days", String(days)],
		...["-copy_extensions", "copy", "-CAcreateserial"],
		...["-CA", join(authority, "ca.pem")],
		...["-CAkey", join(authority, "ca-key.pem")],
		...["-out", `${certificate}.new`],
	]);
	await rm(request);
	await copyFile(join(authority, "ca.pem"), join(folder, "ca.pem"));
	await rename(`${key}.new`, key);
	await rename(`${certificate}.new`, certificate);
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
