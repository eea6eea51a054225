import test from "ava";
import fc, { type Scheduler } from "fast-check";
import { Netmask } from "netmask";
import { HttpError } from "../../pipeline/errors.ts";
import type { ContainerRecord } from "../../pipeline/state/containers.ts";
import type { Lease } from "../../pipeline/state/leases.ts";
import type { NetworkRecord } from "../../pipeline/state/networks.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;

test.before(async () => {
	consul = await startConsul();
});
test.after.always(() => consul?.stop());

/** Two deployments of up to four copies, in subnets too small for them. */
const DEPLOYMENTS = ["one", "two"];
const SIZE = 4;
const POOL = "10.80.0.0/27";

/** Tries are begun for so long. */
const SPENT_MS = 8_000;

/** What one adapter is asked for. */
interface Step {
	does: "create" | "remove";
	deployment: string;
	copy: number;
}

const step = fc.record<Step>({
	does: fc.constantFrom("create", "create", "remove"),
	deployment: fc.constantFrom(...DEPLOYMENTS),
	copy: fc.integer({ min: 1, max: 4 }),
});
/** Three adapters at once, each with its steps. */
const lanes = fc.array(fc.array(step, { maxLength: 5 }), {
	minLength: 3,
	maxLength: 3,
});

/** Each of its questions to Consul, and each commit, comes when the scheduler says. */
function inTurn(allocator: Allocator, scheduler: Scheduler): Allocator {
	const { store } = allocator;
	store.get = scheduler.scheduleFunction(store.get.bind(store)) as never;
	store.list = scheduler.scheduleFunction(store.list.bind(store)) as never;
	store.keys = scheduler.scheduleFunction(store.keys.bind(store)) as never;
	store.commit = scheduler.scheduleFunction(store.commit.bind(store)) as never;
	return allocator;
}

test("however the steps of several adapters fall between each other, addresses and subnets are nobody's twice, and all are given back", async (t) => {
	const judge = new Allocator(consul.address);
	const end = performance.now() + SPENT_MS;
	const one = async (scheduler: Scheduler, steps: Step[][]) => {
		if (performance.now() > end) return; // enough for today
		const allocators = steps.map(() =>
			inTurn(
				new Allocator(consul.address, { pool: POOL, size: SIZE }),
				scheduler,
			),
		);
		const given = new Map<string, Set<string>>();
		const removed = new Set<string>();
		const work = Promise.all(
			steps.map(async (lane, i) => {
				for (const { does, deployment, copy } of lane) {
					const name = `${deployment}_web_${copy}`;
					const allocator = allocators[i] as Allocator;
					if (does === "remove") {
						removed.add(name);
						await allocator.remove(name);
						continue;
					}
					try {
						const { address } = await allocator.create(deployment, name);
						given.set(name, (given.get(name) ?? new Set()).add(address));
					} catch (error) {
						// there are more who want one than there are
						if (!isFull(error)) throw error;
					}
				}
			}),
		);
		await scheduler.waitFor(work);
		for (const allocator of allocators) allocator.close();
		await agrees(judge, given, removed);
		await clear(judge);
	};
	try {
		await fc.assert(fc.asyncProperty(fc.scheduler(), lanes, one), {
			numRuns: 200,
			endOnFailure: true, // what it shrinks to leaves the next try its keys
		});
		t.pass();
	} finally {
		judge.close();
	}
});

function isFull(error: unknown): boolean {
	return (
		error instanceof HttpError &&
		error.status === 503 &&
		error.message.includes("no free address")
	);
}

/**
 * @param given addresses that creates of a name were answered
 * @param removed names that someone wanted gone at some time
 * @throws Error saying what is not as it should be
 */
async function agrees(
	{ store }: Allocator,
	given: Map<string, Set<string>>,
	removed: Set<string>,
): Promise<void> {
	const leases = await store.list<Lease>("arpanet/leases/");
	const records = await store.list<ContainerRecord>("arpanet/containers/");
	const networks = await store.list<NetworkRecord>("arpanet/networks/");
	const subnets = await store.list<string>("arpanet/subnets/");
	const must = (holds: boolean, what: string) => {
		if (!holds) throw new Error(what);
	};
	const leased = leases
		.filter(({ value }) => value.container)
		.map(({ key, value }) => `${value.container} ${key}`);
	const recorded = records.flatMap(({ key, value }) =>
		value.holds
			.filter((held) => held.startsWith("arpanet/leases/"))
			.map((held) => `${key.slice("arpanet/containers/".length)} ${held}`),
	);
	must(
		`${leased.sort()}` === `${recorded.sort()}`,
		`leased ${leased}, on record ${recorded}`,
	);
	for (const { value } of networks) {
		const { scope, subnet } = value;
		const own = leases.filter(({ key }) =>
			key.startsWith(`arpanet/leases/${scope}/`),
		);
		for (const { key } of own) {
			const address = key.slice(key.lastIndexOf("/") + 1);
			must(new Netmask(subnet).contains(address), `${key} not in ${subnet}`);
		}
		for (const other of networks) {
			const apart =
				other.value === value ||
				!new Netmask(subnet).contains(other.value.subnet.split("/")[0] ?? "");
			must(apart, `${scope} and ${other.key} overlap`);
		}
	}
	const granted = subnets.map(({ value }) => value).sort();
	const scopes = networks.map(({ value }) => value.scope).sort();
	must(`${granted}` === `${scopes}`, `granted ${granted}, made ${scopes}`);
	for (const [name, addresses] of given) {
		if (removed.has(name)) continue;
		const held = leased.filter((each) => each.startsWith(`${name} `));
		must(addresses.size === 1, `${name} was given ${[...addresses]}`);
		const [address = ""] = addresses;
		must(
			held.length === 1 && held[0]?.endsWith(`/${address}`) === true,
			`${name} was given ${address} and holds ${held}`,
		);
	}
}

/** Gives back every container. @throws Error naming what is left then */
async function clear({
	store,
	containers,
	networks,
}: Allocator): Promise<void> {
	const records = await store.list<ContainerRecord>("arpanet/containers/");
	for (const entry of records) await containers.giveBack(entry, undefined);
	// one that a create made before it found no address
	const made = await store.list<NetworkRecord>("arpanet/networks/");
	for (const { value } of made) await networks.retire(value);
	const left = (await store.keys("arpanet/")).filter(
		(key) => key !== "arpanet/subnets-serial",
	);
	if (left.length > 0) throw new Error(`left over: ${left}`);
}
