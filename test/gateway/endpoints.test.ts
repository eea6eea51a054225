import test from "ava";
import { endpointMatcher, glob } from "../../gateway/endpoints.ts";

// rows checked against Python's fnmatch.fnmatchcase
const globs: [pattern: string, name: string, matches: boolean][] = [
	["/*/containers/create", "/v1.41/containers/create", true],
	["/*/containers/create", "/containers/create", false],
	["*/containers/create", "/containers/create", true],
	["/*/start", "/v1.41/containers/a/b/start", true],
	["/v1.?", "/v1.4", true],
	["/v1.?", "/v1.41", false],
	["/v1.[12]4", "/v1.24", true],
	["/v1.[12]4", "/v1.34", false],
	["/v1.[!12]4", "/v1.34", true],
	["/v1.[!12]4", "/v1.24", false],
	["/[a-c]", "/b", true],
	["/[a-c]", "/d", false],
	["/[c-a]", "/b", false],
	["/[]x]", "/]", true],
	["/[!]]", "/]", false],
	["/[^a]", "/^", true],
	["/[a", "/[a", true],
	["/a.b+c$(d)", "/a.b+c$(d)", true],
	["/a.b", "/aXb", false],
	["/[\\d]", "/5", false],
	["*", "/line\nbreak", true],
];

for (const [pattern, name, matches] of globs) {
	test(`glob ${pattern} ${matches ? "matches" : "does not match"} ${JSON.stringify(name)}`, (t) => {
		t.is(new RegExp(`^${glob(pattern)}$`, "s").test(name), matches);
	});
}

test("hooks of every matching endpoint are called, in file order", (t) => {
	const chains = endpointMatcher([
		{ pattern: "POST /*/containers/create", pre: ["a", "b"], post: ["c"] },
		{ pattern: "GET *", pre: ["x"], post: [] },
		{ pattern: "POST  *", pre: [], post: ["d"] },
		{ pattern: "* *create", pre: ["e"], post: [] },
	]);
	t.deepEqual(chains("POST", "/v1.41/containers/create"), {
		pre: ["a", "b", "e"],
		post: ["c", "d"],
	});
	t.deepEqual(chains("POST", "/x"), { pre: [], post: ["d"] });
	t.is(chains("PUT", "/x"), null);
});

test("a path that is encoded to slip past a hook does not", (t) => {
	const chains = endpointMatcher([
		{ pattern: "POST */containers/create", pre: ["a"], post: [] },
	]);
	t.truthy(chains("POST", "/v1.41/containers/%63reate"));
	t.is(chains("POST", "/v1.41/%zz"), null);
});
