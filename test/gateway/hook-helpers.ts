import type { ExecutionContext } from "ava";
import type { GatewayOptions } from "../../gateway/gateway.ts";
import type {
	Adapter,
	ClientRequest,
	HookHeaders,
	PostHook,
	PreHook,
	ServerResponse,
} from "../../pipeline/protocol.ts";
import { answering, Client, parts, startGateway } from "./helpers.ts";

export const CREATED =
	'HTTP/1.1 201 Created\r\nApi-Version: 1.41\r\ncontent-type: application/json\r\nContent-Length: 12\r\n\r\n{"Id": "ab"}';
export const CREATE = "/v1.41/containers/create?name=web";
export const LIMIT = 64 * 1024;

/** An adapter that writes down what it is called with. */
export function adapter(
	pre: (
		request: ClientRequest,
	) => Partial<ClientRequest> | Promise<Partial<ClientRequest>> = () => ({}),
	after: (
		response: ServerResponse,
	) => Partial<ServerResponse> | Promise<Partial<ServerResponse>> = () => ({}),
) {
	const calls: (PreHook | PostHook)[] = [];
	const headers: HookHeaders[] = [];
	const it: Adapter = {
		async preHook(hook, sent) {
			calls.push(hook);
			headers.push(sent);
			return {
				PowerstripProtocolVersion: 1,
				ModifiedClientRequest: {
					...hook.ClientRequest,
					...(await pre(hook.ClientRequest)),
				},
			};
		},
		async postHook(hook, sent) {
			calls.push(hook);
			headers.push(sent);
			return {
				PowerstripProtocolVersion: 1,
				ModifiedServerResponse: {
					...hook.ServerResponse,
					...(await after(hook.ServerResponse)),
				},
			};
		},
	};
	const told = () =>
		calls.flatMap((call) =>
			call.Type === "post-hook" ? [call.ServerResponse] : [],
		);
	return { ...it, calls, headers, told };
}

/** Bodies in these tests end with } or with the last chunk. */
const whole = (text: string) =>
	text.endsWith("}") ||
	text.endsWith("0\r\n\r\n") ||
	text.endsWith("0\r\n\r\n\r\n");

/** A gateway with hooks on create, its engine, and a client that asks it once. */
export async function setUp(
	t: ExecutionContext,
	adapters: Record<string, Adapter>,
	options: Partial<GatewayOptions> & {
		answer?: string;
		pre?: string[];
		post?: string[];
	} = {},
) {
	const {
		answer = CREATED,
		pre = Object.keys(adapters),
		post = Object.keys(adapters),
		...rest
	} = options;
	const engine = await answering(t, answer, whole);
	const { port } = await startGateway(t, rest.engine ?? engine, {
		endpoints: [{ pattern: "POST */containers/*", pre, post }],
		adapters,
		...rest,
	});
	async function request(text: string) {
		const client = new Client(port).send(text);
		await client.until((text) => {
			const { head, body } = parts(text);
			const length = /content-length: (\d+)/i.exec(head);
			return (
				text.includes("\r\n\r\n") && body.length >= Number(length?.[1] ?? 0)
			);
		});
		client.socket.destroy();
		return parts(client.received);
	}
	const message = async (text: string) => {
		const { status, body } = await request(text);
		return { status, message: JSON.parse(body).message as string };
	};
	return { engine, port, request, message };
}
