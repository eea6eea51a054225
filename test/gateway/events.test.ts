import { PassThrough } from "node:stream";
import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { Merging } from "../../gateway/treatments/merging.ts";
import type { OwnAnswer } from "../../gateway/treatments/treatment.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { eventually } from "./helpers.ts";
import { startHosts, storeOf } from "./hosts.ts";

/** A client that follows the events of two hosts, what the first of them tells it, and Consul. */
async function follow(t: ExecutionContext) {
	const consul = { away: false, asked: 0 };
	const list = async () => {
		consul.asked++;
		if (consul.away) throw new HttpError(503, "Consul does not answer");
		return [];
	};
	const stream = new PassThrough();
	let opened = 0;
	const one = (_: string, { searchParams }: URL) => {
		if (searchParams.has("until")) return "";
		opened++;
		return stream;
	};
	const two = (_: string, { searchParams }: URL) =>
		searchParams.has("until") ? "" : new PassThrough();
	const store = Object.assign(storeOf(), { list });
	const { route } = await startHosts(t, { one, two }, store);
	const events = (await route("GET", "/events")) as Extract<
		OwnAnswer,
		{ stream: unknown }
	>;
	const gone = new AbortController();
	t.teardown(() => gone.abort());
	const told: string[] = [];
	void (async () => {
		for await (const line of events.stream(gone.signal)) told.push(line);
	})();
	await eventually(() => opened > 0);

	function tell(Type: string, Action: string, ID: string): string {
		const Actor = { ID, Attributes: { name: "bridge" } };
		const event = { Type, Action, Actor, scope: "local", time: 1 };
		const nano = `${process.hrtime.bigint()}`;
		const line = `${JSON.stringify(event).slice(0, -1)},"timeNano":${nano}}\n`;
		stream.write(line);
		return line;
	}
	return { consul, tell, told };
}

test("what happens while Consul is away is told", async (t) => {
	const { consul, tell, told } = await follow(t);
	consul.away = true;
	const lines = [
		tell("network", "connect", "f".repeat(64)),
		tell("container", "start", "c".repeat(64)),
	];
	await eventually(
		() => told.length === lines.length,
		() => told,
		3_000,
	);
	t.deepEqual(told, lines);
});

test("Consul is asked once for a network that is none of ours", async (t) => {
	const { consul, tell, told } = await follow(t);
	tell("network", "connect", "f".repeat(64));
	await eventually(() => told.length === 1);
	const { asked } = consul;
	tell("network", "disconnect", "f".repeat(64));
	await eventually(() => told.length === 2);
	t.is(consul.asked, asked);
});

test("a reader that stops to read holds the engines up, and lets go of them when it goes", async (t) => {
	const merging = new Merging(true);
	let added = 0;
	let going = true;
	const adding = (async () => {
		while (going && added < 1e6) {
			await merging.add(`{"timeNano":${added++}}`);
		}
	})();
	const lines = merging.lines();
	const first = await lines.next();
	t.is(first.value, '{"timeNano":0}\n');
	await setTimeout(300);
	const before = added;
	t.true(before < 1e5);
	await setTimeout(300);
	t.is(added, before);
	going = false;
	await lines.return(undefined);
	await adding;
});

test("events until a moment before they begin are for the engine to refuse", async (t) => {
	const nothing = () => "";
	const { route } = await startHosts(t, { one: nothing, two: nothing });
	t.is(await route("GET", "/events?since=200&until=100"), "one");
});
