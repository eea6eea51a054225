import { STATUS_CODES } from "node:http";
import {
	createServer,
	type Server,
	type ServerOpts,
	type Socket,
} from "node:net";
import { createServer as createTlsServer, type TLSSocket } from "node:tls";
import { isHosts, type Tls } from "./tls.ts";

/** Milliseconds for a client to begin its handshake, and for one that was refused to read why. */
const PATIENCE_MS = 10_000;
/** First byte of a TLS handshake. */
const HANDSHAKE = 0x16;

/**
 * A server as dockerd is with --tlsverify: whoever connects shows a certificate of the authority. One
 * who does not reads in Docker's own form why, since a connection that is merely cut tells nobody anything.
 *
 * @param who `hosts` lets in only those whose certificate a server may show, `clients` everybody with a good one
 * @param accept gets the connections of those who are let in
 */
export function tlsServer(
	{ ca, cert, key }: Tls,
	settings: ServerOpts,
	who: "clients" | "hosts",
	accept: (socket: TLSSocket) => void,
): Server {
	const handshakes = createTlsServer(
		{
			...settings,
			ca,
			cert,
			key,
			requestCert: true,
			rejectUnauthorized: false, // refused below, in words
		},
		(socket) => {
			const why = refusal(socket, who);
			if (why === undefined) accept(socket);
			else refuse(socket, 403, why);
		},
	);
	return createServer(settings, (socket) => {
		socket.on("error", () => {}); // whoever has the connection then is told by its end
		socket.setTimeout(PATIENCE_MS, () => socket.destroy());
		socket.once("data", (first) => {
			socket.setTimeout(0);
			socket.pause();
			socket.unshift(first);
			if (first[0] === HANDSHAKE) handshakes.emit("connection", socket);
			else {
				refuse(
					socket,
					400,
					"this port speaks TLS, and you do not; set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, the folder with your ca.pem, cert.pem and key.pem",
				);
			}
		});
	});
}

function refusal(socket: TLSSocket, who: string): string | undefined {
	const certificate = socket.getPeerX509Certificate();
	// not `authorized` alone: a resumed session without a certificate counts as that (Node's VerifyPeerCertificate)
	if (!certificate) {
		return "you showed no certificate; set DOCKER_CERT_PATH to the folder with your ca.pem, cert.pem and key.pem";
	}
	const name = certificate.subject.replaceAll("\n", ", ");
	if (!socket.authorized) {
		return `your certificate (${name}) is not good here: ${socket.authorizationError}; show one of this cluster's authority, which arpanet certs makes`;
	}
	if (who === "hosts" && !isHosts(certificate)) {
		return `your certificate (${name}) is a client's, and only hosts come in here; ask the gateway of any host`;
	}
	return undefined;
}

/** Answers the request that is on its way: an answer before it would be taken for none. */
function refuse(socket: Socket, status: number, message: string): void {
	socket.on("error", () => {}); // gone already
	setTimeout(() => socket.destroy(), PATIENCE_MS).unref();
	socket.once("data", () => {
		const body = `${JSON.stringify({ message })}\n`;
		socket.end(
			[
				`HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
				"Content-Type: application/json",
				`Content-Length: ${Buffer.byteLength(body)}`,
				"Connection: close",
				"",
				body,
			].join("\r\n"),
		);
		socket.resume(); // what is left unread would make the end a reset
	});
	socket.resume();
}
