import test from "ava";
import { HttpClient } from "../../pipeline/http-client.ts";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { Cluster, filters, put, urlOf } from "./open-cluster.ts";
import { eventually, until } from "./stage.ts";

let cluster: Cluster;

test.before(async () => {
	cluster = await Cluster.start();
});
test.after.always(() => cluster?.stop());
showComplaints(() => cluster?.gateways ?? []);

test.serial(
	"one list of all hosts, with Docker's order and filters over the whole",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		await put(h1, "a1", "-l", "team=a", "-p", "8001:80");
		await put(h2, "b2", "-l", "team=b", "-p", "127.0.0.1:8002:80");
		await put(h3, "a3", "-l", "team=a", "-P", "--expose", "80");
		await put(h1, "b4", "-l", "team=b");
		await cluster.cli("stop", "b2");
		for (const _ of cluster.gateways) {
			t.deepEqual(await cluster.names(""), ["b4", "a3", "a1"]);
			t.deepEqual(await cluster.names("all=1"), ["b4", "a3", "b2", "a1"]);
			t.deepEqual(await cluster.names("limit=3"), ["b4", "a3", "b2"]);
			t.deepEqual(
				await cluster.names(`all=1&${filters({ label: ["team=a"] })}`),
				["a3", "a1"],
			);
			t.deepEqual(await cluster.names(filters({ status: ["exited"] })), ["b2"]);
			t.deepEqual(await cluster.names(`all=1&${filters({ since: ["b2"] })}`), [
				"b4",
				"a3",
			]);
			t.deepEqual(await cluster.names(`all=1&${filters({ before: ["a3"] })}`), [
				"b2",
				"a1",
			]);
			t.deepEqual(
				await cluster.names(
					`all=1&${filters({ before: ["a3"], name: ["a"] })}`,
				),
				["a1"],
			);
			t.deepEqual(
				await cluster.names(
					`all=1&size=1&limit=1&${filters({ name: ["2", "3"] })}`,
				),
				["a3"],
			);
		}
		for (const query of [
			filters({ nonsense: ["x"] }),
			filters({ since: ["nobody"] }),
			"limit=x",
		]) {
			const path = `/containers/json?${query}`;
			const engine = await docker(h1, ["ps", "--filter", "nonsense=x"]);
			t.not(engine.code, 0);
			const own = await fetchEngine(h1, path);
			t.deepEqual(await cluster.api("GET", path), own);
		}
	},
);

/** The engine's own answer. */
async function fetchEngine(host: Host, path: string): Promise<unknown> {
	const client = new HttpClient({ socketPath: host.socketPath });
	const { status, text } = await client.ask({ method: "GET", path });
	client.close();
	return { status, body: JSON.parse(text) };
}

test.serial(
	"the order is that of creation, to the millisecond, also where the engines apply a filter",
	async (t) => {
		const order: string[] = [];
		for (let i = 0; i < 6; i++) {
			const host = cluster.hosts[(i * 2) % 3] as Host;
			const name = `o${(i * 5) % 7}`;
			await put(host, name);
			order.unshift(name);
		}
		for (const _ of cluster.gateways) {
			t.deepEqual(await cluster.names(filters({ name: ["^/o"] })), order);
		}
		const [newest = "", second = ""] = order;
		for (const _ of cluster.gateways) {
			const since = filters({ name: ["^/o"], since: [second] });
			t.deepEqual(await cluster.names(since), [newest]);
		}
		await cluster.cli("rm", "-f", ...order);
	},
);

test.serial(
	"whoever writes through one gateway reads it through another",
	async (t) => {
		for (let i = 0; i < 12; i++) {
			await cluster.api("POST", "/containers/a3/rename?name=renamed");
			t.deepEqual(await cluster.names("limit=2"), ["b4", "renamed"]);
			await cluster.api("POST", "/containers/renamed/rename?name=a3");
			t.deepEqual(await cluster.names("limit=2"), ["b4", "a3"]);
			await cluster.api("POST", "/containers/a3/pause");
			t.deepEqual(await cluster.names(filters({ status: ["paused"] })), ["a3"]);
			await cluster.api("POST", "/containers/a3/unpause");
			t.deepEqual(await cluster.names(filters({ status: ["paused"] })), []);
		}
	},
);

