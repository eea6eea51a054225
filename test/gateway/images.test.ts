import { setTimeout } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { HttpError } from "../../pipeline/errors.ts";
import { imageCarrier } from "../../pipeline/lifecycle/image-carrier.ts";
import { Images } from "../../pipeline/lifecycle/images.ts";
import { type FakeEngine, startHosts, storeOf } from "./hosts.ts";

const OLD = `sha256:${"a".repeat(64)}`;
const NEW = `sha256:${"b".repeat(64)}`;
const NO_NAME = "<none>:<none>";

interface Image {
	Id: string;
	Created: number;
	RepoTags: string[];
	RepoDigests: string[] | null;
}

function image(Id: string, ...tags: string[]): Image {
	const Created = Id === NEW ? 2 : 1;
	return tags.length > 0
		? { Id, Created, RepoTags: tags, RepoDigests: null }
		: {
				Id,
				Created,
				RepoTags: [NO_NAME],
				RepoDigests: ["<none>@<none>"],
			};
}

/** An engine with images. @param refusal what it says to every removal */
function withImages(images: Image[], refusal?: HttpError): FakeEngine {
	const isDangling = ({ RepoTags }: Image) => RepoTags[0] === NO_NAME;
	const named = (ref: string) =>
		images.find(
			({ Id, RepoTags }) =>
				Id === ref ||
				RepoTags.includes(ref) ||
				RepoTags.includes(`${ref}:latest`),
		) ?? images.find(({ Id }) => Id.startsWith(`sha256:${ref}`));
	return (method, { pathname, searchParams }) => {
		if (pathname === "/containers/json") return [];
		if (pathname === "/images/json") {
			const { dangling, since, before } = JSON.parse(
				searchParams.get("filters") ?? "{}",
			);
			const [ref] = since ?? before ?? [];
			if (ref && !named(ref)) throw new HttpError(404, `No such image: ${ref}`);
			if (!dangling) return images;
			return images.filter((each) => String(isDangling(each)) === dangling[0]);
		}
		const [, ref = ""] =
			/^\/images\/(.+?)(?:\/json)?$/.exec(decodeURIComponent(pathname)) ?? [];
		const found = named(ref);
		if (!found) return undefined;
		if (method !== "DELETE") {
			const Metadata = { LastTagTime: "2026-01-01T00:00:00Z" };
			const made = new Date(found.Created * 1000).toISOString();
			return { ...found, Created: made, Metadata };
		}
		if (refusal) throw refusal;
		images.splice(images.indexOf(found), 1);
		return [{ Deleted: found.Id }];
	};
}

const built = () => ({
	one: withImages([image(NEW, "app:latest"), image(OLD, "app:v1")]),
	two: withImages([image(NEW, "app:latest"), image(OLD)]),
});

for (const [dangling, ids] of [
	["true", []],
	["1", []],
	["false", [NEW, OLD]],
] as const) {
	test(`an image that has its name on one host alone dangles nowhere: dangling=${dangling}`, async (t) => {
		const { route } = await startHosts(t, built());
		const filters = encodeURIComponent(
			JSON.stringify({ dangling: [dangling] }),
		);
		const rows = await route("GET", `/images/json?filters=${filters}`);
		t.deepEqual(
			(rows as Image[]).map(({ Id }) => Id),
			[...ids],
		);
	});
}

test("an image that has a name on no host dangles", async (t) => {
	const { route } = await startHosts(t, {
		one: withImages([image(NEW, "app:latest"), image(OLD)]),
		two: withImages([image(OLD)]),
	});
	const list = (dangling: string) =>
		route("GET", `/images/json?filters={"dangling":["${dangling}"]}`);
	t.like(await list("true"), { length: 1, 0: image(OLD) });
	t.like(await list("false"), { length: 1, 0: image(NEW, "app:latest") });
});

test("an image without a name on one host has those of the others alone", async (t) => {
	const { route } = await startHosts(t, built());
	t.deepEqual(await route("GET", "/images/json"), [
		image(NEW, "app:latest"),
		{ ...image(OLD, "app:v1"), RepoDigests: [] },
	]);
});

