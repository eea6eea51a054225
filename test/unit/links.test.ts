import test from "ava";
import * as fc from "fast-check";
import { HttpError } from "../../pipeline/errors.ts";
import type { Services } from "../../pipeline/plugin.ts";
import { unmark } from "../../pipeline/state/aliases.ts";
import { Conflict, type Operation } from "../../pipeline/state/operations.ts";
import { Use } from "../../pipeline/state/use.ts";
import type { Asked } from "../../plugins/links/asked.ts";
import { mustMeanOne } from "../../plugins/links/meaning.ts";
import links from "../../plugins/links.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { createContext } from "./doubles.ts";

/** A deployment in which nothing runs yet: what a link means is in its own words. */
const nothing = {
	store: { list: async () => [] },
	networks: { list: async () => [] },
	containers: { get: async () => undefined, list: async () => [] },
	slots: { use: () => new Use() },
	locator: { find: async () => undefined },
} as unknown as Services;
const hooks = links.setup({}, nothing, []);

/** What a container of abc holds that asks for a link. */
async function heldFor(
	link: string,
	by = hooks,
): Promise<Record<string, unknown>> {
	const held: Record<string, unknown> = {};
	const context = createContext(
		{ HostConfig: { Links: [link] } },
		{
			facts: { deployment: "abc", network: "abc", address: "10.32.0.5" },
			hold: (key, value) => {
				held[key] = value;
			},
		},
	);
	await by.create?.(context);
	if (context.body.HostConfig?.Links) throw new Error("Docker's own is left");
	return held;
}

test("a link to a copy gives all copies of its service the alias, unless they have that name anyway", async (t) => {
	const service = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?$/);
	const alias = fc.stringMatching(/^[a-z]([a-z0-9_-]{0,20}[a-z0-9])?$/);
	await fc.assert(
		fc.asyncProperty(
			...[service, fc.nat(), fc.constantFrom("_", "-"), alias],
			fc.boolean(),
			async (name, number, separator, called, slash) => {
				const copy = `abc${separator}${name}${separator}${number}`;
				const held = await heldFor(`${slash ? "/" : ""}${copy}:${called}`);
				const usual =
					[name, copy].includes(called) ||
					/^_\d+$/.test(called.replace(name, ""));
				const key = `arpanet/aliases/abc/${called}/10.32.0.5`;
				const value = { service: name, container: "record" };
				t.deepEqual(
					held,
					usual && called.startsWith(name) ? {} : { [key]: value },
				);
			},
		),
	);
});

test("whatever else is written as a link is an error for the user, or a name that DNS can answer for", async (t) => {
	const part = fc.oneof(fc.string(), fc.constantFrom("abc_web_1", "abc-db-2"));
	await fc.assert(
		fc.asyncProperty(part, fc.option(part), async (target, called) => {
			const link = called === null ? target : `${target}:${called}`;
			try {
				for (const key of Object.keys(await heldFor(link))) {
					t.regex(
						key,
						/^arpanet\/aliases\/abc\/[a-z0-9_-]{1,63}\/10\.32\.0\.5$/i,
					);
				}
			} catch (error) {
				t.true(error instanceof HttpError, String(error));
				t.is((error as HttpError).status, 400);
				t.regex((error as HttpError).message, /^links: /);
			}
		}),
	);
});

test("a link may name its container by id, on whatever host that is", async (t) => {
	const Labels = { "arpanet.deployment": "abc", "arpanet.service": "redis" };
	const container = { Name: "/cache", Config: { Labels } };
	const found = { host: "h2", container };
	const locator = {
		find: async (ref: string) => (ref === "8be23c0912aa" ? found : undefined),
	};
	const services = { ...nothing, locator } as unknown as Services;
	t.deepEqual(
		await heldFor("8be23c0912aa:cache", links.setup({}, services, [])),
		{
			"arpanet/aliases/abc/cache/10.32.0.5": {
				service: "redis",
				container: "record",
			},
		},
	);
});

test("a link that leaves the deployment gives no name: by its own the other is found where both are in a network", async (t) => {
	const of = (Labels: Record<string, string>) => ({
		container: { Name: "/other", Config: { Labels } },
	});
	const others: Record<string, unknown> = {
		xyz_db_1: of({ "arpanet.deployment": "xyz", "arpanet.service": "db" }),
		plain: of({}),
	};
	const locator = { find: async (ref: string) => others[ref] };
	const by = links.setup({}, { ...nothing, locator } as never, []);
	for (const target of Object.keys(others)) {
		t.deepEqual(await heldFor(target, by), {});
		t.deepEqual(await heldFor(`/${target}:${target}`, by), {});
		await t.throwsAsync(heldFor(`${target}:mysql`, by), {
			instanceOf: HttpError,
			message: `links: ${target} is not in deployment abc, where mysql would be its name; in a network of both it is found as ${target}, and by an alias of its own there`,
		});
	}
	await t.throwsAsync(heldFor("nobody", by), {
		instanceOf: HttpError,
		message: /^links: there is no container nobody in deployment abc; /,
	});
});

