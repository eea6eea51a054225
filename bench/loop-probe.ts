import { writeFileSync } from "node:fs";
import { monitorEventLoopDelay } from "node:perf_hooks";

/**
 * Loaded into arpanet by `--import`: on SIGUSR2 it writes how late its event loop was since the last time (p99, in
 * milliseconds) to the file that LOOP_PROBE names.
 */
const file = process.env.LOOP_PROBE;
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
process.on("SIGUSR2", () => {
	// the histogram holds whole intervals: a loop that is never late has its resolution
	if (file) writeFileSync(file, String(delay.percentile(99) / 1e6 - 1));
	delay.reset();
});
