import { fileURLToPath } from "node:url";
import test from "ava";
import { Netmask } from "netmask";
import { runOk } from "../../examples/images/tools.ts";
import type { HttpError } from "../../pipeline/errors.ts";
import type { Lease } from "../../pipeline/state/leases.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator, type AllocatorOptions } from "./dhcp.ts";

let consul: TestConsul;
const allocators: Allocator[] = [];

test.before(async () => {
	consul = await startConsul();
});
test.after.always(async () => {
	for (const allocator of allocators) allocator.close();
	await consul?.stop();
});

function newAllocator(options?: AllocatorOptions): Allocator {
	const allocator = new Allocator(consul.address, {
		pool: "10.80.0.0/12",
		...options,
	});
	allocators.push(allocator);
	return allocator;
}

/** Who holds which address of a network; the host's own is left out. */
async function leases(scope: string): Promise<Record<string, string>> {
	const prefix = `arpanet/leases/${scope}/`;
	const entries = await newAllocator().store.list<Lease>(prefix);
	return Object.fromEntries(
		entries
			.filter(({ value }) => value.container)
			.map(({ key, value }) => [
				key.slice(prefix.length),
				value.container as string,
			]),
	);
}

test.serial(
	"a container gets an address, and Consul says who holds it",
	async (t) => {
		const allocator = newAllocator();
		const { address, body } = await allocator.create("first", "web", {
			Labels: { "arpanet.service": "web" },
		});
		t.deepEqual(await leases("first"), { [address]: "web" });
		const entry = await allocator.store.get(`arpanet/leases/first/${address}`);
		t.deepEqual(entry?.value, {
			host: "h1",
			deployment: "first",
			container: "web",
			service: "web",
		});
		t.like(body.Labels, {
			"arpanet.deployment": "first",
			"arpanet.service": "web",
			"arpanet.host": "h1",
			"arpanet.network": "first",
			"arpanet.address": address,
		});
	},
);

test.serial(
	"three processes at once, some giving back: no double address and none lost",
	async (t) => {
		const program = fileURLToPath(new URL("allocator.js", import.meta.url));
		const outputs = await Promise.all(
			["a", "b", "c"].map((name) =>
				runOk(process.execPath, [program, consul.address, "crowd", "60", name]),
			),
		);
		const held = outputs.map(
			(text) => JSON.parse(text) as Record<string, string>,
		);
		const all = Object.assign({}, ...held);
		t.is(Object.keys(all).length, 120);
		t.deepEqual(await leases("crowd"), all);
	},
);

test.serial(
	"a subnet is filled to the last address by three at once, each once",
	async (t) => {
		const three = [1, 2, 3].map(() => newAllocator({ size: 30 }));
		const results = await Promise.allSettled(
			Array.from({ length: 36 }, (_, i) =>
				(three[i % 3] as Allocator).create("full", `full${i}`),
			),
		);
		const refused = results.flatMap((result) =>
			result.status === "rejected" ? [result.reason as HttpError] : [],
		);
		t.is(refused.length, 36 - 29);
		for (const { status, message } of refused) {
			t.is(status, 503);
			t.regex(
				message,
				/^dhcp: no free address in [\d.]+\/27 \(29 of 29 leased\); remove containers/,
			);
		}
		t.is(Object.keys(await leases("full")).length, 29);
	},
);

test.serial(
	"an exhausted subnet says so in these words, and leaves nothing behind",
	async (t) => {
		const allocator = newAllocator({ pool: "10.32.1.0/24", size: 13 });
		for (let i = 0; i < 13; i++) await allocator.create("small", `small${i}`);
		const before = await allocator.store.keys("arpanet/");
		const error = await t.throwsAsync<HttpError>(
			allocator.create("small", "more"),
		);
		t.is(error.status, 503);
		t.is(
			error.message,
			"dhcp: no free address in 10.32.1.0/28 (13 of 13 leased); remove containers, or make the deployment anew with a larger arpanet.size",
		);
		t.deepEqual(await allocator.store.keys("arpanet/"), before);
	},
);

test.serial(
	"an address that was given back can be had again when all others are leased",
	async (t) => {
		const [one, other] = [newAllocator({ size: 5 }), newAllocator({ size: 5 })];
		for (let i = 0; i < 5; i++) await one.create("again", `again${i}`);
		const freed = Object.entries(await leases("again")).find(
			([, name]) => name === "again2",
		)?.[0];
		await other.remove("again2");
		t.is((await one.create("again", "new")).address, freed as string);
	},
);

