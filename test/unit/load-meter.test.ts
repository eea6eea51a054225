import { availableParallelism } from "node:os";
import test from "ava";
import { LoadMeter } from "../../agent/load-meter.ts";

test("what a host does is seen: a busy processor, memory in use, nothing on loopback", async (t) => {
	const meter = new LoadMeter("127.0.0.1");
	const end = performance.now() + 300;
	while (performance.now() < end); // busy
	const { load, memory, network } = await meter.look();
	t.true(load >= 0.5 / availableParallelism() && load <= 1, `${load}`);
	t.true(memory > 0 && memory < 1, `${memory}`);
	t.true(network >= 0 && network < 1, `${network}`);
});