test("a copy that another kind of image store calls by another id has no line of its own", async (t) => {
	const copy = {
		...{ Id: NEW, Created: 1, RepoTags: ["app:1"] },
		RepoDigests: [`app@${NEW}`],
	};
	const { route } = await startHosts(t, {
		one: withImages([copy]),
		two: withImages([image(OLD, "app:1")]),
	});
	for (const query of ["", `?filters={"dangling":["false"]}`]) {
		const rows = (await route("GET", `/images/json${query}`)) as Image[];
		t.deepEqual(
			rows.map(({ Id, RepoTags }) => [Id, RepoTags]),
			[[OLD, ["app:1"]]],
		);
	}
});

test("a host that said what a name means may say otherwise, be it an older image", async (t) => {
	const at = Date.parse("2027-01-01");
	const key = "arpanet/images/app:1";
	for (const host of ["one", "two"]) {
		const store = storeOf({ [key]: { host, id: NEW, at } });
		const written: unknown[] = [];
		store.commit = async (operations) => void written.push(...operations);
		const one = withImages([image(OLD, "app:1")]);
		const engines = { one, two: withImages([image(NEW, "app:1")]) };
		const { services } = await startHosts(t, engines, store);
		await new Images(services).tell("one");
		const said = written.map((each) => {
			const { value } = each as { value: Record<string, unknown> };
			return [value.host, value.id, value.at];
		});
		t.deepEqual(said, host === "one" ? [[host, OLD, at + 1]] : []);
	}
});

test("an image that one host refuses to remove by its id is removed from none", async (t) => {
	const refusal = new HttpError(409, "image is referenced in multiple places");
	for (const many of ["one", "two"]) {
		const engine = (name: string) =>
			name === many
				? withImages([image(OLD, "app:v1", "app:latest")], refusal)
				: withImages([image(OLD, "app:latest")]);
		const { route, asked } = await startHosts(t, {
			one: engine("one"),
			two: engine("two"),
		});
		await t.throwsAsync(route("DELETE", `/images/${OLD}`), {
			message: refusal.message,
		});
		const deletes = Object.values(asked)
			.flat()
			.filter((request) => request.startsWith("DELETE"));
		t.deepEqual(deletes, [`DELETE /images/${OLD}`]);
	}
});

test("an image that has one name on each of two hosts is removed by its id only with force", async (t) => {
	const { route, asked } = await startHosts(t, {
		one: withImages([image(OLD, "app:v1")]),
		two: withImages([image(OLD, "app:latest")]),
	});
	const deletes = () =>
		Object.values(asked)
			.flat()
			.filter((request) => request.startsWith("DELETE"));
	for (const query of ["", "?force=0", "?noprune=1&force=false", "?force="]) {
		await t.throwsAsync(route("DELETE", `/images/${OLD}${query}`), {
			message: /must be forced.*app:v1, app:latest/,
		});
	}
	t.deepEqual(deletes(), []);
	await route("DELETE", `/images/${OLD}?force=1`);
	t.is(deletes().length, 2);
});

test("a name that reads like the start of an id is no other image's where another host has that name", async (t) => {
	const tool = image(`sha256:${"db".padEnd(64, "1")}`, "tool:1");
	const hosts = await startHosts(t, {
		one: withImages([tool]),
		two: withImages([image(OLD, "db:latest")]),
	});
	t.is(await hosts.route("GET", "/images/db/json"), "two");
	t.is(await hosts.route("DELETE", "/images/db"), "two");
	t.is(await hosts.route("GET", "/images/db11/json"), "one");
});

test("while the host that named an image last is silent, a copy of that very image will do, but for its removal", async (t) => {
	const record = { host: "two", id: OLD, at: 1 };
	const store = storeOf({ "arpanet/images/app:latest": record });
	const engines = {
		one: withImages([]),
		two: withImages([]),
		three: withImages([image(OLD, "app:latest")]),
	};
	const { close, route } = await startHosts(t, engines, store);
	close.two?.();
	t.is(await route("GET", "/images/app/json"), "three");
	await t.throwsAsync(route("DELETE", "/images/app"), {
		message: /^image app may be a newer one on host two, which does not answer/,
	});
});

test("a host's refusal to remove an image is not lost among those that have removed it", async (t) => {
	const refusal = new HttpError(409, "image has dependent child images");
	const { route } = await startHosts(t, {
		one: withImages([image(OLD, "app:latest")]),
		two: withImages([image(OLD, "app:latest")], refusal),
		three: withImages(
			[image(OLD, "app:latest")],
			new HttpError(404, "No such image"),
		),
	});
	await t.throwsAsync(route("DELETE", `/images/${OLD}`), {
		message: refusal.message,
	});
});