test.serial("published ports and inspect tell of the host", async (t) => {
	const [h1, h2, h3] = cluster.hosts;
	t.is(await cluster.cli("port", "a1", "80"), `${h1.address}:8001`);
	t.regex(
		await cluster.cli("ps", "--filter", "name=a1", "--format", "{{.Ports}}"),
		new RegExp(`^${h1.address}:8001->80/tcp$`),
	);
	t.regex(
		await cluster.cli("port", "a3", "80"),
		new RegExp(`^${h3.address}:\\d+$`),
	);
	await cluster.cli("start", "b2");
	t.is(await cluster.cli("port", "b2", "80"), "127.0.0.1:8002");
	const { body } = await cluster.api("GET", "/containers/b2/json");
	t.like(body.Node, {
		ID: "h2",
		Name: "h2",
		IP: h2.address,
		Addr: `${h2.address}:2377`,
	});
	t.true(body.Node.Cpus > 0 && body.Node.Memory > 0);
	const id = await cluster.cli("ps", "-q", "--no-trunc", "--filter", "name=b2");
	t.is(await cluster.cli("inspect", "-f", "{{.Id}}", id.slice(0, 10)), id);
});

test.serial(
	"what several ids begin with is ambiguous, on whatever hosts they are",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		const ids = new Map<Host, string[]>();
		for (const host of cluster.hosts) {
			const { stdout } = await docker(host, ["ps", "-aq", "--no-trunc"]);
			ids.set(host, stdout.trim().split("\n"));
		}
		const count = (host: Host, start: string) =>
			ids.get(host)?.filter((id) => id.startsWith(start)).length ?? 0;
		const digits = [..."0123456789abcdef"];
		const made: [Host, string][] = [];
		let onTwo: string | undefined;
		let onOne: string | undefined;
		while (!onTwo || !onOne) {
			for (const host of [h2, h3]) {
				const { stdout } = await docker(host, ["create", "busybox"]);
				made.push([host, stdout.trim()]);
				ids.get(host)?.push(stdout.trim());
			}
			const starts = digits
				.flatMap((digit) => [digit, ...digits.map((other) => digit + other)])
				.filter((start) => count(h1, start) === 0)
				.filter((start) => !/^[ab]\d$/.test(start)); // names that were given above
			onTwo = starts.find(
				(start) => count(h2, start) === 1 && count(h3, start) === 1,
			);
			onOne = starts.find(
				(start) => count(h2, start) === 2 && count(h3, start) === 0,
			);
		}
		const said = await fetchEngine(h2, `/containers/${onOne}/json`);
		for (const _ of cluster.gateways) {
			const { status, body } = await cluster.api(
				"GET",
				`/containers/${onTwo}/json`,
			);
			const message = `Multiple IDs found with provided prefix: ${onTwo}`;
			t.deepEqual({ status, body }, { status: 500, body: { message } });
			t.deepEqual(await cluster.api("GET", `/containers/${onOne}/json`), said);
			t.deepEqual(
				await cluster.api("POST", `/containers/${onOne}/start`),
				said,
			);
		}
		for (const [host, id] of made) await docker(host, ["rm", id]);
	},
);

