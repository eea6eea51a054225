import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { ExecutionContext } from "ava";
import { pino } from "pino";
import {
	createGateway,
	type Gateway,
	type GatewayOptions,
} from "../../gateway/gateway.ts";
import type { EngineAddress } from "../../pipeline/engine.ts";

/** An engine of a few lines: what it does with each connection is the test's. */
export async function rawEngine(
	t: ExecutionContext,
	serve: (socket: Socket) => void,
): Promise<EngineAddress & { port: number; sockets: Set<Socket> }> {
	const sockets = new Set<Socket>();
	const server = createServer({ allowHalfOpen: true }, (socket) => {
		sockets.add(socket);
		socket.on("error", () => {});
		socket.on("close", () => sockets.delete(socket));
		serve(socket);
	});
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	t.teardown(() => {
		for (const socket of sockets) socket.destroy();
		server.close();
	});
	const { port } = server.address() as AddressInfo;
	return { host: "127.0.0.1", port, sockets };
}

/** An engine that answers every request, once its text is whole, with the same bytes. */
export function answering(
	t: ExecutionContext,
	answer: string | ((request: string) => string),
	whole: (request: string) => boolean = (text) => text.includes("\r\n\r\n"),
) {
	const seen: string[] = [];
	return rawEngine(t, (socket) => {
		let text = "";
		socket.on("data", (chunk) => {
			text += chunk.toString("latin1");
			if (!whole(text)) return;
			seen.push(text);
			socket.write(
				typeof answer === "string" ? answer : answer(text),
				"latin1",
			);
			text = "";
		});
		socket.on("end", () => socket.end());
	}).then((engine) => ({ ...engine, seen }));
}

/** A gateway on a free loopback port. */
export async function startGateway(
	t: ExecutionContext,
	engine: EngineAddress,
	options: Partial<GatewayOptions> = {},
): Promise<{ gateway: Gateway; port: number }> {
	const gateway = createGateway({
		engine,
		endpoints: [],
		adapters: {},
		hookTimeout: 2_000,
		maxBody: 64 * 1024,
		log: pino({ level: "silent" }),
		...options,
	});
	const [address = ""] = await gateway.listen(["tcp://127.0.0.1:0"]);
	t.teardown(() => gateway.close());
	return { gateway, port: Number(address.split(":")[2]) };
}

/** A client of a few lines. */
export class Client {
	readonly socket: Socket;
	received = "";
	ended = false;
	closed = false;

	constructor(where: number | string) {
		const to =
			typeof where === "number"
				? { host: "127.0.0.1", port: where }
				: { path: where };
		this.socket = connect({ ...to, allowHalfOpen: true });
		this.socket.on("data", (chunk) => {
			this.received += chunk.toString("latin1");
		});
		this.socket.on("end", () => {
			this.ended = true;
		});
		this.socket.on("error", () => {});
		this.socket.on("close", () => {
			this.closed = true;
		});
	}

	send(text: string | Buffer): this {
		if (typeof text === "string") this.socket.write(text, "latin1");
		else this.socket.write(text);
		return this;
	}

	/** Waits until what has been received is enough. */
	async until(enough: (received: string) => boolean): Promise<string> {
		await eventually(
			() => enough(this.received),
			() => this.received,
		);
		return this.received;
	}

	/** Waits until the other side has hung up. */
	async end(): Promise<string> {
		await eventually(
			() => this.ended || this.closed,
			() => this.received,
		);
		this.socket.destroy();
		return this.received;
	}
}

/** @throws after 10 s, telling what `state` says */
export async function eventually(
	holds: () => boolean | Promise<boolean>,
	state: () => unknown = () => "",
	limit = 10_000,
): Promise<void> {
	const start = Date.now();
	while (!(await holds())) {
		if (Date.now() - start > limit) {
			throw new Error(`waited ${limit} ms in vain: ${state()}`);
		}
		await sleep(5);
	}
}

/** Sends one request, and takes all that comes until the other side hangs up. */
export function ask(where: number | string, request: string | Buffer) {
	return new Client(where).send(request).end();
}

/** A request with a JSON body. */
export function post(path: string, body: string, headers = ""): string {
	return (
		`POST ${path} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\n` +
		`${headers}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
	);
}

/** The status and the body of a whole answer. */
export function parts(answer: string): {
	status: number;
	body: string;
	head: string;
} {
	const at = answer.indexOf("\r\n\r\n");
	return {
		status: Number(answer.slice(9, 12)),
		head: answer.slice(0, at),
		body: answer.slice(at + 4),
	};
}
