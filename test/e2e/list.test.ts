import test, { type ExecutionContext } from "ava";
import { HttpClient } from "../../pipeline/http-client.ts";
import { random, Stage } from "./stage.ts";

let stage: Stage;
let engine: HttpClient;
let gateway: HttpClient;

test.before(async () => {
	stage = await Stage.start();
	engine = new HttpClient({ socketPath: stage.host.socketPath });
	gateway = new HttpClient({ host: stage.host.address, port: 2375 });
});
test.after.always(async () => {
	engine?.close();
	gateway?.close();
	await stage?.stop();
});

interface Answer {
	status: number;
	/** By name in small letters. */
	headers: Record<string, string | undefined>;
	text: string;
}

async function ask(
	client: HttpClient,
	method: "GET" | "POST" | "DELETE",
	path: string,
	body?: object,
): Promise<Answer> {
	const { status, headers, text } = await client.ask({
		method,
		path,
		...(body && {
			body: JSON.stringify(body),
			headers: { "content-type": "application/json" },
		}),
	});
	const pairs = headers.flatMap((name, at) =>
		at % 2 === 0 ? [[name.toLowerCase(), headers[at + 1]]] : [],
	);
	return { status, headers: Object.fromEntries(pairs), text };
}

const QUERIES = [
	"",
	"?all=1",
	"?all=true",
	"?limit=2",
	"?limit=-1&all=0",
	"?size=1&all=1",
	filtered("?all=1", { label: ["team=a"] }),
	filtered("?all=1", { label: { team: true } }),
	filtered("", { status: ["exited", "created"] }),
	filtered("?all=1", { since: ["c0"] }),
	filtered("?all=1", { before: ["c1"] }),
	filtered("", { since: ["c1"] }),
	filtered("?limit=2", { since: ["c0"], label: ["team"] }),
	filtered("?all=1", { name: ["c1", "^/c2$"] }),
	filtered("?all=1", { network: ["more"] }),
	filtered("", { nonsense: ["x"] }),
	filtered("", { status: ["nonsense"] }),
	"?limit=many",
	"?filters=nonsense",
];

function filtered(query: string, filters: object): string {
	const text = encodeURIComponent(JSON.stringify(filters));
	return `${query || "?"}&filters=${text}`;
}