test.serial(
	"a name is one container's in the whole cluster, also of creates at once",
	async (t) => {
		const create = { Image: "busybox", Cmd: ["sleep", "1000"] };
		const taken = await cluster.api(
			"POST",
			"/containers/create?name=a3",
			create,
		);
		const id = await cluster.cli(
			"ps",
			"-q",
			"--no-trunc",
			"--filter",
			"name=a3",
		);
		const conflict = (name: string, by: string) =>
			`Conflict. The container name "/${name}" is already in use by container "${by}". You have to remove (or rename) that container to be able to reuse that name.`;
		t.deepEqual(taken, { status: 409, body: { message: conflict("a3", id) } });
		const many = await Promise.all(
			Array.from({ length: 9 }, () =>
				cluster.api("POST", "/containers/create?name=only", create),
			),
		);
		const made = many.filter(({ status }) => status === 201);
		t.is(made.length, 1);
		for (const { status, body } of many) {
			if (status === 201) continue;
			t.deepEqual(
				{ status, body },
				{ status: 409, body: { message: conflict("only", made[0]?.body.Id) } },
			);
		}
		t.deepEqual(await cluster.names(`all=1&${filters({ name: ["only"] })}`), [
			"only",
		]);
		const renamed = await cluster.api(
			"POST",
			"/containers/only/rename?name=a3",
		);
		t.deepEqual(renamed, {
			status: 409,
			body: {
				message: `Error when allocating new name: ${conflict("a3", id)}`,
			},
		});
		t.is(
			(await cluster.api("POST", "/containers/only/rename?name=other")).status,
			204,
		);
		t.is((await cluster.api("DELETE", "/containers/other")).status, 204);
		// what is left is the names of those that were made at the engines
		const foreign = ["a1", "a3", "b2", "b4"];
		t.deepEqual(await eventually(keptNames, isExactly(foreign)), foreign);
	},
);

/** The names of which no record tells, as Consul has them. */
async function keptNames(): Promise<string[]> {
	const prefix = "arpanet/names/";
	const answer = await fetch(`${cluster.hosts[0].consul}/v1/kv/${prefix}?keys`);
	const keys = answer.status === 404 ? [] : ((await answer.json()) as string[]);
	return keys.map((key) => key.slice(prefix.length)).sort();
}

function isExactly(wanted: string[]): (found: string[]) => boolean {
	return (found) => found.join() === wanted.join();
}

test.serial(
	"so is that of a container made at an engine, or without arpanet's plugins",
	async (t) => {
		const [, h2] = cluster.hosts;
		const create = { Image: "busybox", Cmd: ["sleep", "1000"] };
		const disabled = { ...create, Labels: { "arpanet.enabled": "false" } };
		await put(h2, "foreign");
		await until(keptNames, (kept) => kept.includes("foreign"));
		const id = await cluster.cli(
			"ps",
			"-q",
			"--no-trunc",
			"--filter",
			"name=foreign",
		);
		for (const gateway of cluster.gateways) {
			for (const body of [create, disabled]) {
				const path = "/containers/create?name=foreign";
				const taken = await cluster.api("POST", path, body, gateway);
				t.is(taken.status, 409);
				t.true(taken.body.message.includes(`in use by container "${id}"`));
			}
		}
		const renamed = await cluster.api(
			"POST",
			"/containers/a1/rename?name=foreign",
		);
		t.is(renamed.status, 409);
		// gone behind arpanet's back: the name is free at once
		await docker(h2, ["rm", "-f", "foreign"]);
		t.is(
			(await cluster.api("POST", "/containers/create?name=foreign", create))
				.status,
			201,
		);
		await cluster.cli("rm", "foreign");

		const many = await Promise.all(
			Array.from({ length: 12 }, (_, i) =>
				cluster.api(
					"POST",
					"/containers/create?name=one",
					i % 2 ? create : disabled,
				),
			),
		);
		t.deepEqual(
			many.map(({ status }) => status).sort(),
			[201, ...Array(11).fill(409)],
			many.map(({ body }) => body.message).join("\n"),
		);
		t.deepEqual(await cluster.names(`all=1&${filters({ name: ["one"] })}`), [
			"one",
		]);
		await cluster.cli("rm", "one");
	},
);

test.serial(
	"an exec is made at one gateway, started at another and inspected at a third",
	async (t) => {
		const { body } = await cluster.api("POST", "/containers/b2/exec", {
			Cmd: ["sh", "-c", "exit 7"],
			AttachStdout: true,
		});
		const path = `/exec/${body.Id}/start`;
		const started = await cluster.api("POST", path, { Detach: true });
		t.is(started.status, 200);
		const inspected = await eventually(
			() => cluster.api("GET", `/exec/${body.Id}/json`),
			({ body }) => body.Running === false,
		);
		t.is(inspected.body.ExitCode, 7);
		t.is(
			await cluster.cli("exec", "b2", "hostname"),
			await cluster.cli("inspect", "-f", "{{.Config.Hostname}}", "b2"),
		);
	},
);

