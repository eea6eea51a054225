import { homedir } from "node:os";
import { join } from "node:path";
import type { Config } from "../pipeline/config.ts";

/** dockerd's flags by which it is reached safely, or knowingly not. */
export interface AccessFlags {
	tlsverify?: true;
	tlscacert?: string;
	tlscert?: string;
	tlskey?: string;
	insecure?: true;
}

/**
 * The configuration as the flags change it. A file that neither names is where dockerd looks too:
 * DOCKER_CERT_PATH, else ~/.docker. There is no TLS without client certificates, so any
 * of the file flags means --tlsverify.
 */
export function applyAccess(
	config: Config,
	{ tlsverify, tlscacert, tlscert, tlskey, insecure }: AccessFlags,
	env: NodeJS.ProcessEnv = process.env,
): Config {
	const { arpanet } = config;
	const usual = env.DOCKER_CERT_PATH || join(homedir(), ".docker");
	const tls = tlsverify || tlscacert || tlscert || tlskey;
	return {
		...config,
		arpanet: {
			...arpanet,
			...(tls && {
				tls: {
					ca: tlscacert ?? arpanet.tls?.ca ?? join(usual, "ca.pem"),
					cert: tlscert ?? arpanet.tls?.cert ?? join(usual, "cert.pem"),
					key: tlskey ?? arpanet.tls?.key ?? join(usual, "key.pem"),
				},
			}),
			insecure: insecure ?? arpanet.insecure,
		},
	};
}
