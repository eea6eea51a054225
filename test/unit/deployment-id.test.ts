import test from "ava";
import * as fc from "fast-check";
import type { NetworkCreate } from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import type { Facts, Hooks, Services } from "../../pipeline/plugin.ts";
import deploymentId from "../../plugins/deployment-id.ts";
import { createContext } from "./doubles.ts";

const hooks = hooksWith({ alone: true });

/** @param cluster its hosts; there is a network `abc_default` of deployment abc */
function hooksWith(cluster: { alone: boolean }): Hooks {
	const networks = {
		find: async (name: string) =>
			name === "abc_default" ? { value: { deployment: "abc" } } : undefined,
	};
	return deploymentId.setup(
		{},
		{ cluster, networks } as unknown as Services,
		[],
	);
}

interface Asked {
	name?: string;
	labels?: Record<string, string>;
	env?: string[];
	header?: string;
	network?: string;
}

async function factsOf({
	name,
	labels,
	env,
	header,
	network,
}: Asked): Promise<Facts> {
	const context = createContext(
		{
			...(labels && { Labels: labels }),
			...(env && { Env: env }),
			...(network && { HostConfig: { NetworkMode: network } }),
		},
		{
			name,
			recordName: name ?? ".4711",
			headers: header ? { "x-arpanet-deployment": header } : {},
		},
	);
	await hooks.create?.(context);
	return JSON.parse(JSON.stringify(context.facts)); // what is undefined is not there
}

const is = test.macro({
	exec: async (t, _: string, asked: Asked, expected: Facts) =>
		t.deepEqual(await factsOf(asked), expected),
	title: (_, what: string) => what,
});

const compose = {
	"com.docker.compose.project": "abc",
	"com.docker.compose.service": "web",
	"com.docker.compose.container-number": "2",
	"com.docker.compose.oneoff": "False",
};

test(is, "no id, no facts", {}, {});
test(is, "a plain name is no deployment's", { name: "web" }, {});
test(is, "a name with two parts is no fig's", { name: "abc_web" }, {});
test(
	is,
	"fig's name tells deployment, service and copy",
	{ name: "abc_web_1" },
	{ deployment: "abc", service: "web", index: 1, indexFrom: "name" },
);
test(
	is,
	"fig's name may have capitals, a deployment has none",
	{ name: "ABC_Web_12" },
	{ deployment: "abc", service: "Web", index: 12, indexFrom: "name" },
);
test(
	is,
	"Compose's labels tell all three",
	{ name: "abc-web-2", labels: compose },
	{ deployment: "abc", service: "web", index: 2 },
);
test(
	is,
	"Compose's labels stand before fig's name",
	{ name: "xyz_db_1", labels: compose },
	{ deployment: "abc", service: "web", index: 2 },
);
test(
	is,
	"a one-off has a deployment and is no copy of a service",
	{
		name: "abc_web_run_1a2b3c",
		labels: { ...compose, "com.docker.compose.oneoff": "True" },
	},
	{ deployment: "abc" },
);
test(
	is,
	"the user's label stands before Compose's",
	{ labels: { ...compose, "arpanet.deployment": "mine" } },
	{ deployment: "mine", service: "web", index: 2, indexFrom: "compose" },
);
test(
	is,
	"the environment stands before Compose's labels",
	{ labels: compose, env: ["A=1", "ARPANET_DEPLOYMENT=env"] },
	{ deployment: "env", service: "web", index: 2, indexFrom: "compose" },
);
test(
	is,
	"the user's label stands before the environment",
	{
		labels: { "arpanet.deployment": "label" },
		env: ["ARPANET_DEPLOYMENT=env"],
	},
	{ deployment: "label", service: "4711", serviceFrom: "name" },
);
test(
	is,
	"the header comes last",
	{ name: "web", header: "head" },
	{ deployment: "head", service: "web", serviceFrom: "name" },
);
test(
	is,
	"who joins a deployment's network belongs to it",
	{ name: "shell", network: "abc_default" },
	{ deployment: "abc", service: "shell", serviceFrom: "name" },
);
test(
	is,
	"a name that can stand in DNS as it is says the service",
	{ name: "my_Db", header: "head" },
	{ deployment: "head", service: "my_Db", serviceFrom: "name" },
);
test(
	is,
	"one that cannot says none",
	{ name: "my.db", header: "head" },
	{ deployment: "head" },
);
test(
	is,
	"one without a name is a service of its own until Docker has named it",
	{ network: "abc_default" },
	{ deployment: "abc", service: "4711", serviceFrom: "name" },
);
test(is, "any other network says nothing", { network: "bridge" }, {});
test(
	is,
	"fig's name stands before the header",
	{ name: "abc_web_1", header: "head" },
	{ deployment: "abc", service: "web", index: 1, indexFrom: "name" },
);
test(
	is,
	"the user's service stands before Compose's",
	{ labels: { ...compose, "arpanet.service": "front" } },
	{ deployment: "abc", service: "front", index: 2, indexFrom: "compose" },
);
test(
	is,
	"while Compose recreates, the name has the old id before it",
	{
		name: "0123456789ab_abc_web_2",
		labels: { ...compose },
	},
	{ deployment: "abc", service: "web", index: 2 },
);

