import test from "ava";
import { readCluster } from "../../cli/deployments.ts";
import type { Facts } from "../../pipeline/plugin.ts";
import { Containers } from "../../pipeline/state/containers.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul } from "./consul.ts";

test("a copy's state is its own, and not that of a container which stands for nothing any more", async (t) => {
	const consul = await startConsul();
	t.teardown(() => consul.stop());
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());
	const containers = new Containers(store);
	const moved = { network: "abc", address: "10.32.0.2" };
	for (const [name, facts] of Object.entries<Facts>({
		abc_a_1: { host: "h1", index: 1 },
		abc_b_1: { host: "h1", index: 2 },
		abc_w_1: { host: "h2", index: 3, ...moved },
		".request": { host: "h1", index: 4, network: "abc", address: "10.32.0.3" },
	})) {
		const value = {
			facts: { deployment: "abc", service: "all", ...facts },
			...{ holds: [], attempts: 1 },
		};
		const key = containers.key(name);
		await store.commit([{ verb: "create", key, value }]);
	}
	const seen = (host: string, name: string, Status: string, address = "") => ({
		...{ Id: name, Names: [`/${name}`], State: "", Status },
		Labels: {
			"arpanet.host": host,
			...(address && { "arpanet.network": "abc", "arpanet.address": address }),
		},
	});
	const [deployment] = await readCluster(
		store,
		[
			seen("h1", "abc_a_1", "Up 3 minutes"),
			seen("h1", "abc_w_1.superseded-x", "Exited (137)", moved.address),
			seen("h1", "wild_ritchie", "Created", "10.32.0.3"),
			seen("h2", "abc_w_1", "Up 1 minute", moved.address),
		],
		"service.consul",
	);
	t.deepEqual(
		deployment?.copies.map(({ container, state }) => [container, state]),
		[
			["abc_a_1", "Up 3 minutes"],
			["abc_b_1", "unknown"],
			["abc_w_1", "Up 1 minute"],
			[".request", "Created"],
		],
	);
});