test.serial(
	"a pool without room says so, and leaves nothing behind",
	async (t) => {
		const pool = "10.200.0.0/27";
		const allocator = newAllocator({ pool, size: 13 });
		await allocator.create("pool-a", "pool-a");
		await allocator.create("pool-b", "pool-b");
		const before = await allocator.store.keys("arpanet/");
		const error = await t.throwsAsync<HttpError>(
			allocator.create("pool-c", "pool-c"),
		);
		t.is(error.status, 503);
		t.regex(
			error.message,
			/^dhcp: no free subnet for 13 addresses in 10\.200\.0\.0\/27 \(\d+ in use\); widen "pool", or remove deployments$/,
		);
		t.deepEqual(await allocator.store.keys("arpanet/"), before);
	},
);

test.serial(
	"many deployments made at once by three get subnets that do not overlap",
	async (t) => {
		const three = [1, 2, 3].map(() => newAllocator({ pool: "10.64.0.0/12" }));
		await Promise.all(
			Array.from({ length: 24 }, (_, i) =>
				(three[i % 3] as Allocator).create(`many${i % 12}`, `many${i}`, {
					Labels: { "arpanet.size": `${2 ** (2 + (i % 6))}` },
				}),
			),
		);
		const networks = await newAllocator().services.networks.list();
		const subnets = networks.map(({ value }) => new Netmask(value.subnet));
		t.is(
			networks.filter(({ value }) => value.deployment.startsWith("many"))
				.length,
			12,
		);
		for (const [i, a] of subnets.entries()) {
			for (const b of subnets.slice(i + 1)) {
				t.false(a.contains(b.base) || b.contains(a.base), `${a} and ${b}`);
			}
		}
	},
);

test.serial("a create that is tried again gets the same address", async (t) => {
	const [one, other] = [newAllocator(), newAllocator()];
	const first = await one.create("retry", "retry_web_1");
	const second = await other.create("retry", "retry_web_1");
	t.is(second.address, first.address);
	t.deepEqual(await leases("retry"), { [first.address]: "retry_web_1" });
});

test.serial(
	"two creates of one name at once share the address, and one that fails takes it from neither",
	async (t) => {
		const [one, other] = [newAllocator(), newAllocator()];
		const [a, b] = await Promise.all([
			one.create("twins", "twin"),
			other.create("twins", "twin"),
		]);
		t.is(a.address, b.address);
		one.docker.create("twin", a.body);
		other.docker.containers.clear(); // the engine that refused the second
		await one.remove("twin");
		t.deepEqual(await leases("twins"), { [a.address]: "twin" });
	},
);

test.serial(
	"a name that a living container has is refused in Docker's words, and the container keeps its lease",
	async (t) => {
		const allocator = newAllocator();
		const { address, body } = await allocator.create("named", "named_web_1");
		const id = allocator.docker.create("named_web_1", body);
		const error = await t.throwsAsync<HttpError>(
			allocator.create("named", "named_web_1"),
		);
		t.is(error.status, 409);
		t.is(
			error.message,
			`Conflict. The container name "/named_web_1" is already in use by container "${id}". You have to remove (or rename) that container to be able to reuse that name.`,
		);
		await allocator.remove("named_web_1"); // the post-hook of the create that was refused
		t.deepEqual(await leases("named"), { [address]: "named_web_1" });
	},
);

test.serial(
	"a name stays its container's though someone deletes its record, and is free if there is no container",
	async (t) => {
		const allocator = newAllocator();
		const { body } = await allocator.create("forgot", "forgot_web_1");
		allocator.docker.create("forgot_web_1", body);
		await allocator.create("forgot", "forgot_web_2"); // and Docker was never asked
		for (const name of ["forgot_web_1", "forgot_web_2"]) {
			const key = `arpanet/containers/${name}`;
			await allocator.store.commit([{ verb: "delete", key }]);
		}
		const error = await t.throwsAsync<HttpError>(
			allocator.create("forgot", "forgot_web_1"),
		);
		t.is(error.status, 409);
		t.regex(error.message, /^Conflict. The container name "\/forgot_web_1" is/);
		const { address } = await allocator.create("forgot", "forgot_web_2");
		t.is((await leases("forgot"))[address], "forgot_web_2");
	},
);

