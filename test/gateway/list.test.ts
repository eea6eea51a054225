import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { HttpError } from "../../pipeline/errors.ts";
import { eventually } from "./helpers.ts";
import {
	type FakeEngine,
	fakeEngine,
	type HostsOfTest,
	startHosts,
} from "./hosts.ts";

const idOf = (name: string) => name.padEnd(64, "0");

/** An engine with containers, that were made in one second and not started. */
function withContainers(...names: string[]): FakeEngine {
	return (_, { pathname }) => {
		if (pathname.endsWith("/events")) return "";
		const name = names.find((each) => pathname.includes(idOf(each)));
		if (name) {
			const never = "0001-01-01T00:00:00Z";
			return {
				Id: idOf(name),
				Name: `/${name}`,
				Created: "2026-01-01T00:00:00.1Z",
				State: { Status: "created", StartedAt: never, FinishedAt: never },
			};
		}
		const rows = names.map((each) => ({
			Id: idOf(each),
			Names: [`/${each}`],
			Created: 1767225600,
			Ports: [
				{ PrivatePort: 443, Type: "tcp" },
				{ IP: "0.0.0.0", PrivatePort: 80, PublicPort: 8080, Type: "tcp" },
				{ IP: "::", PrivatePort: 80, PublicPort: 8080, Type: "tcp" },
				{ IP: "::", PrivatePort: 81, PublicPort: 8081, Type: "tcp" },
			],
			Labels: { "com.docker.compose.service": "web", a: "b" },
			State: "created",
			Status: "Created",
			Mounts: [],
		}));
		return `${JSON.stringify(rows)}\n`;
	};
}

interface Row {
	Names: string[];
	Ports: object[];
	Status: string;
	Labels: Record<string, string>;
}

async function statuses({ route }: HostsOfTest) {
	const rows = await route("GET", "/v1.41/containers/json?all=1");
	return (rows as Row[]).map(({ Status }) => Status);
}

test("the containers of a host that comes back at another address are listed", async (t) => {
	const engines = { one: withContainers("a"), two: withContainers("b") };
	const hosts = await startHosts(t, engines);
	const all = ["Created", "Created"];
	t.deepEqual(await statuses(hosts), all);

	const moved = await fakeEngine(t, engines.two);
	hosts.close.two?.();
	Object.assign(hosts.known.two ?? {}, { engine: moved.url });
	await eventually(async () => `${await statuses(hosts)}` === `${all}`);
	t.pass();
});

test("a host that was silent is asked again where it is by then, and one that is no more is not", async (t) => {
	const engines = { one: withContainers("a"), two: withContainers("b") };
	const { services, known } = await startHosts(t, engines);
	const { cluster } = services;
	const at = known.two?.engine;
	const ask = () => cluster.ask("two", (engine) => engine.info(), {});
	const server = createServer(() => {}).listen(0, "127.0.0.1"); // takes what it is asked, and is silent
	t.teardown(() => server.close());
	await once(server, "listening");
	const { port } = server.address() as AddressInfo;
	Object.assign(known.two ?? {}, { engine: `tcp://127.0.0.1:${port}` });
	await t.throwsAsync(ask(), { message: /host two does not answer/ });
	t.true(cluster.isSilent("two"));
	Object.assign(known.two ?? {}, { engine: at });
	await t.notThrowsAsync(eventually(async () => !cluster.isSilent("two")));
	Object.assign(known.two ?? {}, { engine: `tcp://127.0.0.1:${port}` });
	await t.throwsAsync(ask(), { message: /host two does not answer/ });
	delete known.two;
	await t.notThrowsAsync(eventually(async () => !cluster.isSilent("two")));
});

/** The rows that one of two hosts answers with sizes. */
async function sized(t: ExecutionContext, ...names: string[]) {
	const engines = { one: withContainers(...names), two: withContainers() };
	const { route } = await startHosts(t, engines);
	return (await route("GET", "/containers/json?all=1&size=1")) as Row[];
}

test("containers of one second are listed in their engine's order", async (t) => {
	const rows = await sized(t, "c", "a", "b");
	t.deepEqual(
		rows.map(({ Names }) => Names[0]),
		["/c", "/a", "/b"],
	);
});

test("ports are listed with their host's address, also after one that is not published", async (t) => {
	const [row] = await sized(t, "a");
	t.deepEqual(row?.Ports, [
		{ PrivatePort: 443, Type: "tcp" },
		{ IP: "10.0.0.1", PrivatePort: 80, PublicPort: 8080, Type: "tcp" },
		{ IP: "::", PrivatePort: 81, PublicPort: 8081, Type: "tcp" }, // of IPv6 alone
	]);
});

