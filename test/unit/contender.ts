/**
 * Competes for the lead and, while it has it, counts up `t/<host>` as fast as it can, one commit after the other.
 *
 *     node contender.js http://127.0.0.1:8500 h1
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Leadership } from "../../agent/leader/leadership.ts";
import { Deposed, FencedStore } from "../../pipeline/state/leader.ts";
import { Store } from "../../pipeline/state/store.ts";
import { silent } from "./doubles.ts";

const [address = "", host = ""] = process.argv.slice(2);
const store = new Store({ address });
const fenced = new FencedStore({ address });
const leadership = new Leadership(store, fenced, host, silent);
let count = 0;

await leadership.run(new AbortController().signal, async (signal) => {
	while (!signal.aborted) {
		try {
			count++;
			await fenced.commit([{ verb: "set", key: `t/${host}`, value: count }]);
			console.log("written");
		} catch (error) {
			console.log(error instanceof Deposed ? "deposed" : "failed");
			await sleep(100);
		}
	}
});
