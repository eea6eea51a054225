import test from "ava";
import {
	contentOf,
	type ImageInspect,
	isOnRecord,
	namedAt,
	recordOf,
} from "../../pipeline/lifecycle/images.ts";

const MADE = "2026-01-01T00:00:00Z";
const LATER = "2026-01-02T00:00:00Z";

const here: ImageInspect = {
	Id: "sha256:configuration",
	RepoDigests: [],
	Created: MADE,
	Metadata: { LastTagTime: LATER },
	Config: { Env: ["A=1"], Cmd: ["run"], User: "", Labels: null },
	RootFS: { Layers: ["sha256:layer"] },
};
/** The same image in an engine with the containerd image store. */
const there: ImageInspect = {
	...here,
	Id: "sha256:manifest",
	RepoDigests: ["app@sha256:manifest"],
	Created: "2026-01-01T00:00:00.000Z",
	Config: { Env: ["A=1"], Cmd: ["run"], ArgsEscaped: true },
};

test("an image is the same whatever its engine's image store calls it", (t) => {
	t.is(contentOf(here), contentOf(there));
	for (const [image, other] of [
		[here, there],
		[there, here],
	] as const) {
		t.true(isOnRecord(other, recordOf({ host: "h1", at: 1, image })));
	}
});

test("engines say in several ways that an image has no date", (t) => {
	const none = { ...here, Created: "0001-01-01T00:00:00Z" };
	t.is(contentOf(none), contentOf({ ...there, Created: "" }));
	t.not(contentOf(none), contentOf(here));
});

test("a record of before goes by the id alone", (t) => {
	const record = { host: "h1", id: here.Id, at: 1 };
	t.true(isOnRecord(here, record));
	t.false(isOnRecord(there, record));
	t.false(isOnRecord(here, undefined));
});

for (const [what, other] of [
	["made at another time", { Created: LATER }],
	["of other layers", { RootFS: { Layers: ["sha256:other"] } }],
	["that runs something else", { Config: { ...here.Config, Cmd: ["no"] } }],
	["in another environment", { Config: { ...here.Config, Env: ["A=2"] } }],
] as const) {
	test(`an image ${what} is another`, (t) => {
		const changed = { ...there, ...other } as ImageInspect;
		t.not(contentOf(here), contentOf(changed));
	});
}

test("a copy is no newer than what it is a copy of: the containerd image store notes when it was loaded", (t) => {
	t.is(namedAt(here), Date.parse(LATER));
	t.is(namedAt(there), Date.parse(MADE));
});
