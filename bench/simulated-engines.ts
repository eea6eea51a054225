import { createServer } from "node:http";

/**
 * Engines without containers, for hosts that are only in Consul's books: they answer at once that they have
 * nothing. Run as `node simulated-engines.js ADDRESS FIRST-PORT COUNT`.
 */
const [address, first, count] = process.argv.slice(2);
const EMPTY: Record<string, unknown> = {
	"/containers/json": [],
	"/images/json": [],
	"/networks": [],
	"/volumes": { Volumes: [], Warnings: [] },
	"/info": { ID: "simulated", Name: "simulated", ServerVersion: "20.10.24" },
};

function answer(url: string): { status: number; body: string } {
	const path = (url.split("?")[0] ?? "").replace(/^\/v[\d.]+/, "");
	if (path === "/_ping") return { status: 200, body: "OK" };
	if (path === "/events") return { status: 200, body: "" };
	const found = EMPTY[path];
	if (found) return { status: 200, body: JSON.stringify(found) };
	return { status: 404, body: JSON.stringify({ message: `no such: ${path}` }) };
}

const listening = Array.from({ length: Number(count) }, async (_, i) => {
	const server = createServer((request, response) => {
		const { status, body } = answer(request.url ?? "/");
		response.writeHead(status, {
			"Content-Type": "application/json",
			"Api-Version": "1.41",
			"Content-Length": body.length,
		});
		response.end(body);
	});
	server.keepAliveTimeout = 10 * 60_000;
	await new Promise<void>((ready) =>
		server.listen(Number(first) + i, address, ready),
	);
});
await Promise.all(listening);
console.log("ready");
