import test from "ava";
import { type FakeEngine, startHosts } from "./hosts.ts";

test("a container that is made while it is looked for is not renamed past the look at its new name", async (t) => {
	let looks = 0;
	const two: FakeEngine = (_, { pathname }) => {
		if (pathname !== "/containers/web/json" || looks++ === 0) return undefined;
		return { Id: "a".repeat(64), Name: "/web", Config: { Labels: {} } };
	};
	const { route } = await startHosts(t, { one: () => undefined, two });
	const rename = () => route("POST", "/containers/web/rename?name=old");
	await t.throwsAsync(rename(), { message: "No such container: web" });
	t.is(await rename(), "two");
});
