/**
 * Loaded into arpanet by `--import`: on SIGUSR2 it collects what is garbage. How much of that a process has at a moment is V8's
 * choice and varies by half; what is left afterwards is held.
 */
process.on("SIGUSR2", () => {
	globalThis.gc?.();
});
