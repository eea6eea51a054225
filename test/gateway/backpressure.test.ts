import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { Client, eventually, rawEngine, startGateway } from "./helpers.ts";

test("a slow reader holds the engine back", async (t) => {
	const chunk = Buffer.alloc(65_536, "x");
	let sent = 0;
	const engine = await rawEngine(t, (socket) => {
		const pump = () => {
			do sent += chunk.length;
			while (socket.write(chunk) && sent < 1e9);
		};
		socket.once("data", () => {
			socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
			pump();
		});
		socket.on("drain", pump);
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port);
	client.socket.pause();
	client.send("GET /images/x/get HTTP/1.1\r\n\r\n");
	await sleep(1_000);
	const held = sent;
	t.true(held < 30e6, `${held} bytes were taken from the engine`);
	client.socket.resume();
	await eventually(() => sent > held + 50e6);
	client.socket.destroy();
});

test("a slow engine holds the client back", async (t) => {
	const engine = await rawEngine(t, (socket) => {
		socket.pause();
		setTimeout(() => socket.resume(), 1_000);
		socket.on("end", () => socket.destroy()); // as an engine hangs up
	});
	const { port } = await startGateway(t, engine);
	const client = new Client(port).send(
		"POST /images/load HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\n",
	);
	let sent = 0;
	const pump = () => {
		do sent += 65_536;
		while (client.socket.write(Buffer.alloc(65_536)) && sent < 1e9);
	};
	client.socket.on("drain", pump);
	pump();
	await sleep(500);
	const held = sent;
	t.true(held < 30e6, `${held} bytes were taken from the client`);
	await eventually(() => sent > held + 50e6);
	client.socket.destroy();
});