/** A list without its times: Node's clock tells milliseconds, and a second may have just begun. */
function timeless(text: string): string {
	return text.replace(/("Status":"[A-Z][a-z]+ (?:\(\d+\) )?)[^"(]*/g, "$1");
}

/** Whether the engine tells of anything since a moment: a container may have run between two lists that say that it does not. */
async function happened(since: number): Promise<boolean> {
	const until = (Date.now() / 1000).toFixed(3);
	const query = `since=${(since / 1000).toFixed(3)}&until=${until}`;
	return (await ask(engine, "GET", `/events?${query}`)).text !== "";
}

/** What is around the first difference of two long texts; of equal ones, their ends. */
function whereTheyDiffer(a: string, b: string): [string, string] {
	let at = 0;
	while (at < a.length && a[at] === b[at]) at++;
	const [from, to] = [Math.max(0, at - 200), at + 200];
	return [a.slice(from, to), b.slice(from, to)];
}

/**
 * The gateway's list is the engine's to the byte, unless something happens meanwhile: then once more.
 * @returns whether the gateway answered itself
 */
async function same(t: ExecutionContext, path: string): Promise<boolean> {
	for (let tries = 0; ; tries++) {
		const start = Date.now();
		const before = await ask(engine, "GET", path);
		const seen = await ask(gateway, "GET", path);
		const after = await ask(engine, "GET", path);
		if (seen.text !== after.text && seen.text !== before.text) {
			const ticked = [before, after].some(
				({ text }) => timeless(text) === timeless(seen.text),
			);
			const moving = before.text !== after.text || (await happened(start));
			if (moving ? tries < 20 : ticked && tries < 3) continue;
		}
		t.is(seen.status, after.status, path);
		if (seen.text !== before.text) {
			t.deepEqual(...whereTheyDiffer(seen.text, after.text), path);
		}
		for (const name of ["api-version", "content-type", "ostype", "server"]) {
			t.is(seen.headers[name], after.headers[name], name);
		}
		const long = seen.text.length > 2048; // the engine sends such a body in chunks
		return long && seen.headers["content-length"] !== undefined;
	}
}

const NAMES = ["c0", "c1", "c2", "c3", "c4", "c5"];
const HEALTHCHECK = {
	Test: ["CMD", "true"],
	Interval: 1e9,
	StartPeriod: 1e9,
};

/** What a client may do to a container, in calls of the API. */
const DEEDS: ((name: string, number: number) => Parameters<typeof ask>[])[] = [
	(name, number) => [
		[
			engine,
			"POST",
			`/containers/create?name=${name}`,
			{
				Image: number % 2 ? "busybox" : "moving:1",
				Cmd: number % 3 ? ["sleep", "1000"] : ["sh", "-c", "exit 3"],
				Labels: {
					team: number % 2 ? "a" : "b",
					"10": "<&>\u2028",
					"9": "é",
					// every list with a container in it is long enough to see who answered
					long: "x".repeat(2048),
				},
				StopTimeout: 0,
				// of several ports the engine itself writes now one first, now another
				ExposedPorts: number % 2 ? { "80/tcp": {} } : {},
				HostConfig: {
					PortBindings: number % 2 ? { "80/tcp": [{ HostPort: "" }] } : {},
					RestartPolicy: { Name: number % 5 ? "no" : "always" },
					Links: name === "c5" ? ["c1:alias"] : [],
				},
				...(number % 4 ? {} : { Healthcheck: HEALTHCHECK }),
			},
		],
		[engine, "POST", `/containers/${name}/start`],
	],
	(name) => [[engine, "POST", `/containers/${name}/start`]],
	(name) => [[engine, "POST", `/containers/${name}/stop?t=0`]],
	(name) => [[engine, "POST", `/containers/${name}/kill`]],
	(name) => [[engine, "POST", `/containers/${name}/pause`]],
	(name) => [[engine, "POST", `/containers/${name}/unpause`]],
	(name) => [[engine, "POST", `/containers/${name}/restart?t=0`]],
	(name, number) => [
		[
			engine,
			"POST",
			`/containers/${name}/rename?name=${NAMES[number % NAMES.length]}`,
		],
	],
	(name) => [[engine, "POST", "/networks/more/connect", { Container: name }]],
	(name) => [
		[
			engine,
			"POST",
			"/networks/more/disconnect",
			{ Container: name, Force: true },
		],
	],
	(_, number) => [
		[
			engine,
			"POST",
			`/images/${number % 2 ? "busybox" : "redis"}/tag?repo=moving&tag=1`,
		],
	],
	(name) => [[engine, "DELETE", `/containers/${name}?force=1`]],
];

/** While one restarts again and again the engine answers itself: see `HostView`. */
async function removeRestarting(): Promise<void> {
	const path = `/containers/json${filtered("", { status: ["restarting"] })}`;
	const { text } = await ask(engine, "GET", path);
	for (const { Id } of JSON.parse(text) as { Id: string }[]) {
		await ask(engine, "DELETE", `/containers/${Id}?force=1`);
	}
}

test("the list is the engine's to the byte, whatever happens to containers by whatever way", async (t) => {
	t.log(`SEED=${stage.seed}`);
	const below = random(stage.seed);
	await ask(engine, "POST", "/networks/create", { Name: "more" });
	await ask(engine, "POST", "/images/busybox/tag?repo=moving&tag=1");
	const [create, ...deeds] = DEEDS as [
		(typeof DEEDS)[0],
		...(typeof DEEDS)[0][],
	];
	let own = 0;
	for (let round = 0; round < 60; round++) {
		const name = NAMES[below(NAMES.length)] as string;
		const deed =
			round < 4 || below(4) === 0 ? create : deeds[below(deeds.length)];
		for (const [pool, ...call] of deed?.(name, below(60)) ?? []) {
			// networks of a container that does not run are no event: only this gateway knows at once
			const through =
				below(2) === 0 || /connect/.test(call[1]) ? gateway : pool;
			await ask(through, ...call);
			if (await same(t, "/containers/json?all=1")) own++;
		}
		const version = ["", "/v1.24", "/v1.41", "/v1.99"][below(4)];
		const query = QUERIES[below(QUERIES.length)];
		if (await same(t, `${version}/containers/json${query}`)) own++;
		if (await same(t, "/containers/json?all=1")) own++;
		if (round % 10 === 9) await removeRestarting();
	}
	t.true(own > 20, `the gateway answered only ${own} lists itself`);
	for (const query of QUERIES) await same(t, `/v1.41/containers/json${query}`);
});
