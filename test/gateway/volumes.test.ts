import test from "ava";
import { type FakeEngine, startHosts, storeOf } from "./hosts.ts";

const withVolume: FakeEngine = () => ({ Name: "data" });

test("a volume is not removed from where it was left while its host does not answer", async (t) => {
	const engines = { one: withVolume, two: withVolume, three: withVolume };
	const store = storeOf({ "arpanet/volumes/data": { host: "two" } });
	const { asked, close, known, route } = await startHosts(t, engines, store);
	const remove = () => route("DELETE", "/volumes/data");
	close.two?.();
	t.like(await t.throwsAsync(remove()), {
		status: 502,
		message:
			"volume data is on host two, which does not answer; try again, and look at arpanet hosts",
	});
	t.false(asked.three?.includes("DELETE /volumes/data"));
	Object.assign(known.two ?? {}, { state: undefined });
	t.is(await remove(), "one"); // a lost host keeps its own
});

test("a volume is removed while a host that never had it does not answer", async (t) => {
	const engines = { one: withVolume, two: withVolume };
	const store = storeOf({ "arpanet/volumes/data": { host: "one" } });
	const { close, route } = await startHosts(t, engines, store);
	close.two?.();
	t.is(await route("DELETE", "/volumes/data"), "one");
});
