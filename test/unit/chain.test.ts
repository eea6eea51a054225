import test from "ava";
import { Chain } from "../../pipeline/chain.ts";
import { HttpError } from "../../pipeline/errors.ts";
import {
	readLabels,
	withoutForged,
	writeLabels,
} from "../../pipeline/facts.ts";
import type { Facts, Hooks, Loaded } from "../../pipeline/plugin.ts";
import { Conflict } from "../../pipeline/state/operations.ts";
import { createContext, silent } from "./doubles.ts";

/** Plugins a, b, c that write down when they are called. */
function recording(hooks: Record<string, Hooks> = {}) {
	const calls: string[] = [];
	const plugins: Loaded[] = ["a", "b", "c"].map((name) => ({
		name,
		hooks: {
			create: async (context) => {
				calls.push(`create ${name}`);
				await hooks[name]?.create?.(context);
			},
			removed: async (context) => {
				calls.push(`removed ${name}`);
				await hooks[name]?.removed?.(context);
			},
		},
	}));
	return { calls, chain: new Chain(plugins, 1_000, silent) };
}

const gone = { id: undefined, facts: {}, holds: [] };

test("hooks acquire in list order", async (t) => {
	const { calls, chain } = recording();
	await chain.acquire("create", createContext());
	t.deepEqual(calls, ["create a", "create b", "create c"]);
});

test("hooks release in reverse, past errors, of which the first comes back", async (t) => {
	const { calls, chain } = recording({
		c: {
			removed: () => {
				throw new Error("first");
			},
		},
		b: { removed: () => Promise.reject(new Error("second")) },
	});
	const error = await chain.release("removed", gone);
	t.deepEqual(calls, ["removed c", "removed b", "removed a"]);
	t.is(error?.message, "plugin c: removed failed: first");
});

test("a create that fails in plugin i is given back from i to the first", async (t) => {
	const { calls, chain } = recording({
		b: {
			create: () => {
				throw new HttpError(409, "b: no");
			},
		},
	});
	const error = await t.throwsAsync<HttpError>(
		chain.acquire("create", createContext(), async (position) => {
			await chain.release("removed", gone, position);
		}),
	);
	t.deepEqual(calls, ["create a", "create b", "removed b", "removed a"]);
	t.is(error.status, 409);
	t.is(error.message, "b: no");
});

test("a plugin that throws is named, and is no refusal of the user's", async (t) => {
	const cause = new TypeError("x is not a function");
	const { chain } = recording({
		b: {
			create: () => {
				throw cause;
			},
		},
	});
	const error = await t.throwsAsync<HttpError>(
		chain.acquire("create", createContext()),
	);
	t.is(error.status, 500);
	t.is(error.message, "plugin b: create failed: x is not a function");
	t.is(error.cause, cause);
});

test("a plugin that rejects with no error at all is named", async (t) => {
	const { chain } = recording({
		a: { create: () => Promise.reject("just text") },
	});
	await t.throwsAsync(chain.acquire("create", createContext()), {
		message: "plugin a: create failed: just text",
	});
});

test("what can be waited for is, also if it is no Promise of Node's", async (t) => {
	const later = {
		// biome-ignore lint/suspicious/noThenProperty: as libraries' own promises have it
		then: (_: unknown, no: (error: Error) => void) =>
			setTimeout(() => no(new HttpError(403, "a: no")), 1),
	};
	const foreign: Loaded = {
		name: "a",
		hooks: { create: () => later as unknown as Promise<void> },
	};
	await t.throwsAsync(
		new Chain([foreign], 1_000, silent).acquire("create", createContext()),
		{ message: "a: no" },
	);
});

test("a plugin that never answers is a 504 that names it", async (t) => {
	const never: Loaded = {
		name: "never",
		hooks: { create: () => new Promise(() => {}) },
	};
	const chain = new Chain([never], 30, silent);
	const error = await t.throwsAsync<HttpError>(
		chain.acquire("create", createContext()),
	);
	t.is(error.status, 504);
	t.is(
		error.message,
		"plugin never: create took longer than 30 ms; see the log, or raise pluginTimeout in powerstrip.yml",
	);
});

test("a plugin that never answers holds up no release", async (t) => {
	const calls: string[] = [];
	const plugins: Loaded[] = [
		{ name: "first", hooks: { removed: () => void calls.push("first") } },
		{ name: "never", hooks: { removed: () => new Promise(() => {}) } },
	];
	const error = await new Chain(plugins, 30, silent).release("removed", gone);
	t.deepEqual(calls, ["first"]);
	t.is(
		error?.message,
		"plugin never: removed took longer than 30 ms; see the log, or raise pluginTimeout in powerstrip.yml",
	);
});

test("a lost commit comes out as it is: it is no plugin's fault", async (t) => {
	const conflict = new Conflict({ verb: "delete", key: "k" }, "lost");
	const { chain } = recording({
		a: {
			create: () => {
				throw conflict;
			},
		},
	});
	t.is(await t.throwsAsync(chain.acquire("create", createContext())), conflict);
});

test("a chain knows for which moments it has hooks", (t) => {
	const { chain } = recording();
	t.true(chain.has("create"));
	t.false(chain.has("started"));
});

test("labels that only arpanet may write are taken away, the user's stay", (t) => {
	const body = {
		Labels: {
			"arpanet.host": "evil",
			"arpanet.address": "10.0.0.1",
			"arpanet.network": "xyz",
			"arpanet.index": "9",
			"arpanet.deployment": "abc",
			"arpanet.service": "web",
			"arpanet.size": "100",
			"arpanet.enabled": "true",
			arpanet: "mine",
			"com.example": "kept",
		},
	};
	t.deepEqual(Object.keys(withoutForged(body)?.Labels ?? {}), [
		"arpanet.deployment",
		"arpanet.service",
		"arpanet.size",
		"arpanet.enabled",
		"arpanet",
		"com.example",
	]);
});

test("a service that a label names is the user's, also where the image was committed from a container that was called by its name", (t) => {
	const inherited = {
		"arpanet.facts": "deployment,service",
		"arpanet.service": "web",
		"arpanet.serviceFrom": "name",
	};
	t.deepEqual(withoutForged({ Labels: inherited }), {
		Labels: { "arpanet.service": "web" },
	});
});

test("a body without labels has none to take away", (t) => {
	t.is(withoutForged({}), undefined);
	t.is(withoutForged({ Labels: null }), undefined);
});

test("facts written as labels are read back the same", (t) => {
	const facts: Facts = {
		deployment: "abc",
		service: "web",
		index: 2,
		host: "h1",
		network: "abc-back",
		address: "10.32.0.7",
	};
	const body = { Labels: { own: "x", "arpanet.host": "old" } };
	writeLabels(body, facts);
	t.is(body.Labels.own, "x");
	t.deepEqual(readLabels(body.Labels), facts);
});

test("a fact that is not there becomes no label", (t) => {
	const body: { Labels?: Record<string, string> } = {};
	writeLabels(body, { deployment: "abc", service: undefined } as Facts);
	t.deepEqual(body.Labels, {
		"arpanet.deployment": "abc",
		"arpanet.facts": "deployment",
	});
});

test("a container without labels has no facts", (t) => {
	t.deepEqual(readLabels(null), {});
});
