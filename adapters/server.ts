import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { Ajv } from "ajv";
import Koa, { type Context, type Next } from "koa";
import Router from "koa-router";
import type { Logger } from "pino";
import { HttpError, messageOf } from "../pipeline/errors.ts";
import { listening } from "../pipeline/listen.ts";
import type { Pipeline } from "../pipeline/pipeline.ts";
import {
	type HookHeaders,
	type PostHook,
	PROTOCOL_VERSION,
	type PreHook,
} from "../pipeline/protocol.ts";
import { isLoopback, type Tls, tcpAddress } from "../pipeline/tls.ts";
import { tlsServer } from "../pipeline/tls-server.ts";

/** Bytes of a hook that are read; powerstrip sends bodies whole, inside JSON. */
const MAX_HOOK = 16 * 1024 * 1024;

const text = { type: ["string", "null"] };

const REQUEST = {
	type: "object",
	required: ["Method", "Request"],
	properties: {
		Method: { type: "string" },
		Request: { type: "string" },
		Body: text,
	},
};

const RESPONSE = {
	type: "object",
	required: ["Code"],
	properties: { ContentType: text, Body: text, Code: { type: "integer" } },
};

function hookSchema(type: string, more: Record<string, object>) {
	return {
		type: "object",
		required: [
			"PowerstripProtocolVersion",
			"Type",
			"ClientRequest",
			...Object.keys(more),
		],
		properties: {
			PowerstripProtocolVersion: { const: PROTOCOL_VERSION },
			Type: { const: type },
			ClientRequest: REQUEST,
			...more,
		},
	};
}

const ajv = new Ajv({ allowUnionTypes: true });
const isPreHook = ajv.compile<PreHook>(hookSchema("pre-hook", {}));
const isPostHook = ajv.compile<PostHook>(
	hookSchema("post-hook", { ServerResponse: RESPONSE }),
);

/**
 * The two endpoints that a powerstrip calls: `POST /pre-hook` and `POST /post-hook`. Under a
 * stock powerstrip `?host=node1` in the URL names the only host it can place on.
 * Errors are Docker's `{"message": …}`: powerstrip hands them to the client.
 */
export function adapterApp(pipeline: Pipeline, log: Logger): Koa {
	const app = new Koa();
	const router = new Router();

	router.post("/pre-hook", async (ctx: Context) => {
		const hook = await readHook(ctx, isPreHook);
		ctx.body = await placed(pipeline, ctx).preHook(hook, headersOf(ctx));
	});
	router.post("/post-hook", async (ctx: Context) => {
		const hook = await readHook(ctx, isPostHook);
		ctx.body = await placed(pipeline, ctx).postHook(hook, headersOf(ctx));
	});

	app.use((ctx, next) => answerErrors(ctx, next, log));
	app.use(router.routes());
	app.use((ctx) => {
		throw new HttpError(
			404,
			`${ctx.method} ${ctx.path} is no endpoint of this adapter; powerstrip posts to /pre-hook and /post-hook`,
		);
	});
	return app;
}

/** Where an adapter listens, and what it takes to be let in. */
export interface ListenOptions {
	/** `tcp://127.0.0.1:2378` */
	address: string;
	/** Beyond loopback whoever calls must be a host of the same authority. */
	tls?: Tls | undefined;
	log: Logger;
}

/**
 * Serves an adapter app until it is told to stop.
 * @returns stops listening, lets running hooks finish and hangs up
 * @throws Error when the address cannot be had, naming it
 */
export async function listen(
	app: Koa,
	{ address, tls, log }: ListenOptions,
): Promise<() => Promise<void>> {
	const where = tcpAddress(address);
	if (!where) {
		throw new Error(
			`cannot listen on "${address}" (adapter.listen): write tcp://127.0.0.1:2378`,
		);
	}
	const sockets = new Set<Socket>();
	const answers = new Set<ServerResponse>();
	const http = createServer({ noDelay: true });
	http.on("request", (_, answer) => {
		answers.add(answer);
		answer.once("close", () => answers.delete(answer));
		if (!server.listening) announceEnd(answer);
	});
	http.on("request", app.callback());
	// the proxy's pooled connections outlive any pause between two requests
	http.keepAliveTimeout = 10 * 60_000;
	const server =
		tls && !isLoopback(address)
			? tlsServer(tls, { noDelay: true }, "hosts", (socket) =>
					http.emit("connection", socket),
				)
			: http;
	server.on("connection", (socket: Socket) => {
		sockets.add(socket);
		socket.once("close", () => sockets.delete(socket));
	});
	await listening(server, where, {
		address: `${address} (adapter.listen)`,
		log,
	});
	return async () => {
		const closed = once(server, "close");
		server.close();
		for (const answer of answers) announceEnd(answer);
		while (answers.size > 0) await Promise.all([...answers].map(ended));
		// Node's own closeIdleConnections knows none that came by TLS
		for (const socket of sockets) socket.destroy();
		await closed;
	};
}

/** Has whoever reads an answer use its connection no more. */
function announceEnd(answer: ServerResponse): void {
	if (!answer.headersSent) answer.setHeader("Connection", "close");
}

function ended(answer: ServerResponse): Promise<void> {
	return new Promise((resolve) => answer.once("close", resolve));
}

function placed(pipeline: Pipeline, ctx: Context): Pipeline {
	const { host } = ctx.query;
	return typeof host === "string" && host ? pipeline.on(host) : pipeline;
}

function headersOf(ctx: Context): HookHeaders {
	const headers: HookHeaders = {};
	for (const name of ["x-arpanet-deployment", "x-arpanet-request"] as const) {
		const value = ctx.get(name);
		if (value) headers[name] = value;
	}
	return headers;
}

async function readHook<T>(
	ctx: Context,
	isHook: ((value: unknown) => value is T) & {
		errors?: { instancePath: string; message?: string }[] | null;
	},
): Promise<T> {
	let hook: unknown;
	try {
		hook = JSON.parse(await readBody(ctx));
	} catch (error) {
		if (error instanceof HttpError) throw error;
		throw new HttpError(400, `the hook is not JSON: ${messageOf(error)}`);
	}
	if (isHook(hook)) return hook;
	const [first] = isHook.errors ?? [];
	throw new HttpError(
		400,
		`not a hook of the powerstrip protocol version ${PROTOCOL_VERSION}: ${first?.instancePath.slice(1) || "it"} ${first?.message}`,
	);
}

async function readBody(ctx: Context): Promise<string> {
	const chunks: Buffer[] = [];
	let size = 0;
	for await (const chunk of ctx.req as AsyncIterable<Buffer>) {
		size += chunk.length;
		if (size > MAX_HOOK) {
			throw new HttpError(413, `a hook may have ${MAX_HOOK} bytes at most`);
		}
		chunks.push(chunk);
	}
	return Buffer.concat(chunks).toString("utf8");
}

async function answerErrors(
	ctx: Context,
	next: Next,
	log: Logger,
): Promise<void> {
	try {
		await next();
	} catch (err) {
		if (!(err instanceof HttpError)) {
			const request = ctx.get("x-arpanet-request");
			log.error({ err, path: ctx.path, request }, "hook failed");
		}
		ctx.status = err instanceof HttpError ? err.status : 500;
		ctx.body = {
			message:
				err instanceof HttpError
					? err.message
					: "arpanet: internal error; the adapter's log has the details",
		};
	}
}
