import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import test, { type ExecutionContext } from "ava";
import { rejoin } from "../../agent/rejoin.ts";
import { Store } from "../../pipeline/state/store.ts";

const ALIVE = 1;
const LEFT = 3;
const FAILED = 4;

/** The port of something that listens on loopback until the test ends. */
async function listening(t: ExecutionContext, server: Server): Promise<number> {
	await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
	t.teardown(() => server.close());
	return (server.address() as AddressInfo).port;
}

/** A Consul that has these members. @returns who it is told to join, as it is told */
async function consulOf(t: ExecutionContext, members: object[]) {
	const joined: string[] = [];
	const server = createHttpServer(({ url = "" }, response) => {
		const join = /^\/v1\/agent\/join\/(.*)$/.exec(url)?.[1];
		if (join) joined.push(decodeURIComponent(join));
		response.setHeader("Content-Type", "application/json");
		response.end(JSON.stringify(url === "/v1/agent/members" ? members : null));
	});
	const port = await listening(t, server);
	const store = new Store({ address: `http://127.0.0.1:${port}` });
	t.teardown(() => store.close());
	return { store, joined };
}

test("who can be reached is joined, failed or not: no client, none that has left, and none that is away", async (t) => {
	const server = () =>
		listening(
			t,
			createServer((socket) => socket.destroy()),
		);
	const alive = await server();
	const failed = await server();
	const member = (Port: number, Status: number, role = "consul") => ({
		...{ Addr: "127.0.0.1", Port, Status, Tags: { role } },
	});
	const { store, joined } = await consulOf(t, [
		member(alive, ALIVE),
		member(failed, FAILED),
		member(await server(), LEFT),
		member(await server(), ALIVE, "node"),
		member(1, FAILED), // nobody listens there
	]);
	await rejoin(store);
	t.deepEqual(
		joined.sort(),
		[`127.0.0.1:${alive}`, `127.0.0.1:${failed}`].sort(),
	);
});

test("a Consul that does not answer is no reason to fail", async (t) => {
	const gone = new Store({ address: "http://127.0.0.1:1" });
	t.teardown(() => gone.close());
	await t.notThrowsAsync(rejoin(gone));
});