const byHand = { "arpanet.deployment": "abc", "arpanet.service": "web" };
for (const name of ["web-3", "abc-web-3", "abc_web_3"])
	test(
		is,
		`a number in a name that is the service's is the copy's: ${name}`,
		{ name, labels: byHand },
		{ deployment: "abc", service: "web", index: 3, indexFrom: "name" },
	);
for (const name of ["blue-1", "blue-web-1", "abc_blue_1"])
	test(
		is,
		`a number in any other name may be another copy's, too: ${name}`,
		{ name, labels: byHand },
		{ deployment: "abc", service: "web" },
	);

const refused = test.macro({
	async exec(t, id: string, suggested: string) {
		const error = await t.throwsAsync<HttpError>(
			factsOf({ labels: { "arpanet.deployment": id } }),
		);
		t.is(error.status, 400);
		t.is(
			error.message,
			`deployment-id: "${id}" is no DNS label; use 1 to 63 of a-z, 0-9 and "-", such as docker-compose -p ${suggested}`,
		);
	},
	title: (_, id: string) => `"${id.slice(0, 20)}" is refused with a better one`,
});

test(refused, "a_b", "a-b");
test(refused, "My App", "my-app");
test(refused, "-a-", "a");
test(refused, "a.b", "a-b");
test(refused, "", "abc");
test(refused, "é", "abc");
test(refused, "x".repeat(64), "x".repeat(63));

test("a number that is none is no number", (t) => {
	const labels = { ...compose, "com.docker.compose.container-number": "one" };
	t.false("index" in factsOf({ name: "abc-web", labels }));
});

test("a network is its deployment's by Compose's labels", (t) => {
	const context = {
		body: {
			Name: "abc_back",
			Labels: {
				"com.docker.compose.project": "abc",
				"com.docker.compose.network": "back",
			},
		} as NetworkCreate,
		facts: {},
		headers: {},
	};
	hooks.networkCreate?.(context);
	t.deepEqual(context.facts, { deployment: "abc", composeNetwork: "back" });
});

test("a network that nobody says anything of is none of ours", (t) => {
	const context = { body: { Name: "abc_default" }, facts: {}, headers: {} };
	hooks.networkCreate?.(context);
	t.deepEqual(context.facts, {});
});

test("with several hosts a network that a user makes is for all", (t) => {
	const shared = { Name: "front_door", Driver: "bridge" };
	const macvlan = { Name: "lan", Driver: "macvlan" };
	const without = { Name: "six", EnableIPv4: false, EnableIPv6: true };
	const facts = [shared, macvlan, without].map((body) => {
		const context = { body, facts: {}, headers: {} };
		hooksWith({ alone: false }).networkCreate?.(context);
		return context.facts;
	});
	t.deepEqual(facts, [
		{
			deployment: "shared-front-door",
			composeNetwork: "default",
			shared: true,
		},
		{},
		{},
	]);
});

test("a name as fig makes it is taken apart again", async (t) => {
	const word = fc.stringMatching(/^[a-z0-9]{1,20}$/);
	const number = fc.integer({ min: 0, max: 999_999_999 });
	await fc.assert(
		fc.asyncProperty(word, word, number, async (deployment, service, index) => {
			const name = `${deployment}_${service}_${index}`;
			const indexFrom = "name";
			const facts = { deployment, service, index, indexFrom };
			t.deepEqual(await factsOf({ name }), facts);
		}),
	);
});

test("whatever a container is called and says, its deployment is a DNS label, or the user reads why not", async (t) => {
	const text = fc.option(fc.string(), { nil: undefined });
	const label = fc.constantFrom(
		...["arpanet.deployment", "com.docker.compose.project"],
		...["arpanet.service", "com.docker.compose.container-number"],
	);
	await fc.assert(
		fc.asyncProperty(
			...[text, text],
			fc.dictionary(label, fc.string()),
			fc.array(fc.string()),
			async (name, header, labels, env) => {
				const asked = {
					...(name !== undefined && { name }),
					...(header !== undefined && { header }),
				};
				try {
					const { deployment = "none", index = 0 } = await factsOf({
						...{ ...asked, labels, env },
					});
					t.regex(deployment, /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
					t.true(Number.isSafeInteger(index));
				} catch (error) {
					t.true(error instanceof HttpError, String(error));
					t.regex(
						(error as HttpError).message,
						/is no (DNS label|name of a service); use /,
					);
				}
			},
		),
	);
});
