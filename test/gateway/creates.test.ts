import test from "ava";
import { type FakeEngine, startHosts } from "./hosts.ts";

const nothing: FakeEngine = () => undefined;

for (const names of [["one"], ["one", "two"]]) {
	test(`the record of a create is kept until its engine has answered: hosts ${names}`, async (t) => {
		const engines = Object.fromEntries(names.map((name) => [name, nothing]));
		const { answered, route, services } = await startHosts(t, engines);
		const kept: string[] = [];
		services.containers.keep = (name) => {
			kept.push(name);
			const end = () => kept.pop();
			return { end, mustBeThere: async () => {} };
		};
		const create = (Labels: object) =>
			route(
				"POST",
				"/containers/create?name=abc_web_1",
				JSON.stringify({ Labels }),
			);
		t.is(await create({ "arpanet.host": "one" }), "one");
		t.deepEqual(kept, ["abc_web_1"]);
		answered();
		t.deepEqual(kept, []);
		t.is(await create({}), "one"); // none of ours
		t.deepEqual(kept, []);
	});
}
