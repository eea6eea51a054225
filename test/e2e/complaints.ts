import test from "ava";
import type { Arpanet } from "../lab/arpanet.ts";

/**
 * A test of this file that fails shows what arpanets have logged since it began.
 * @param arpanets those that run; asked anew for each test, since some are started again
 * @param lines which of the log: warnings and errors unless told
 */
export function showComplaints(
	arpanets: () => Iterable<Arpanet>,
	lines = /"level":[45]0/,
): void {
	/** How much each had logged when the test began. */
	let before = new Map<Arpanet, number>();
	test.beforeEach(() => {
		before = new Map([...arpanets()].map((each) => [each, each.log().length]));
	});
	test.afterEach.always((t) => {
		if (t.passed) return;
		for (const each of arpanets()) {
			const since = each.log().slice(before.get(each)).split("\n");
			const { exitCode, signalCode } = each.process;
			const end = exitCode ?? signalCode;
			if (end !== null) t.log(`${each.config}: arpanet ended (${end})`);
			// what ends it by a fault is no line of the log
			const told = since.filter((line) => end !== null || lines.test(line));
			t.log(
				told
					.map((line) => line.slice(0, 300))
					.slice(-8)
					.join("\n"),
			);
		}
	});
}
