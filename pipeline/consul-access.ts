import { readFileSync } from "node:fs";
import { readPem, type Tls } from "./tls.ts";

/** Where Consul's HTTP API is, and how to be let in. */
export interface ConsulConfig {
	/** `http://127.0.0.1:8500`, `https://127.0.0.1:8501` */
	address: string;
	/** ACL token. */
	token?: string;
	/** File with nothing but the ACL token, for a configuration that everybody may read. */
	tokenFile?: string;
	/** For https: PEM files, the last two where Consul wants to see a certificate (verify_incoming). */
	tls?: { ca?: string; cert?: string; key?: string };
}

/** What to show Consul. It holds secrets: not for logs, nor for messages. */
interface ConsulAccess {
	/** The ACL token; undefined for the anonymous one. */
	token: string | undefined;
	tls: Partial<Tls>;
}

/**
 * Reads what the configuration names; the token, if it names none, is Consul's own CONSUL_HTTP_TOKEN.
 * @throws Error naming a file that cannot be read
 */
export function consulAccess(
	{ token, tokenFile, tls = {} }: ConsulConfig,
	env: NodeJS.ProcessEnv = process.env,
): ConsulAccess {
	const named = token ?? (tokenFile && readToken(tokenFile));
	const files = Object.entries(tls).map(([name, file]) => [
		name,
		readPem(file),
	]);
	return {
		token: named || env.CONSUL_HTTP_TOKEN || undefined,
		tls: Object.fromEntries(files),
	};
}

function readToken(file: string): string {
	let text: string;
	try {
		text = readFileSync(file, "utf8").trim();
	} catch (error) {
		throw new Error(
			`consul: ${file} cannot be read (${(error as NodeJS.ErrnoException).code}); correct consul.tokenFile in powerstrip.yml`,
		);
	}
	if (/^[\x21-\x7e]+$/.test(text)) return text;
	throw new Error(
		`consul: ${file} holds no token; write the token's SecretID into it, and nothing else`,
	);
}
