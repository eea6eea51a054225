import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, createServer as createRaw } from "node:net";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import test, { type ExecutionContext } from "ava";
import { HttpClient } from "../../pipeline/http-client.ts";

const ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK";

/** Answers one request per connection and hangs up at the next, as one does that is just closing what is idle. */
async function fickle(t: ExecutionContext) {
	const requests: string[] = [];
	const server = createRaw((socket) => {
		socket.on("error", () => {});
		socket.once("data", (first) => {
			requests.push(`${first}`.slice(0, 4));
			socket.write(ANSWER);
			socket.once("data", () => socket.resetAndDestroy());
		});
	});
	await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
	const { port } = server.address() as AddressInfo;
	const client = new HttpClient({ host: "127.0.0.1", port });
	t.teardown(() => {
		client.close();
		server.close();
	});
	return { client, requests };
}

test("a GET on a connection that the server just closed is asked again", async (t) => {
	const { client, requests } = await fickle(t);
	for (let i = 0; i < 3; i++) {
		const { text } = await client.ask({ method: "GET", path: "/" });
		t.is(text, "OK");
	}
	t.is(requests.length, 3);
});

test("what may have been done is not asked twice", async (t) => {
	const { client, requests } = await fickle(t);
	await client.ask({ method: "POST", path: "/" });
	await t.throwsAsync(client.ask({ method: "POST", path: "/" }), {
		code: "ECONNRESET",
	});
	t.is(requests.length, 1);
});

test("bodies are streamed, and silence has a limit", async (t) => {
	const server = createServer(async (request: IncomingMessage, answer) => {
		if (request.url === "/silent") return;
		answer.end((await text(request)).toUpperCase());
	});
	await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
	const { port } = server.address() as AddressInfo;
	const client = new HttpClient({ host: "127.0.0.1", port });
	t.teardown(() => {
		client.close();
		server.close();
	});
	const body = Readable.from(["a", "b", "c"]);
	const told = await client.ask({ method: "POST", path: "/", body });
	t.is(told.text, "ABC");
	const silent = client.ask({ method: "GET", path: "/silent", timeout: 50 });
	await t.throwsAsync(silent, { message: "nothing came for 0.05 s" });
});
