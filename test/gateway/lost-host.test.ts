import test, { type ExecutionContext } from "ava";
import { type FakeEngine, startHosts } from "./hosts.ts";

const CONTAINER = "c".repeat(64);
const EXEC = "e".repeat(64);

/** Three hosts, of which the second has a container and an exec that the first one's gateway has learnt of. */
async function setUp(t: ExecutionContext) {
	const nothing: FakeEngine = () => undefined;
	const two: FakeEngine = (_, { pathname }) => {
		if (pathname.includes(EXEC)) return { ID: EXEC };
		return pathname.includes(CONTAINER) ? { Id: CONTAINER } : undefined;
	};
	const hosts = await startHosts(t, { one: nothing, two, three: nothing });
	const stop = () => hosts.route("POST", `/containers/${CONTAINER}/stop`);
	const resize = () => hosts.route("POST", `/exec/${EXEC}/resize`);
	t.is(await stop(), "two");
	t.is(await resize(), "two");
	return { ...hosts, stop, resize };
}

test("of a container that is known by its id is said at once that its host is lost", async (t) => {
	const { known, stop, resize } = await setUp(t);
	Object.assign(known.two ?? {}, { state: undefined });
	await t.throwsAsync(stop(), {
		message: `container ${CONTAINER} is on host two, which is lost; start arpanet there, or say arpanet host rm two if it will not come back`,
	});
	t.is(await resize(), "one"); // says that there is none
	Object.assign(known.two ?? {}, { state: { load: 0, address: "" } });
	t.is(await stop(), "two");
});

test("what was on a host that was removed is not there any more", async (t) => {
	const { known, stop, resize } = await setUp(t);
	delete known.two;
	t.is(await stop(), "one");
	t.is(await resize(), "one");
});