test("links to services of many copies fit in one commit with the create", async (t) => {
	const rows = Array.from({ length: 32 }, (_, i) => ({
		ServiceID: `${i}`,
		ServiceTags: [],
		ServiceMeta: { deployment: "abc" },
	}));
	const before: number[] = [];
	const many = {
		...nothing,
		store: {
			list: async () => [],
			ask: async () => rows,
			commit: async ({ length }: unknown[]) => before.push(length),
		},
		networks: { list: async () => [{ value: { deployment: "abc" } }] },
	} as unknown as Services;
	let operations = 0;
	const count = () => {
		operations++;
	};
	const context = createContext(
		{
			HostConfig: {
				Links: ["abc_redis_1:cache", "abc_redis_1:kept", "abc_db_1:store"],
			},
		},
		{
			facts: { deployment: "abc", network: "abc", address: "10.32.0.5" },
			...{ hold: count, commit: count },
		},
	);
	await links.setup({}, many, []).create?.(context);
	t.deepEqual(before, [32]);
	t.is(operations, 3 + 32 + 1); // one for each copy, though it gets two names, and the mark
});

test("a link's alias is in small letters, as DNS has names", async (t) => {
	const record = { facts: { deployment: "abc", service: "Redis" } };
	const list = async () => [{ value: record }];
	const containers = { get: async () => undefined, list };
	const by = links.setup({}, { ...nothing, containers } as never, []);
	const held = (link: string) => heldFor(link, by);
	const keys = Object.keys(await held("abc_db_1:Store"));
	t.deepEqual(keys, ["arpanet/aliases/abc/store/10.32.0.5"]);
	t.deepEqual(await held("abc_db_1:DB"), {}); // every copy has that name anyway
	await t.throwsAsync(held("abc_db_1:REDIS"), {
		message: /the name redis is that of service redis/,
	});
});

test("a link's alias and a service never have one name, whichever is first", async (t) => {
	const consul = await startConsul();
	const plugins = ["deployment-id", "placement", "dhcp", "links"];
	const host = new Allocator(consul.address, { plugins });
	const another = new Allocator(consul.address, { plugins });
	t.teardown(async () => {
		host.close();
		another.close();
		await consul.stop();
	});
	const linked = (...Links: string[]) => ({ HostConfig: { Links } });
	await host.create("abc", "abc_db_1");
	await host.create("abc", "abc_replica_1");
	const message =
		"links: in deployment abc the name db is that of service db, not replica; use another alias";
	const alias = linked("abc_replica_1:db");
	await t.throwsAsync(host.create("abc", "abc_report_1", alias), { message });
	await host.remove("abc_db_1");
	await t.throwsAsync(host.create("abc", "abc_db_2", alias), { message });
	await another.create("abc", "abc_other_1"); // has seen no alias
	await host.create("abc", "abc_report_1", alias);
	for (const adapter of [another, host]) {
		await t.throwsAsync(adapter.create("abc", "abc_db_1"), {
			message:
				"links: in deployment abc the name db already means service replica (a link of abc_report_1), not db; use another alias",
		});
	}
	await host.create("xyz", "xyz_db_1"); // another deployment's

	for (const name of ["report_1", "replica_1", "other_1"]) {
		await host.remove(`abc_${name}`);
	}
	t.deepEqual(await host.store.keys("arpanet/aliases/"), []);
	await another.create("abc", "abc_db_1");
});

test("that a deployment has aliases is not forgotten by who saw it before another was given", async (t) => {
	const consul = await startConsul();
	const plugins = ["deployment-id", "placement", "dhcp", "links"];
	const host = new Allocator(consul.address, { plugins });
	t.teardown(async () => {
		host.close();
		await consul.stop();
	});
	const { store } = host;
	const link = { HostConfig: { Links: ["abc_redis_1:cache"] } };
	await host.create("abc", "abc_redis_1");
	await host.create("abc", "abc_web_1", link);
	t.is(await unmark("abc", store), undefined);
	await host.remove("abc_web_1");
	const deletion = (await unmark("abc", store)) as Operation;
	await host.create("abc", "abc_web_2", link);
	await t.throwsAsync(store.commit([deletion]), { instanceOf: Conflict });

	await host.remove("abc_web_2");
	await store.commit([(await unmark("abc", store)) as Operation]);
	t.deepEqual(await store.keys("arpanet/aliases/"), []);
});

test("who reads that a name is taken is not told the id of a request", (t) => {
	const nameless = {
		alias: "db",
		service: "bdf358d8",
		container: ".bdf358d8",
		address: "10.32.0.2",
	};
	const link = { alias: "db", service: "pg", container: "app" };
	const known = (each: Asked) => [{ key: "", index: 1, ...each }];
	t.throws(() => mustMeanOne(link, "abc", known(nameless)), {
		message:
			"links: in deployment abc the name db already means a container that was made without a name (a network alias), not pg; use another alias",
	});
	t.throws(() => mustMeanOne(nameless, "abc", known(link)), {
		message:
			"links: in deployment abc the name db already means service pg (a link of app), not this container; use another alias",
	});
});
