import { createServer } from "node:http";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { HttpError } from "../../pipeline/errors.ts";
import { type FakeEngine, startHosts, storeOf } from "./hosts.ts";

const CONTAINER = "c".repeat(64);
const EXEC = "e".repeat(64);

/** Three hosts, of which the second has a container and an exec that the first one's gateway has learnt of. */
async function setUp(t: ExecutionContext) {
	const nothing: FakeEngine = () => undefined;
	const two: FakeEngine = (_, { pathname }) => {
		if (pathname.includes(EXEC)) return { ID: EXEC };
		return pathname.includes(CONTAINER) ? { Id: CONTAINER } : undefined;
	};
	const hosts = await startHosts(t, { one: nothing, two, three: nothing });
	const stop = () => hosts.route("POST", `/containers/${CONTAINER}/stop`);
	const resize = () => hosts.route("POST", `/exec/${EXEC}/resize`);
	t.is(await stop(), "two");
	t.is(await resize(), "two");
	return { ...hosts, stop, resize };
}

test("of a container that is known by its id is said at once that its host is lost", async (t) => {
	const { known, stop, resize } = await setUp(t);
	Object.assign(known.two ?? {}, { state: undefined });
	await t.throwsAsync(stop(), {
		message: `container ${CONTAINER} is on host two, which is lost; start arpanet there, or say arpanet host rm two if it will not come back`,
	});
	t.is(await resize(), "one"); // says that there is none
	Object.assign(known.two ?? {}, { state: { load: 0, address: "" } });
	t.is(await stop(), "two");
});

test("a name that is a lost host's container's is not the start of another's id", async (t) => {
	const other = "db".padEnd(64, "1");
	const one: FakeEngine = (_, { pathname }) =>
		pathname === "/containers/db/json"
			? { Id: other, Name: "/other" }
			: undefined;
	const two: FakeEngine = (_, { pathname }) =>
		pathname === "/containers/db/json"
			? { Id: CONTAINER, Name: "/db" }
			: undefined;
	const store = storeOf({
		"arpanet/containers/db": { facts: { host: "two" }, holds: [] },
	});
	const { known, route } = await startHosts(t, { one, two }, store);
	const remove = () => route("DELETE", "/containers/db?force=1");
	t.is(await remove(), "two");
	Object.assign(known.two ?? {}, { state: undefined });
	await t.throwsAsync(remove(), {
		message: /^container db is on host two, which is lost; /,
	});
	delete known.two; // it was removed for good
	t.is(await remove(), "one");
});

test("a container that a list shows on a lost host is known there by the id that it shows", async (t) => {
	const nothing: FakeEngine = (_, { pathname }) =>
		pathname === "/containers/json" ? [] : undefined;
	const store = storeOf({
		"arpanet/containers/abc_web_1": { facts: { host: "two" }, holds: [] },
	});
	const hosts = await startHosts(t, { one: nothing, two: nothing }, store);
	Object.assign(hosts.known.two ?? {}, { state: undefined });
	const rows = await hosts.route("GET", "/containers/json");
	const [{ Id } = { Id: "" }] = rows as { Id: string }[];
	for (const ref of [Id, Id.slice(0, 12), "abc_web_1"]) {
		await t.throwsAsync(hosts.route("GET", `/containers/${ref}/json`), {
			message: `container ${ref} is on host two, which is lost; start arpanet there, or say arpanet host rm two if it will not come back`,
		});
	}
});

for (const [target, body] of [
	["/commit?container=abc_web_1", null],
	["/build?networkmode=container:abc_web_1", null],
	["/networks/bridge/connect", '{"Container":"abc_web_1"}'],
	["/networks/bridge/disconnect", '{"Container":"abc_web_1"}'],
] as const) {
	test(`a container of a lost or silent host is not said to be nowhere: POST ${target}`, async (t) => {
		const nothing: FakeEngine = () => undefined;
		const record = { facts: { host: "two" }, holds: [], attempts: 1 };
		const store = storeOf({ "arpanet/containers/abc_web_1": record });
		const engines = { one: nothing, two: nothing };
		const { close, known, route } = await startHosts(t, engines, store);
		close.two?.();
		await t.throwsAsync(route("POST", target, body), {
			message: /^container abc_web_1 is on host two, which does not answer/,
		});
		Object.assign(known.two ?? {}, { state: undefined });
		await t.throwsAsync(route("POST", target, body), {
			message: /^container abc_web_1 is on host two, which is lost/,
		});
	});
}

