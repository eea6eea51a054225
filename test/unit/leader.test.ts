import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import test from "ava";
import {
	Deposed,
	FencedStore,
	LEADER,
	type Leader,
	readLeader,
} from "../../pipeline/state/leader.ts";
import { Store } from "../../pipeline/state/store.ts";
import { eventually, until } from "../e2e/stage.ts";
import { startConsul, type TestConsul } from "./consul.ts";

const PROGRAM = fileURLToPath(new URL("contender.js", import.meta.url));
let consul: TestConsul;
let store: Store;

test.before(async () => {
	consul = await startConsul();
	store = new Store({ address: consul.address });
});
test.after.always(async () => {
	store?.close();
	await consul?.stop();
});

async function session(): Promise<string> {
	const { ID } = (await store.ask(() =>
		store.consul.session.create({
			ttl: "10s",
			behavior: "delete",
			lockdelay: "0s",
		} as never),
	)) as { ID: string };
	return ID;
}

test.serial(
	"only who has the lock writes, and what is refused writes nothing",
	async (t) => {
		const fenced = new FencedStore({ address: consul.address });
		t.teardown(() => fenced.close());
		const write = (key: string) =>
			fenced.commit([{ verb: "create", key, value: 1 }]);
		await t.throwsAsync(write("t/never"), { instanceOf: Deposed });

		const first = await session();
		const value: Leader = { host: "h1", since: "", session: first };
		await store.commit([{ verb: "lock", key: LEADER, value, session: first }]);
		fenced.session = first;
		await write("t/first");
		await t.throwsAsync(write("t/first"), { name: "Conflict" }); // lost, and still leads

		const second = await session();
		const lock = { verb: "lock", key: LEADER, value, session: second } as const;
		await t.throwsAsync(store.commit([lock]), { name: "Conflict" });
		await store.ask(() => store.consul.session.destroy(first));
		await t.throwsAsync(write("t/vacant"), { instanceOf: Deposed });
		await store.commit([lock]);
		await t.throwsAsync(write("t/late"), { instanceOf: Deposed });
		t.deepEqual(await store.keys("t/"), ["t/first"]);
		await store.ask(() => store.consul.session.destroy(second));
	},
);

/** A process that competes and, while it leads, writes as fast as it can. */
function contend(host: string): { child: ChildProcess; said: string[] } {
	const child = spawn(process.execPath, [PROGRAM, consul.address, host], {
		stdio: ["ignore", "pipe", "inherit"],
	});
	const said: string[] = [];
	const lines = createInterface({
		input: child.stdout as NodeJS.ReadableStream,
	});
	lines.on("line", (line) => said.push(line));
	return { child, said };
}

async function leads(host: string): Promise<void> {
	await until(
		() => readLeader(store),
		(entry) => entry?.value.host === host,
		30,
	);
}

test.serial(
	"a leader that sleeps through the end of its session is refused when it wakes, in the middle of its work",
	async (t) => {
		const a = contend("a");
		t.teardown(() => a.child.kill("SIGKILL"));
		await leads("a");
		const b = contend("b");
		t.teardown(() => b.child.kill("SIGKILL"));
		await until(
			async () => a.said.length,
			(count) => count > 3,
		);

		a.child.kill("SIGSTOP");
		const before = (await readLeader(store))?.value.session as string;
		await store.ask(() => store.consul.session.destroy(before)); // as Consul does 20 s later
		await leads("b");
		await until(
			async () => b.said.length,
			(count) => count > 3,
		);
		const mark = a.said.length;
		const [written = 0] = await writes("a");
		a.child.kill("SIGCONT");
		const late = await eventually(
			async () => a.said.slice(mark),
			(said) => said.includes("deposed"),
		);
		t.true(late.includes("deposed"), late.join());
		t.deepEqual(await writes("a"), [written]);
		t.is((await readLeader(store))?.value.host, "b");
	},
);

test.serial(
	"Consul forgets everything, and somebody leads again",
	async (t) => {
		await leaderless();
		const a = contend("a");
		t.teardown(() => a.child.kill("SIGKILL"));
		await leads("a");
		await consul.stop();
		await consul.start();
		await leads("a");
		t.is((await readLeader(store))?.value.host, "a");
	},
);

/** Ends the session of whoever led: it was killed. */
async function leaderless(): Promise<void> {
	const last = (await readLeader(store))?.value.session;
	if (last) await store.ask(() => store.consul.session.destroy(last));
}

/** How often a contender has written, as Consul has it. */
async function writes(host: string): Promise<number[]> {
	const entry = await store.get<number>(`t/${host}`);
	return entry ? [entry.value] : [];
}
