import test from "ava";
import { matches } from "../../gateway/treatments/query.ts";
import { isAsked, readQuery } from "../../gateway/view/query.ts";
import { rowsOf } from "../../gateway/view/rows.ts";
import {
	humanDuration,
	type State,
	statusAt,
	wordingOf,
} from "../../gateway/view/status.ts";

/** As an engine 20.10 answered `GET /containers/json?all=1`. */
const RECORDED = String.raw`[{"Id":"3dc998d2a0502d35ee81c3a9f77dc8e74b7abb578bb48cdb054a2e13fefe2fd2","Names":["/r1"],"Image":"busybox","ImageID":"sha256:2b80384a55597146c4e8b8d91ddc1efb9d9f80abf615d1d9052b6fea094167b9","Command":"sh -c 'echo \"Status\":\"x\" \\\\'","Created":1795462168,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":32772,"Type":"tcp"}],"Labels":{"10":"\u003c\u0026\u003e","9":"Status","Status":"é","a":"}]"},"State":"running","Status":"Up 5 seconds","HostConfig":{"NetworkMode":"default"},"NetworkSettings":{"Networks":{}},"Mounts":[]},{"Id":"8aa13eafdb075cb453ff70b9a53a6d3053945adb237b99e0c3671e9014b52b4a","Names":["/interesting_joliot"],"State":"created","Status":"","Mounts":[]}]
`;

test("the rows of a recorded answer are its text, each with its status apart", (t) => {
	const rows = rowsOf(RECORDED);
	t.deepEqual(
		rows.map(({ status }) => status),
		["Up 5 seconds", ""],
	);
	const texts = rows.map(({ head, status, tail }) => head + status + tail);
	t.is(`[${texts.join(",")}]\n`, RECORDED);
	t.true(rows[0]?.head.endsWith('"State":"running","Status":"'));
	t.deepEqual(rowsOf("[]\n"), []);
});

const NEVER = "0001-01-01T00:00:00Z";
const AT = "2026-11-23T19:29:28.123456789Z";
const running: State = {
	Status: "running",
	Running: true,
	Paused: false,
	Restarting: false,
	Dead: false,
	ExitCode: 0,
	StartedAt: AT,
	FinishedAt: NEVER,
};
const exited: State = {
	...running,
	Status: "exited",
	Running: false,
	ExitCode: 137,
	FinishedAt: AT,
};

for (const [state, words] of [
	[running, "Up 5 seconds"],
	[
		{ ...running, Health: { Status: "starting" } },
		"Up 5 seconds (health: starting)",
	],
	[{ ...running, Health: { Status: "unhealthy" } }, "Up 5 seconds (unhealthy)"],
	[{ ...running, Paused: true }, "Up 5 seconds (Paused)"],
	[
		{ ...running, Restarting: true, ExitCode: 1, FinishedAt: AT },
		"Restarting (1) 5 seconds ago",
	],
	[exited, "Exited (137) 5 seconds ago"],
	[{ ...exited, Status: "created", StartedAt: NEVER }, "Created"],
	[{ ...exited, Status: "removing" }, "Removal In Progress"],
	[{ ...exited, Status: "dead", Dead: true }, "Dead"],
	[{ ...exited, FinishedAt: NEVER }, ""],
] as [State, string][]) {
	test(`a container's status in words: ${words || "nothing"}`, (t) => {
		t.is(statusAt(wordingOf(state), Date.parse(AT) + 5_500), words);
	});
}

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
test("times are said as Docker says them", (t) => {
	// the table of docker/go-units, duration_test.go, and its edges
	for (const [time, words] of [
		[450, "Less than a second"],
		[-5 * SECOND, "Less than a second"],
		[SECOND, "1 second"],
		[45 * SECOND, "45 seconds"],
		[46.9 * SECOND, "46 seconds"],
		[MINUTE, "About a minute"],
		[119 * SECOND, "About a minute"],
		[3 * MINUTE + 40 * SECOND, "3 minutes"],
		[59.9 * MINUTE, "59 minutes"],
		[HOUR, "About an hour"],
		[HOUR + 45 * MINUTE, "2 hours"],
		[3 * HOUR + 40 * MINUTE, "4 hours"],
		[47.4 * HOUR, "47 hours"],
		[48 * HOUR, "2 days"],
		[7 * DAY, "7 days"],
		[13 * DAY + 5 * HOUR, "13 days"],
		[2 * 7 * DAY, "2 weeks"],
		[2 * 7 * DAY + 4 * DAY, "2 weeks"],
		[3 * 30 * DAY, "3 months"],
		[23 * 30 * DAY, "23 months"],
		[24 * 30 * DAY, "24 months"],
		[24 * 31 * DAY, "2 years"],
		[3 * 365 * DAY + 40 * DAY, "3 years"],
	] as [number, string][]) {
		t.is(humanDuration(time), words, `${time}`);
	}
});

const web = {
	running: true,
	state: "running",
	labels: { team: "a", role: "" },
};
const old = { running: false, state: "exited", labels: {} };
for (const [query, shown] of [
	["", [web]],
	["?all=1", [web, old]],
	["?all=False", [web]],
	["?limit=1", [web, old]],
	["?limit=-1", [web]],
	['?all=1&filters={"label":["team"]}', [web]],
	['?all=1&filters={"label":["team=a","role="]}', [web]],
	['?all=1&filters={"label":{"team=a":true}}', [web]],
	['?all=1&filters={"label":["team=b"]}', []],
	['?all=1&filters={"label":["constructor"]}', []],
	['?filters={"status":["exited","paused"]}', [old]],
] as const) {
	test(`which containers are asked for by "${query}"`, (t) => {
		const asked = readQuery(query);
		if (!asked) return t.fail("only the engine can tell");
		t.deepEqual(
			[web, old].filter((each) => isAsked(each, asked)),
			[...shown],
		);
	});
}

test("what the engine may refuse is left to it", (t) => {
	t.is(readQuery("?limit=many"), undefined);
	t.is(readQuery("?filters=nonsense"), undefined);
	t.is(readQuery('?filters={"status":["nonsense"]}'), undefined);
	t.is(readQuery('?filters={"label":[1]}'), undefined);
	const asked = readQuery('?size=1&filters={"health":["none"]}');
	t.deepEqual(asked?.others, { health: ["none"] });
	t.true(asked?.size);
	const odd = readQuery('?filters={"__proto__":["x"]}');
	t.deepEqual(Object.keys(odd?.others ?? {}), ["__proto__"]);
});

test("a filter's value is a regular expression as the engine has them, and no text is too long for one", (t) => {
	const id = "0123456789abcdef".repeat(4);
	t.true(matches(id, ["none", "^0123"]));
	t.true(matches("Front", ["(?i)^front$"]));
	t.false(matches(id, ["([0-9a-f]+)+!"]));
	t.true(matches("a(b", ["a("]), "what is none is a part of the text");
});