test.serial(
	"events end when until has passed, in the order of their times",
	async (t) => {
		const since = Date.now() / 1000 - 600;
		const query = `since=${since}&until=${Math.ceil(Date.now() / 1000)}&${filters({ type: ["container"], event: ["create", "start"] })}`;
		const answer = await fetch(urlOf(cluster.next(), `/events?${query}`));
		const events = (await answer.text())
			.trim()
			.split("\n")
			.map((line) => JSON.parse(line));
		const seen = events.map(({ Actor }) => Actor.Attributes.name);
		for (const name of ["a1", "b2", "a3", "b4"])
			t.true(seen.includes(name), name);
		t.true(
			events.every(({ time }, i) => i === 0 || time >= events[i - 1].time),
		);
	},
);

test.serial(
	"volumes of all hosts are one list, and are removed and pruned wherever they are",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		for (const host of cluster.hosts) {
			await docker(host, ["volume", "create", `at-${host.name}`]);
		}
		await docker(h1, ["volume", "create", "both"]);
		await put(h2, "keeper", "-v", "both:/data");
		const list = async (...args: string[]) =>
			(await cluster.cli("volume", "ls", "-q", ...args)).split("\n");
		for (const _ of cluster.gateways) {
			t.deepEqual(await list(), ["at-h1", "at-h2", "at-h3", "both"]);
			t.deepEqual(await list("--filter", "name=h2"), ["at-h2"]);
			t.deepEqual(await list("--filter", "dangling=false"), ["both"]);
			const inspect = ["volume", "inspect", "-f", "{{.Name}}"];
			t.is(await cluster.cli(...inspect, "at-h1", "at-h3"), "at-h1\nat-h3");
			t.deepEqual(await cluster.names(filters({ volume: ["both"] })), [
				"keeper",
			]);
		}
		const used = await cluster.api("DELETE", "/volumes/both");
		t.is(used.status, 409);
		t.regex(used.body.message, /volume is in use/);
		const left = await docker(h1, ["volume", "ls", "-q"]);
		t.true(left.stdout.includes("both"), "all of it or nothing");
		await cluster.cli("volume", "rm", "at-h3");
		const pruned = await cluster.api("POST", "/v1.41/volumes/prune");
		t.deepEqual(pruned.body.VolumesDeleted.sort(), ["at-h1", "at-h2", "both"]);
		t.is(typeof pruned.body.SpaceReclaimed, "number");
		t.deepEqual(await list(), ["both"]);
		await cluster.cli("rm", "-f", "keeper");
		await cluster.cli("volume", "rm", "both");
		t.deepEqual(await list(), [""]);
	},
);

test.serial("system df and prune are of all hosts", async (t) => {
	await cluster.cli("stop", "a1", "b2", "a3");
	const usage = await cluster.api("GET", "/system/df");
	t.is(usage.body.Containers.length, 4);
	t.true(usage.body.LayersSize > 0);
	const info = await cluster.api("GET", "/info");
	t.is(info.body.ContainersStopped, 3);
	const pruned = await cluster.api("POST", "/containers/prune");
	t.is(pruned.body.ContainersDeleted.length, 3);
	t.is(typeof pruned.body.SpaceReclaimed, "number");
	t.deepEqual(await cluster.names("all=1"), ["b4"]);
	t.is((await cluster.api("POST", "/build/prune")).status, 200);
	t.is((await cluster.api("POST", "/images/prune")).status, 200);
	t.is(
		(await cluster.api("POST", `/images/prune?${filters({ nonsense: ["x"] })}`))
			.status,
		400,
	);
	t.regex(
		(await cluster.api("GET", "/services")).body.message,
		/not a swarm manager/,
	);
});
