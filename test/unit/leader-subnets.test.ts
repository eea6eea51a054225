import test from "ava";
import { Subnets } from "../../agent/leader/subnets.ts";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import type { Operation } from "../../pipeline/state/operations.ts";
import { Repairs } from "../../pipeline/state/repairs.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;
let skew = 0;
const now = performance.now.bind(performance);

test.before(async () => {
	consul = await startConsul();
	performance.now = () => now() + skew; // what the leader waits for it need not wait for here
});
test.after.always(async () => {
	performance.now = now;
	await consul?.stop();
});

/** A leader on h1, where h1 lives. */
async function lead() {
	const allocator = new Allocator(consul.address);
	const { services, store, networks } = allocator;
	const subnets = new Subnets(services, networks, new Repairs(store, "h1"));
	const isThere = (name: string, lives: boolean): Operation[] => {
		const { record, alive } = hostKeys(name);
		const value = { name, address: "10.213.0.1", cpus: 2, memory: 2 ** 30 };
		const state = { load: 0, memory: 0, network: 0, address: value.address };
		return [
			{ verb: "set", key: record, value },
			lives
				? { verb: "set", key: alive, value: state }
				: { verb: "delete", key: alive },
		];
	};
	await store.commit(isThere("h1", true));
	return {
		allocator,
		store,
		isThere,
		/** Looks until everything that will be given back is. */
		look: async () => {
			await subnets.look();
			skew += 60_000;
			await subnets.look();
		},
	};
}

test.serial(
	"what a host has that is cut off is given to nobody until it is back and does not say so",
	async (t) => {
		const { allocator, store, isThere, look } = await lead();
		t.teardown(() => allocator.close());
		const keys = {
			"arpanet/leases/cut/10.32.9.7": { host: "h3", deployment: "cut" },
			"arpanet/gateways/cut/h3": "10.32.9.7",
			"arpanet/subnets/10.32.9.0-24": "cut",
		};
		await store.commit([
			...isThere("h3", false),
			...Object.entries(keys).map(([key, value]): Operation => {
				return { verb: "set", key, value };
			}),
		]);
		const left = async () => {
			const all = Object.keys(keys).map((key) => store.get(key));
			return (await Promise.all(all)).filter(Boolean).length;
		};
		await look();
		t.is(await left(), 3);
		await store.commit(isThere("h3", true));
		await look();
		t.is(await left(), 0);
	},
);

test.serial(
	"networks that are to stay do not keep the leader from those that are to go",
	async (t) => {
		const { allocator, store, look } = await lead();
		t.teardown(() => allocator.close());
		const { networks, docker } = allocator;
		const make = async (project: string) => {
			const labels = {
				"com.docker.compose.project": project,
				"com.docker.compose.network": "default",
			};
			const asked = { Name: `${project}_default`, Labels: labels };
			return (await networks.create(asked, {})) ?? asked;
		};
		for (let i = 0; i < 20; i++) {
			await docker.engine.createNetwork(await make(`a${i}`));
		}
		await make("zed");
		await look();
		t.is(await store.get("arpanet/networks/zed"), undefined);
		t.is((await store.keys("arpanet/networks/a")).length, 20);
	},
);