test("a copy that was started elsewhere is listed, and is no copy of its service to Compose", async (t) => {
	const name = `abc-web-1.superseded-${"0".repeat(12)}`;
	const engines = { one: withContainers("b"), two: withContainers(name) };
	const { route } = await startHosts(t, engines);
	const rows = (await route("GET", "/containers/json?all=1")) as Row[];
	const labels = Object.fromEntries(
		rows.map(({ Names, Labels }) => [Names[0], Labels]),
	);
	t.deepEqual(labels, {
		"/b": { "com.docker.compose.service": "web", a: "b" },
		[`/${name}`]: { a: "b" },
	});
});

test("a restart that is called off is seen at once, though no event tells of it", async (t) => {
	const id = "a".repeat(64);
	const FinishedAt = new Date().toISOString();
	const events: object[] = [];
	let isOver = false;
	let inspected = 0;
	const tell = (Action: string) =>
		events.push({
			...{ Type: "container", Action, Actor: { ID: id, Attributes: {} } },
			timeNano: Date.now() * 1e6,
		});
	const engine: FakeEngine = (_, { pathname }) => {
		if (pathname.endsWith("/events")) {
			return events.map((event) => `${JSON.stringify(event)}\n`).join("");
		}
		const Status = isOver ? "exited" : "restarting";
		if (pathname.includes(id)) {
			inspected++;
			const State = { Status, ExitCode: 3, StartedAt: FinishedAt, FinishedAt };
			const more = { Running: !isOver, Restarting: !isOver };
			return { Id: id, Created: FinishedAt, State: { ...State, ...more } };
		}
		const words = `${isOver ? "Exited" : "Restarting"} (3) Less than a second ago`;
		const row = { Id: id, Names: ["/a"], Created: 1767225600, Ports: [] };
		const state = { State: Status, Status: words, Mounts: [] };
		return `${JSON.stringify([{ ...row, ...state }])}\n`;
	};
	tell("die");
	const hosts = await startHosts(t, { one: engine, two: withContainers() });
	const isRead = async () => {
		const before = inspected;
		await eventually(async () => {
			await statuses(hosts);
			return inspected > before;
		});
		await setTimeout(50); // the rest of the reading
	};
	await isRead();
	isOver = true;
	t.regex(`${await statuses(hosts)}`, /^Exited \(3\)/);
});

test("a container that hangs hides no other, and is listed itself", async (t) => {
	const two: FakeEngine = (method, url) =>
		url.pathname.includes(idOf("c"))
			? new Promise(() => {})
			: withContainers("b", "c")(method, url);
	const engines = { one: withContainers(), two };
	const { route } = await startHosts(t, engines);
	const rows = (await route("GET", "/containers/json?all=1")) as Row[];
	t.deepEqual(
		rows.map(({ Names }) => Names[0]),
		["/b", "/c"],
	);
});

test("a container that has hung is read again, and the view answers", async (t) => {
	let reads = 0;
	const one: FakeEngine = (method, url) =>
		url.pathname.includes(idOf("a")) && reads++ === 0
			? new Promise(() => {})
			: withContainers("a", "b")(method, url);
	const { route } = await startHosts(t, { one });
	const list = () => route("GET", "/containers/json?all=1");
	t.is(await list(), "one"); // nothing is known yet
	await eventually(async () => (await list()) !== "one");
	t.is(reads, 2);
});

for (const refusal of [
	"client version 1.41 is too old",
	"client version 1.45 is too new. Maximum supported API version is 1.41",
]) {
	test(`an engine that does not take the client's version of the API is not taken for a lost one: ${refusal}`, async (t) => {
		const two: FakeEngine = () => {
			throw new HttpError(400, refusal);
		};
		const one: FakeEngine = (method, url) => {
			if (method === "POST") return {};
			if (/\/(volumes|networks)$/.test(url.pathname)) return [];
			return withContainers("a")(method, url);
		};
		const { route } = await startHosts(t, { one, two });
		for (const request of [
			"GET /v1.45/containers/json?all=1",
			"GET /v1.45/volumes",
			"GET /v1.45/networks",
			"POST /v1.45/images/prune",
			"POST /v1.45/networks/prune",
		]) {
			const [method = "", target = ""] = request.split(" ");
			const refused = { status: 400, message: refusal };
			const asking = route(method, target);
			t.like(await t.throwsAsync(asking, undefined, request), refused);
		}
	});
}
