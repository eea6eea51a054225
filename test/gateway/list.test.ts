import test from "ava";
import { eventually } from "./helpers.ts";
import {
	type FakeEngine,
	fakeEngine,
	type HostsOfTest,
	startHosts,
} from "./hosts.ts";

/** An engine with one container, that was made and not started. */
function withContainer(name: string): FakeEngine {
	const id = name.padEnd(64, "0");
	return (_, { pathname }) => {
		if (pathname.endsWith("/events")) return "";
		if (pathname.includes(id)) {
			const never = "0001-01-01T00:00:00Z";
			return {
				Id: id,
				Name: `/${name}`,
				Created: "2026-01-01T00:00:00.1Z",
				State: { Status: "created", StartedAt: never, FinishedAt: never },
			};
		}
		const row = {
			Id: id,
			Names: [`/${name}`],
			Created: 1767225600,
			Ports: [],
			Labels: {},
			State: "created",
			Status: "Created",
			Mounts: [],
		};
		return `${JSON.stringify([row])}\n`;
	};
}

async function statuses({ route }: HostsOfTest) {
	const rows = await route("GET", "/v1.41/containers/json?all=1");
	return (rows as { Status: string }[]).map(({ Status }) => Status);
}

test("the containers of a host that comes back at another address are listed", async (t) => {
	const engines = { one: withContainer("a"), two: withContainer("b") };
	const hosts = await startHosts(t, engines);
	const all = ["Created", "Created"];
	t.deepEqual(await statuses(hosts), all);

	const moved = await fakeEngine(t, engines.two);
	hosts.close.two?.();
	Object.assign(hosts.known.two ?? {}, { engine: moved.url });
	await eventually(async () => `${await statuses(hosts)}` === `${all}`);
	t.pass();
});