test("an image that somebody else has just removed from one host is removed", async (t) => {
	const { route } = await startHosts(t, {
		one: withImages([image(OLD, "app:latest")]),
		two: withImages(
			[image(OLD, "app:latest")],
			new HttpError(404, "No such image"),
		),
	});
	t.deepEqual(await route("DELETE", `/images/${OLD}`), [{ Deleted: OLD }]);
});

/** Two hosts, of which the second has told that `app` is its own image, and is away. @param copies what the first has of that name */
async function silentHome(
	t: ExecutionContext,
	copies: Image[],
	more: Record<string, FakeEngine> = {},
) {
	const record = { host: "two", id: NEW, at: Date.parse("2027-01-01") };
	const engines = {
		one: withImages(copies),
		two: withImages([image(NEW, "app:latest")]),
		...more,
	};
	const store = storeOf({ "arpanet/images/app:latest": record });
	const hosts = await startHosts(t, engines, store);
	hosts.close.two?.();
	return hosts;
}

for (const request of [
	"GET /images/app:latest/json",
	"POST /images/app/push?tag=latest",
	"POST /images/app:latest/tag?repo=other",
	"DELETE /images/app:latest",
]) {
	const [method = "", target = ""] = request.split(" ");

	test(`an older image does not stand for one on a host that does not answer: ${request}`, async (t) => {
		const copies = [image(OLD, "app:latest")];
		const { known, route } = await silentHome(t, copies);
		const told = await t.throwsAsync(route(method, target));
		t.like(told, {
			status: 503,
			message: `image app:latest may be a newer one on host two, which does not answer; try again`,
		});
		Object.assign(known.two ?? {}, { state: undefined });
		t.is(await route(method, target), "one"); // of a lost host none is waited for
	});
}

test("images are listed while the host does not answer that named one last, as each of the others calls it", async (t) => {
	const other = image(`sha256:${"c".repeat(64)}`, "app:latest");
	const three = withImages([other]);
	const { route } = await silentHome(t, [image(OLD, "app:latest")], { three });
	t.deepEqual(await route("GET", "/images/json"), [
		image(OLD, "app:latest"),
		other,
	]);
});

test("an image is not said to be nowhere while a host that may have it does not answer", async (t) => {
	const { route } = await silentHome(t, []);
	const inspect = (name: string) => route("GET", `/images/${name}/json`);
	t.like(await t.throwsAsync(inspect("app")), {
		status: 503,
		message: "image app may be on host two, which does not answer; try again",
	});
	t.is(await inspect("none"), "one"); // no host has told of any
});

test("a build is cancelled where it is made", async (t) => {
	const { route } = await startHosts(t, {
		two: withImages([]),
		one: withImages([]),
	});
	t.is(await route("POST", "/v1.41/session"), "one");
	t.is(await route("POST", "/v1.41/build/cancel?id=1"), "one");
});

test("a build in a network is done where images are made if that is there, else at its home or where it is", async (t) => {
	const front = { name: "front", id: "f".repeat(64), home: true };
	const ids = "arpanet/network-ids";
	const wide = { name: "wide", id: "e".repeat(64) };
	const store = storeOf({
		[`${ids}/shared-front/three`]: front,
		[`${ids}/shared-wide/one`]: { ...wide, home: true },
		[`${ids}/shared-wide/two`]: wide,
	});
	const withNetworks =
		(...names: string[]): FakeEngine =>
		(_, { pathname }) =>
			names.some((name) => pathname === `/networks/${name}`) ? {} : undefined;
	const { route } = await startHosts(
		t,
		{
			two: withNetworks("front", "lan"),
			one: withNetworks("near"),
			three: withNetworks("front", "near", front.id),
		},
		store,
	);
	const build = (query: string) => route("POST", `/v1.41/build?${query}`);
	t.is(await build("networkmode=near"), "one");
	t.is(await build("networkmode=front"), "three");
	t.is(await build(`networkmode=${front.id}`), "three");
	t.is(await build("networkmode=lan"), "two");
	for (const query of ["", "host", "default", "nowhere", "lan&version=2"]) {
		t.is(await build(`networkmode=${query}`), "one", query);
	}
	t.is(await build("networkmode=wide&version=2"), "one");
	await t.throwsAsync(build("networkmode=wide"), {
		message: /network wide spans hosts one, two/,
	});
});

