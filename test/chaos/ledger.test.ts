import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import type { Container, Picture } from "./checker/look.ts";
import { Ledger, type State } from "./ledger.ts";

/** What is there at last of the container that is asked for. */
function picture(state: State): Picture {
	const running = state === "running";
	const container = { name: "abc_web_1", running } as Container;
	return {
		...{ containers: state === "gone" ? [] : [container] },
		...{ networks: [], keys: new Map(), names: new Map(), catalog: new Map() },
	};
}

const rows: [status: number, after: State, last: State, says?: string][] = [
	[204, "running", "running"],
	[304, "running", "running"],
	[204, "running", "stopped", "running by the last answer, and is stopped"],
	[204, "running", "gone", "running by the last answer, and is gone"],
	[204, "stopped", "running", "stopped by the last answer, and is running"],
	[204, "gone", "running", "gone by the last answer, and is running"],
	[404, "stopped", "gone"],
	[404, "stopped", "stopped", "gone by the last answer, and is stopped"],
	[409, "stopped", "gone"],
	[502, "running", "gone"],
];
for (const [status, after, last, says] of rows) {
	test(`${status} to what leaves it ${after}, and at last it is ${last}`, async (t) => {
		const ledger = new Ledger();
		await ledger.note("abc_web_1", after, async () => ({ status }));
		const wrong = says ? [`7: abc_web_1 was ${says}`] : [];
		t.deepEqual(ledger.wrong(picture(last)), wrong);
	});
}

test("nothing is known of two requests at once, until the next one", async (t) => {
	const ledger = new Ledger();
	const note = (ms: number) =>
		ledger.note("abc_web_1", "running", async () => {
			await sleep(ms);
			return { status: 204 };
		});
	await Promise.all([note(10), note(20)]);
	t.deepEqual(ledger.wrong(picture("gone")), []);
	await note(0);
	t.is(ledger.wrong(picture("gone")).length, 1);
});

test("a request without an answer may be done at any time", async (t) => {
	const ledger = new Ledger();
	const lost = ledger.note("abc_web_1", "gone", () => Promise.reject(Error()));
	await t.throwsAsync(lost);
	await ledger.note("abc_web_1", "running", async () => ({ status: 204 }));
	t.deepEqual(ledger.wrong(picture("gone")), []);
});
