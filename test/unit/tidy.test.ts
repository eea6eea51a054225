import { setTimeout } from "node:timers/promises";
import test from "ava";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

test("a network that was removed past arpanet is forgotten where it was not made, and comes back with a create", async (t) => {
	const consul = await startConsul();
	const now = performance.now.bind(performance);
	let skew = 0;
	performance.now = () => now() + skew; // what is waited for need not be waited for here
	const hosts = ["h1", "h2"].map(
		(host) =>
			new Allocator(consul.address, {
				plugins: ["deployment-id", "placement", "dhcp", "network"],
				host,
			}),
	) as [Allocator, Allocator];
	t.teardown(async () => {
		performance.now = now;
		for (const host of hosts) host.close();
		await consul.stop();
	});
	for (const [i, { services, docker, create }] of hosts.entries()) {
		const name = `gone_web_${i}`;
		const { body } = await create.call(hosts[i], "gone", name);
		t.is(
			body.Labels?.["arpanet.host"] ?? services.host.name,
			services.host.name,
		);
		docker.create(name, body);
	}
	const [one, two] = hosts;
	const { store } = one;
	const bridges = () => store.keys("arpanet/gateways/gone/");
	t.is((await bridges()).length, 2);
	for (const { docker } of hosts) docker.networks.delete("gone_default");
	for (let look = 0; look < 2; look++) {
		for (const { docker, reconcile } of hosts) {
			await reconcile.sweep(await docker.engine.listContainers("arpanet.host"));
		}
		skew += 60_000;
	}
	t.false(one.docker.networks.has("gone_default")); // someone wants it gone
	t.deepEqual(await bridges(), ["arpanet/gateways/gone/h1"]);
	await setTimeout(2_100); // so long a network is believed to be there that was just made
	await two.create("gone", "gone_web_2");
	t.true(two.docker.networks.has("gone_default"));
	t.is((await bridges()).length, 2);
});