test.serial(
	"a create that Docker refused gives everything back, its network too",
	async (t) => {
		const allocator = newAllocator();
		const before = await allocator.store.keys("arpanet/");
		await allocator.create("gone", "gone_web_1");
		await allocator.remove("gone_web_1");
		t.deepEqual(await allocator.store.keys("arpanet/"), before);
	},
);

test.serial(
	"a create that a later plugin refuses leaves nothing on record but the empty network",
	async (t) => {
		const refusing = {
			name: "refusing",
			setup: () => ({
				create: () => {
					throw new Error("no");
				},
			}),
		};
		const allocator = newAllocator({ more: [refusing] });
		await t.throwsAsync(allocator.create("refused", "refused_web_1"), {
			message: "plugin refusing: create failed: no",
		});
		t.deepEqual(await leases("refused"), {});
		t.is(await allocator.services.containers.get("refused_web_1"), undefined);
	},
);

test.serial(
	"an address that the user fixes is leased, or refused with its holder",
	async (t) => {
		const allocator = newAllocator({
			plugins: ["deployment-id", "placement", "dhcp", "network"],
			driver: "weave",
		});
		const fixed = (name: string, cidr: string) =>
			allocator.create("fixed", name, { Env: [`WEAVE_CIDR=${cidr}`] });
		const { address, body } = await fixed("fixed-a", "10.222.7.9/24");
		t.is(address, "10.222.7.9");
		t.deepEqual(body.Env, ["WEAVE_CIDR=10.222.7.9/24"]);
		const taken = await t.throwsAsync<HttpError>(
			fixed("fixed-b", "10.222.7.9/24"),
		);
		t.is(taken.status, 409);
		t.is(
			taken.message,
			"dhcp: 10.222.7.9 is leased to fixed-a; ask for another address or for none",
		);
		const outside = await t.throwsAsync<HttpError>(
			fixed("fixed-c", "10.222.8.9/24"),
		);
		t.is(outside.status, 400);
		t.is(
			outside.message,
			"dhcp: 10.222.8.9 is not in 10.222.7.0/24, the subnet of fixed_default; ask for one in it, or for none",
		);
		t.deepEqual(await leases("fixed"), { "10.222.7.9": "fixed-a" });
	},
);

test.serial(
	"weave gets its address in WEAVE_CIDR, and nothing else of the body changes but labels",
	async (t) => {
		const allocator = newAllocator({
			plugins: ["deployment-id", "placement", "dhcp", "network"],
			driver: "weave",
		});
		const given = {
			Image: "x",
			Env: ["A=1"],
			HostConfig: { NetworkMode: "default", Memory: 7 },
		};
		const { address, body } = await allocator.create(
			"weave",
			"weave_web_1",
			given,
		);
		const { Labels, ...rest } = body;
		t.deepEqual(rest, { ...given, Env: ["A=1", `WEAVE_CIDR=${address}/24`] });
		t.is(Labels?.["arpanet.address"], address);
	},
);

for (const [size, why] of [
	["0", "nothing"],
	["65535", "more than there can be"],
	["many", "no number"],
	["1.5", "a part of one"],
	["", "empty"],
]) {
	test.serial(`a network of ${why} (${size}) is refused`, async (t) => {
		const error = await t.throwsAsync<HttpError>(
			newAllocator().create("sized", "sized", {
				Labels: { "arpanet.size": size as string },
			}),
		);
		t.is(error.status, 400);
		t.is(
			error.message,
			`dhcp: label arpanet.size=${size} is no number of addresses; use 1 to 65534`,
		);
	});
}

test.serial(
	"a deployment cannot take the name of another's network",
	async (t) => {
		const allocator = newAllocator();
		await allocator.networks.create(
			{
				Name: "app_back",
				Labels: {
					"com.docker.compose.project": "app",
					"com.docker.compose.network": "back",
				},
			},
			{},
		);
		const error = await t.throwsAsync<HttpError>(
			allocator.create("app-back", "thief"),
		);
		t.is(error.status, 409);
		t.is(
			error.message,
			"dhcp: the name app-back belongs to network app_back of deployment app; choose another deployment id",
		);
	},
);