test("a container on no record whose name Consul knows is not said to be nowhere while its host is lost", async (t) => {
	const nothing: FakeEngine = () => undefined;
	const store = storeOf({ "arpanet/names/db": { host: "two", id: CONTAINER } });
	const engines = { one: nothing, two: nothing };
	const { known, route } = await startHosts(t, engines, store);
	Object.assign(known.two ?? {}, { state: undefined });
	await t.throwsAsync(route("POST", "/containers/db/stop"), {
		message: /^container db is on host two, which is lost/,
	});
});

test("what was on a host that was removed is not there any more", async (t) => {
	const { known, stop, resize } = await setUp(t);
	delete known.two;
	t.is(await stop(), "one");
	t.is(await resize(), "one");
});

test("a list waits for a host whose arpanet is being started again", async (t) => {
	const nothing: FakeEngine = (_, { pathname }) =>
		pathname === "/events" ? "" : [];
	const { known, close, route } = await startHosts(t, {
		one: nothing,
		two: nothing,
	});
	Object.assign(known.two?.state ?? {}, { stopping: true });
	close.two?.();
	const listing = route("GET", "/containers/json");
	const naming = route("GET", "/volumes");
	await setTimeout(2_000); // longer than one waits for what hangs
	const row = { Id: CONTAINER, Names: ["/abc_web_1"], Created: 5, Labels: {} };
	const state = { State: "running", Status: "Up 2 seconds" };
	const volume = { Name: "data", CreatedAt: "2026-01-01T00:00:00Z" };
	const again = createServer(({ url }, answer) => {
		answer.setHeader("Api-Version", "1.41");
		if (url === "/events") answer.end();
		else if (url?.startsWith("/containers")) {
			answer.end(JSON.stringify([{ ...row, ...state }]));
		} else answer.end(JSON.stringify({ Volumes: [volume], Warnings: null }));
	});
	again.listen(Number(new URL(known.two?.engine ?? "").port), "127.0.0.1");
	t.teardown(() => {
		again.closeAllConnections();
		again.close();
	});
	t.like(await listing, { length: 1, 0: { ...row, ...state } });
	t.like(await naming, { Volumes: { length: 1 } });
	Object.assign(known.two?.state ?? {}, { stopping: false });
});

test("without Consul lists and removals go on, and nothing is said to be nowhere that may be on a lost host", async (t) => {
	const bridge = { NetworkID: "d".repeat(64) };
	const row = {
		...{ Id: CONTAINER, Names: ["/x"], Created: 1, Labels: {} },
		...{ State: "running", Status: "Up", HostConfig: {}, Mounts: [] },
		NetworkSettings: { Networks: { bridge } },
	};
	const engine =
		(rows: object[]): FakeEngine =>
		(_, { pathname }) => {
			if (pathname === "/events") return "";
			if (pathname === "/networks/mine") return { Name: "mine" };
			return pathname === "/containers/json" ? rows : undefined;
		};
	const away = async () => {
		throw new HttpError(503, "Consul does not answer");
	};
	const store = Object.assign(storeOf(), { list: away, get: away });
	const { known, route } = await startHosts(
		t,
		{ one: engine([]), two: engine([row]) },
		store,
	);
	const onBridge = encodeURIComponent('{"network":["bridge"]}');
	for (const query of ["", `?filters=${onBridge}`]) {
		const rows = await route("GET", `/containers/json${query}`);
		t.like(rows, { 0: { Id: CONTAINER } }, query);
	}
	t.is(await route("DELETE", "/networks/mine"), "one");
	t.is(await route("GET", "/containers/nosuch/json"), "one"); // no host has it
	Object.assign(known.two ?? {}, { state: undefined });
	await t.throwsAsync(route("GET", "/containers/nosuch/json"), {
		message:
			/^container nosuch may be on two, which cannot be asked, and Consul does not say/,
	});
});

test("a container on record is not said to be nowhere while its host's own record is gone", async (t) => {
	const nothing: FakeEngine = () => undefined;
	const record = { facts: { host: "two" }, holds: [], attempts: 1 };
	const store = storeOf({ "arpanet/containers/abc_web_1": record });
	const engines = { one: nothing, two: nothing, three: nothing };
	const { known, route } = await startHosts(t, engines, store);
	const inspect = () => route("GET", "/containers/abc_web_1/json");
	t.is(await inspect(), "one"); // host two says that it is not there
	delete known.two;
	await t.throwsAsync(inspect(), {
		message: /abc_web_1 is on record on host two, of which nothing is known/,
	});
});