test("an image is pushed from where it has the tag that is asked for", async (t) => {
	const { route } = await startHosts(t, {
		one: withImages([]),
		two: withImages([image(OLD, "reg:5000/app:v1")]),
	});
	t.is(await route("POST", "/images/reg:5000/app/push?tag=v1"), "two");
});

test("all tags of an image are pushed from where images are made, be none of them the latest", async (t) => {
	const { route } = await startHosts(t, {
		two: withImages([]),
		one: withImages([image(OLD, "app:v1")]),
	});
	t.is(await route("POST", "/images/app/push"), "one");
});

test("of an image that is named without a tag only the latest is copied", async (t) => {
	const carried: FakeEngine = (method, url) => {
		if (url.pathname.endsWith("/get")) return "tar";
		return withImages([image(OLD, "app:latest", "app:v1")])(method, url);
	};
	const loading: FakeEngine = (method, url) =>
		url.pathname === "/images/load" ? "" : withImages([])(method, url);
	const { services, asked } = await startHosts(t, {
		one: carried,
		two: loading,
	});
	await imageCarrier(services.cluster, new Images(services))("app", "two");
	t.deepEqual(
		asked.one?.filter((each) => each.endsWith("/get")),
		["GET /images/app%3Alatest/get"],
	);
});

test("no copy goes over a name that its host is just giving, by a load: it would undo that", async (t) => {
	const at = Date.parse("2027-01-01");
	const key = "arpanet/images/app:1";
	const request = "arpanet/tagging/two/load";
	const values: Record<string, unknown> = {
		[key]: { host: "one", id: NEW, at },
		[request]: { host: "two", at: "" },
	};
	const engines = {
		one: withImages([image(NEW, "app:1")]),
		two: withImages([image(OLD, "app:1")]),
	};
	const { services, asked } = await startHosts(t, engines, storeOf(values));
	const bringing = imageCarrier(services.cluster, new Images(services))(
		"app:1",
		"two",
	);
	await setTimeout(200);
	values[key] = { host: "two", id: OLD, at: at + 1 };
	delete values[request];
	await bringing;
	t.deepEqual(
		asked.one?.filter((each) => each.endsWith("/get")),
		[],
	);
});

test("an image that a container mounts comes to where the container is made, as its own does", async (t) => {
	const held = [image(NEW, "app:latest"), image(OLD, "data:latest")];
	const { route, asked } = await startHosts(t, {
		one: (method, url) =>
			url.pathname.endsWith("/get") ? "tar" : withImages(held)(method, url),
		two: (method, url) =>
			url.pathname === "/images/load" ? "" : withImages([])(method, url),
	});
	const create = {
		Image: "app",
		Labels: { "arpanet.host": "two" },
		HostConfig: {
			Mounts: [
				{ Type: "image", Source: "data", Target: "/data" },
				{ Type: "volume", Source: "app", Target: "/app" },
			],
		},
	};
	const body = JSON.stringify(create);
	t.is(await route("POST", "/containers/create", body), "two");
	t.deepEqual(
		asked.one?.filter((each) => each.endsWith("/get")).sort(),
		["app", "data"].map((name) => `GET /images/${name}%3Alatest/get`),
	);
});

test("what was made since an image, or before it, is listed from hosts that lack that one, too", async (t) => {
	const { route } = await startHosts(t, {
		one: withImages([image(NEW, "new:latest")]),
		two: withImages([image(OLD, "old:latest")]),
	});
	const list = (filters: object) =>
		route(
			"GET",
			`/images/json?filters=${encodeURIComponent(JSON.stringify(filters))}`,
		) as Promise<Image[]>;
	const ids = (images: Image[]) => images.map(({ Id }) => Id);
	t.deepEqual(ids(await list({ since: ["old:latest"] })), [NEW]);
	t.deepEqual(ids(await list({ before: ["new:latest"] })), [OLD]);
	await t.throwsAsync(list({ since: ["none:latest"] }), {
		message: /No such image: none:latest/,
	});
});
