import test from "ava";
import { isContainerCreate, isNetworkCreate } from "../../pipeline/docker.ts";
import { repeatedKey, type Shape, spell } from "../../pipeline/spelling.ts";

const create = isContainerCreate.schema as Shape;
const network = isNetworkCreate.schema as Shape;

for (const [what, text, expected, shape] of [
	["a key that stands twice", '{"Labels":{},"Labels":{}}', "Labels"],
	["a key in two spellings", '{"labels":{},"LABELS":{}}', "Labels"],
	["a key that is escaped", '{"Labels":{},"L\\u0061bels":{}}', "Labels"],
	["a letter that Go takes for an s", '{"Labels":{},"Labelſ":{}}', "Labels"],
	["a letter that Go takes for a k", '{"networKmode":1}', undefined],
	[
		"a key further in",
		'{"hostconfig":{"Memory":1,"Links":["{","]"],"memory":2}}',
		"Memory",
	],
	[
		"a key below the user's own",
		'{"NetworkingConfig":{"EndpointsConfig":{"a":{},"A":{"Links":[],"links":[]}}}}',
		"Links",
	],
	[
		"a key in a list",
		'{"Name":"a","IPAM":{"Config":[{"Subnet":"a"},{"Subnet":"a","subnet":"b"}]}}',
		"Subnet",
		network,
	],
	["keys of the user's", '{"Labels":{"a":"1","A":"2","a":"3"}}', undefined],
	["keys that hooks do not read", '{"Cmd":[],"cmd":["x"]}', undefined],
	[
		"the same key in two objects",
		'{"HostConfig":{"Image":1},"Image":2}',
		undefined,
	],
	[
		"text that looks like keys",
		'{"Image":"{\\"Labels\\":1,\\"Labels\\":2}"}',
		undefined,
	],
] as const) {
	test(`${what} ${expected ? "is found" : "is left alone"}`, (t) => {
		t.notThrows(() => JSON.parse(text));
		t.is(repeatedKey(text, shape ?? create), expected);
	});
}

test("Docker's keys get Docker's spelling, the user's keep theirs", (t) => {
	const body = {
		labels: { labels: "x" },
		HOSTCONFIG: { networkmode: "a", dns: [null, "b"], Other: { labels: 1 } },
		networkingConfig: { endpointsconfig: { links: { ALIASES: ["b"] } } },
	};
	spell(body, create);
	t.deepEqual(body as unknown, {
		Labels: { labels: "x" },
		HostConfig: { NetworkMode: "a", Dns: ["", "b"], Other: { labels: 1 } },
		NetworkingConfig: { EndpointsConfig: { links: { Aliases: ["b"] } } },
	});
});
