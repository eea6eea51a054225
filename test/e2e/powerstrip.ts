import { once } from "node:events";
import { readFile } from "node:fs/promises";
import {
	createServer,
	type IncomingMessage,
	request,
	type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { parse } from "yaml";

export interface Powerstrip {
	/** For `DOCKER_HOST`. */
	docker: string;
	close(): void;
}

/** A request or an answer with its whole body. */
interface Whole {
	status: number;
	type: string | undefined;
	body: Buffer;
}

/**
 * The genuine powerstrip in so far as adapters can tell: post-hooks get the client's original body, of a
 * pre-hook's answer and of the last post-hook's only `Body` is applied, no header of our own is
 * sent, an adapter that does not answer leaves the client without an answer.
 * @param adapters asked in turn, one hook each
 * @param config the powerstrip.yml whose endpoints count
 */
export async function startPowerstrip(
	socketPath: string,
	adapters: string[],
	config: string,
): Promise<Powerstrip> {
	const { endpoints } = parse(await readFile(config, "utf8")) as {
		endpoints: Record<string, { pre?: string[]; post?: string[] }>;
	};
	let turn = 0;
	const ask = (path: string, hook: object) => {
		const adapter = adapters[turn++ % adapters.length];
		return send(new URL(path, adapter), "POST", {
			type: "application/json",
			body: Buffer.from(JSON.stringify(hook)),
		});
	};

	async function serve(
		incoming: IncomingMessage,
		outgoing: ServerResponse,
	): Promise<void> {
		const { method = "", url = "" } = incoming;
		const type = incoming.headers["content-type"];
		const original = await whole(incoming);
		const ClientRequest = {
			Method: method,
			Request: url,
			Body: type === "application/json" ? original.toString() : null,
		};
		const hooks = { PowerstripProtocolVersion: 1 };
		const matching = Object.entries(endpoints)
			.filter(([pattern]) =>
				matches(pattern, `${method} ${url.split("?", 1)[0]}`),
			)
			.map(([, chain]) => chain);

		let body = original;
		for (const _ of matching.flatMap(({ pre = [] }) => pre)) {
			const answer = await ask("/pre-hook", {
				...hooks,
				Type: "pre-hook",
				ClientRequest: { ...ClientRequest, Body: textOf(body, type) },
			});
			if (answer.status !== 200) {
				outgoing.writeHead(answer.status, { "content-type": answer.type });
				outgoing.end(answer.body);
				return;
			}
			const { Body } = JSON.parse(`${answer.body}`).ModifiedClientRequest;
			if (Body !== null) body = Buffer.from(Body);
		}
		const answer = await send({ socketPath, path: url }, method, {
			type,
			body,
		});
		let told = answer.body.toString();
		for (const _ of matching.flatMap(({ post = [] }) => post)) {
			const { body: text } = await ask("/post-hook", {
				...hooks,
				Type: "post-hook",
				ClientRequest,
				ServerResponse: {
					ContentType: answer.type ?? null,
					Body: told,
					Code: answer.status,
				},
			});
			told = JSON.parse(`${text}`).ModifiedServerResponse.Body;
		}
		outgoing.writeHead(
			answer.status,
			answer.type ? { "content-type": answer.type } : {},
		);
		outgoing.end(told);
	}

	const server = createServer((incoming, outgoing) => {
		serve(incoming, outgoing).catch(() => outgoing.destroy());
	});
	server.listen(0, "127.0.0.1");
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	return {
		docker: `tcp://127.0.0.1:${port}`,
		close: () => {
			server.close();
			server.closeAllConnections();
		},
	};
}

function textOf(body: Buffer, type: string | undefined): string | null {
	return type === "application/json" ? body.toString() : null;
}

/** Python's fnmatch, in which `*` crosses slashes. */
function matches(pattern: string, text: string): boolean {
	const source = pattern
		.replaceAll(/[.+^${}()|\\]/g, "\\$&")
		.replaceAll("*", ".*")
		.replaceAll("?", ".");
	return new RegExp(`^${source}$`).test(text);
}

function send(
	to: URL | { socketPath: string; path: string },
	method: string,
	{ type, body }: { type: string | undefined; body: Buffer },
): Promise<Whole> {
	return new Promise((resolve, reject) => {
		const headers = {
			"content-length": body.length,
			...(type && { "content-type": type }),
		};
		const target =
			to instanceof URL
				? { host: to.hostname, port: to.port, path: to.pathname }
				: to;
		const asked = request(
			{ ...target, method, headers, agent: false },
			(answer) => {
				whole(answer).then(
					(payload) =>
						resolve({
							status: answer.statusCode ?? 0,
							type: answer.headers["content-type"],
							body: payload,
						}),
					reject,
				);
			},
		);
		asked.on("error", reject);
		asked.end(body);
	});
}

async function whole(stream: IncomingMessage): Promise<Buffer> {
	const chunks: Buffer[] = [];
	for await (const chunk of stream) chunks.push(chunk as Buffer);
	return Buffer.concat(chunks);
}
