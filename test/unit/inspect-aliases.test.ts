import test from "ava";
import { showAliases } from "../../gateway/treatments/aliases.ts";
import type { ContainerInspect } from "../../pipeline/docker.ts";
import { ALIASES } from "../../pipeline/state/aliases.ts";
import type { Store } from "../../pipeline/state/store.ts";

test("inspect shows aliases, and at once, while Consul's servers have no leader", async (t) => {
	const container = {
		Config: { Labels: { "arpanet.deployment": "abc" } },
		NetworkSettings: { Networks: { abc_default: { IPAddress: "10.32.0.2" } } },
	} as unknown as ContainerInspect;
	const key = `${ALIASES}abc/cache/10.32.0.2`;
	const value = { service: "redis", address: "10.32.0.2", container: "redis" };
	const store = {
		list: (_: string, stale: boolean) =>
			stale
				? Promise.resolve([{ key, value, index: 1 }])
				: new Promise(() => {}),
	} as unknown as Store;
	await showAliases(container, store);
	t.like(container.NetworkSettings.Networks.abc_default, {
		Aliases: ["cache"],
	});
});
