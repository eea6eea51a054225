import test from "ava";
import { type FakeEngine, startHosts, storeOf } from "./hosts.ts";

const HOME = "a".repeat(64);
const COPY = "b".repeat(64);
const LABELS = { "arpanet.network": "shared-unused", old: "" };

/** An engine that has the network, until it is told to prune what is labelled so. */
function withNetwork(Id: string): FakeEngine {
	let there = true;
	const network = { Id, Name: "unused", Labels: LABELS, Containers: {} };
	return (method, { pathname, searchParams }) => {
		if (method === "POST") {
			const { label } = JSON.parse(searchParams.get("filters") ?? "{}");
			const meant = there && label?.includes("arpanet.network=shared-unused");
			if (meant) there = false;
			return { NetworksDeleted: meant ? ["unused"] : null };
		}
		if (pathname === "/networks") return there ? [network] : [];
		return there && pathname === "/networks/unused" ? network : undefined;
	};
}

/** Three hosts; the first one's gateway has read what there was before the network. */
async function late(t: Parameters<typeof startHosts>[0]) {
	const values: Record<string, unknown> = {};
	const hosts = await startHosts(
		t,
		{ one: withNetwork(HOME), two: withNetwork(COPY), three: () => [] },
		storeOf(values), // its watch has not told of anything yet
	);
	await hosts.route("GET", "/networks");
	const key = "arpanet/network-ids/shared-unused";
	values[`${key}/one`] = { name: "unused", id: HOME, home: true };
	values[`${key}/two`] = { name: "unused", id: COPY };
	return hosts;
}

test("a network that was made through another gateway a moment ago is pruned", async (t) => {
	const { route } = await late(t);
	t.deepEqual(await route("POST", "/networks/prune"), {
		NetworksDeleted: ["unused"],
	});
});

test("what is no filter prunes nothing: the engine is asked to say what is wrong with it", async (t) => {
	const { route, asked } = await late(t);
	const before = Object.values(asked).flat().length;
	for (const filters of ["[]", "5", '{"label":"x"}', '{"label":[5]}']) {
		const path = `/networks/prune?filters=${encodeURIComponent(filters)}`;
		t.is(await route("POST", path), "one");
	}
	t.is(Object.values(asked).flat().length, before);
});

test("it is listed once, with its one id and without the labels that are arpanet's", async (t) => {
	const { route } = await late(t);
	const rows = (await route("GET", "/networks")) as object[];
	t.is(rows.length, 1);
	t.like(rows[0], { Id: HOME, Labels: { old: "" } });
});

test("a network's name is not the start of another's id, on whatever host it is", async (t) => {
	const values = {
		"arpanet/network-ids/shared-unused/one": {
			...{ name: "unused", id: HOME, home: true },
		},
	};
	const own = { Id: "c".repeat(64), Name: "aa" };
	const two: FakeEngine = (_, { pathname }) =>
		pathname === "/networks/aa" ? own : undefined;
	const engines = { one: withNetwork(HOME), two };
	const { route } = await startHosts(t, engines, storeOf(values));
	t.is(await route("GET", "/networks/aa"), "two");
	t.is(await route("DELETE", "/networks/aa"), "two");
	t.like(await route("GET", "/networks/aaa"), { Id: HOME, Name: "unused" });
});

test("a network is dangling if no host uses it", async (t) => {
	const values: Record<string, unknown> = {};
	const key = "arpanet/network-ids/shared-unused";
	values[`${key}/one`] = { name: "unused", id: HOME, home: true };
	values[`${key}/two`] = { name: "unused", id: COPY };
	let isUsed = true;
	const row = { Name: "unused", Labels: LABELS };
	const host =
		(Id: string, uses: () => boolean): FakeEngine =>
		(_, { searchParams }) => {
			const { dangling } = JSON.parse(searchParams.get("filters") ?? "{}");
			return dangling && uses() !== (dangling[0] === "false")
				? []
				: [{ ...row, Id }];
		};
	const engines = {
		one: host(HOME, () => false),
		two: host(COPY, () => isUsed),
	};
	const { route } = await startHosts(t, engines, storeOf(values));
	const listed = async (dangling: string) => {
		const filters = JSON.stringify({ dangling: [dangling] });
		const path = `/networks?filters=${encodeURIComponent(filters)}`;
		return ((await route("GET", path)) as object[]).length;
	};
	t.is(await listed("true"), 0);
	t.is(await listed("false"), 1);
	isUsed = false;
	t.is(await listed("true"), 1);
	t.is(await listed("false"), 0);
});

