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

test("it is listed once, with its one id and without the labels that are arpanet's", async (t) => {
	const { route } = await late(t);
	const rows = (await route("GET", "/networks")) as object[];
	t.is(rows.length, 1);
	t.like(rows[0], { Id: HOME, Labels: { old: "" } });
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