test("a network is not removed while a host that may use it does not answer", async (t) => {
	const { close, known, route } = await late(t);
	const remove = () => route("DELETE", "/networks/unused");
	close.three?.();
	t.is(await remove(), "one"); // that one never had it
	close.two?.();
	t.like(await t.throwsAsync(remove()), {
		status: 502,
		message:
			"network unused may be in use on host two, which does not answer; try again, and look at arpanet hosts",
	});
	Object.assign(known.two ?? {}, { state: undefined });
	t.is(await remove(), "one"); // a lost host keeps none from it
});

test("one that came to another host a moment ago, with a container, is not pruned", async (t) => {
	const values: Record<string, unknown> = {};
	const key = "arpanet/network-ids/shared-unused";
	values[`${key}/one`] = { name: "unused", id: HOME, home: true };
	const two: FakeEngine = (method, { pathname }) => {
		if (method === "POST") return { NetworksDeleted: null };
		const network = {
			Id: COPY,
			Name: "unused",
			Labels: LABELS,
			Containers: { c: {} },
		};
		return pathname === "/networks/unused" ? network : [network];
	};
	const { route } = await startHosts(
		t,
		{ one: withNetwork(HOME), two },
		storeOf(values),
	);
	await route("GET", "/networks");
	values[`${key}/two`] = { name: "unused", id: COPY };
	t.deepEqual(await route("POST", "/networks/prune"), {
		NetworksDeleted: null,
	});
});

/** An engine with two networks of others and one of ours, all without containers. */
const withForeign: FakeEngine = (method, { pathname }) => {
	const Created = "2026-01-01T00:00:00Z";
	const networks = [
		{ Id: "1", Name: "old", Labels: {}, Created },
		{ Id: "2", Name: "kept", Labels: { keep: "yes" }, Created },
		{ Id: "3", Name: "abc_default", Labels: { "arpanet.network": "abc" } },
	];
	if (method === "DELETE") return "";
	if (method === "POST") return { NetworksDeleted: null };
	if (pathname === "/networks") return networks;
	return networks.find(({ Id }) => pathname === `/networks/${Id}`);
};

test("a prune that spares labels takes no network of ours along", async (t) => {
	const { route, asked } = await startHosts(t, {
		one: withForeign,
		two: withForeign,
	});
	const prune = (filters: object) =>
		route(
			"POST",
			`/networks/prune?filters=${encodeURIComponent(JSON.stringify(filters))}`,
		);
	t.deepEqual(await prune({ "label!": ["keep=yes"] }), {
		NetworksDeleted: ["old", "old"],
	});
	const deleted = Object.values(asked)
		.flat()
		.filter((request) => !request.startsWith("GET"));
	t.deepEqual(deleted, ["DELETE /networks/1", "DELETE /networks/1"]);
	for (const [until, names] of [
		["2025-12-31T00:00:00Z", null],
		["1h30m", ["old", "old"]],
		["1767225601", ["old", "old"]],
	]) {
		t.deepEqual(await prune({ "label!": ["keep"], until: [until] }), {
			NetworksDeleted: names,
		});
	}
	await t.throwsAsync(prune({ "label!": ["keep"], until: ["soon"] }), {
		message: /until=soon/,
	});
});

test("a host that does not answer does not fail a prune of the others", async (t) => {
	const { route, close } = await startHosts(t, {
		one: (method) =>
			method === "POST" ? { NetworksDeleted: ["old"] } : undefined,
		two: withForeign,
	});
	close.two?.();
	t.deepEqual(await route("POST", "/networks/prune"), {
		NetworksDeleted: ["old"],
	});
});
