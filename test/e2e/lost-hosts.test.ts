import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import {
	addresses,
	hostWith,
	Members,
	resolved,
	untilResolved,
} from "./members.ts";
import { eventually, until } from "./stage.ts";

/** DNS forgets a lost host, and knows one that is back, within ten seconds (docs/faults.md); Consul's elections take longer on a busy machine. */
const LIMIT_S = 20;

let members: Members;

test.before(async () => {
	members = await Members.start();
});
showComplaints(() => members?.arpanets ?? [], /"level":[45]0|lead/);
test.after.always(() => members?.stop());

/** A host other than this one that does not lead Consul either: without it nobody elects. */
async function follower(leads: Host): Promise<Host> {
	const answer = await fetch(`${leads.consul}/v1/status/leader`);
	const elected = String(await answer.json());
	return members.hosts.find(
		(host) => host !== leads && !elected.startsWith(`${host.address}:`),
	) as Host;
}

test.serial(
	"a host without power is out of DNS in ten seconds, also if its agent led; it comes back with its containers",
	async (t) => {
		await members.copies(t, "abc", 3);
		const lost = await members.leader();
		const rest = members.hosts.filter((host) => host !== lost);
		const all = await addresses(members.hosts, "abc");
		await untilResolved(t, members.hosts, "abc", all);
		const left = await addresses(rest, "abc");
		t.is(left.length, 2);
		await lost.crash();
		const seconds = await untilResolved(t, rest, "abc", left);
		t.log(`out of DNS after ${seconds.toFixed(1)} s`);
		t.true(seconds < LIMIT_S, `${seconds} s`);
		t.not(await members.leader(lost), lost);
		const { stdout } = await members.command(rest[0] as Host, "hosts");
		t.regex(stdout, new RegExp(`^${lost.name} .* lost `, "m"));
		const removal = await members.command(
			rest[0] as Host,
			"host",
			"rm",
			lost.name,
		);
		t.regex(removal.stderr, /has 1 containers on record; .* --force/);

		await lost.boot();
		await members.startAgain(lost);
		const { stdout: again } = await docker(lost, ["ps", "-aq"]);
		for (const id of again.split("\n").filter(Boolean)) {
			t.is((await docker(lost, ["start", id])).code, 0);
		}
		await untilResolved(t, members.hosts, "abc", all);
	},
);

test.serial(
	"a host that is cut off is out of DNS in ten seconds, and back with all it had in ten more; the second time, too",
	async (t) => {
		await members.consulIsWhole();
		const leads = await members.leader();
		const cut = members.hosts.find((host) => host !== leads) as Host;
		const rest = members.hosts.filter((host) => host !== cut);
		const all = await addresses(members.hosts, "abc");
		const left = await addresses(rest, "abc");
		for (const time of ["first", "second"]) {
			await cut.unplug();
			const out = await untilResolved(t, rest, "abc", left);
			await cut.plug();
			const back = await untilResolved(t, members.hosts, "abc", all);
			t.log(
				`${time}: out after ${out.toFixed(1)} s, back after ${back.toFixed(1)} s`,
			);
			t.true(out < LIMIT_S, `${out} s`);
			t.true(back < LIMIT_S, `${back} s`);
			await members.consulIsWhole();
		}
		t.deepEqual(await addresses(members.hosts, "abc"), all);
	},
);

test.serial(
	"without its arpanet a host is not lost: its containers run and DNS answers for them",
	async (t) => {
		const all = await addresses(members.hosts, "abc");
		const leads = await members.leader();
		const away = members.hosts.find((host) => host !== leads) as Host;
		await members.gateway(away).stop("SIGKILL");
		const until = performance.now() + 12_000;
		while (performance.now() < until) {
			t.deepEqual(await resolved(leads, "abc"), all);
			await sleep(200);
		}
		await members.startAgain(away);
	},
);

/** What a copy's own web server says that it is: the start of its id. */
async function asked(from: Host, client: string, address: string) {
	const { stdout } = await docker(from, [
		...["exec", client, "timeout", "1", "wget", "-q", "-O", "-"],
		`http://${address}/hostname`,
	]);
	return stdout.trim();
}

test.serial(
	"a lost host's containers are started elsewhere if they ask for it, and what it still has of them is stopped before anybody hears of it",
	async (t) => {
		await members.consulIsWhole();
		await members.allAreHeard(); // one that slept is given nothing
		const leads = await members.leader();
		const cut = await follower(leads);
		const rest = members.hosts.filter((host) => host !== cut);
		const client = members.gateway(leads);
		const run = async (...args: string[]) => {
			const { code, stderr } = await docker(client, ["run", "-d", ...args]);
			t.is(code, 0, stderr);
		};
		const label = ["-l", "arpanet.reschedule=on-host-failure"];
		const copy = (i: number) => [
			...["--name", `mv_web_${i}`, "--init", "--restart", "always", ...label],
			...["-e", "COLOUR=red", "--network-alias", "front"],
		];
		const httpd = ["busybox", "httpd", "-f", "-p", "80", "-h", "/etc"];
		const made = await docker(client, ["network", "create", "mv_back"]);
		t.is(made.code, 0, made.stderr);
		const own = await docker(client, [
			...["network", "create", "mv_default"],
			...["--label", "com.docker.compose.project=mv"],
			...["--label", "com.docker.compose.network=default"],
		]);
		t.is(own.code, 0, own.stderr);
		for (const i of [1, 2, 3]) {
			await run(...copy(i), "--network", "mv_default", ...httpd);
		}
		await run(
			...["--name", "mv_db_1", "--init", "-v", "mv_data:/data", ...label],
			...["-e", `constraint:node==~${cut.name}`, "--network", "mv_default"],
			...["busybox", "sleep", "9999"],
		);
		await run(
			...["--name", "mv_side_1", "--init", ...label],
			...["--network", "container:mv_db_1", "busybox", "sleep", "9999"],
		);
		const explained = await members.command(leads, "explain", "mv_side_1");
		t.regex(explained.stdout, /^elsewhere: +never: it has no address /m);
		const names = ["mv_web_1", "mv_web_2", "mv_web_3"];
		let moved = "";
		for (const name of names) {
			if ((await hostWith([cut], name)) === cut) moved = name;
		}
		t.regex(moved, /^mv_web/, "no copy is on the host that will be lost");
		const joined = await docker(client, [
			"network",
			"connect",
			"mv_back",
			moved,
		]);
		t.is(joined.code, 0, joined.stderr);
		const inspect = async (target: Host) =>
			JSON.parse((await docker(target, ["inspect", moved])).stdout)[0];
		const old = await inspect(cut);
		const address = old.Config.Labels["arpanet.address"];
		const all = await addresses(members.hosts, "mv");
		t.is(all.length, 3);
		await untilResolved(t, members.hosts, "mv", all);
		const [other] = names.filter((name) => name !== moved) as [string];
		const from = (await hostWith(rest, other)) as Host;
		const before = await eventually(
			() => asked(from, other, address),
			(id) => id !== "",
		);
		t.is(before, old.Id.slice(0, 12));

		t.teardown(() => cut.plug()); // also when this fails: the others need it
		await cut.unplug();
		const now = await eventually(
			() => hostWith(rest, moved),
			(host) => host !== undefined,
			60,
		);
		const fresh = await inspect(now as Host);
		t.not(fresh.Id, old.Id);
		t.like(fresh.Config, { Image: old.Config.Image, Cmd: old.Config.Cmd });
		t.true(fresh.Config.Env.includes("COLOUR=red"));
		t.deepEqual(fresh.HostConfig.RestartPolicy, old.HostConfig.RestartPolicy);
		const addressesOf = ({ NetworkSettings }: typeof old) =>
			Object.entries(
				NetworkSettings.Networks as Record<string, { IPAddress: string }>,
			)
				.map(([name, { IPAddress }]) => `${name} ${IPAddress}`)
				.sort();
		t.deepEqual(addressesOf(fresh), addressesOf(old));
		await untilResolved(t, rest, "mv", all);
		const reached = await eventually(
			() => asked(from, other, address),
			(id) => id === fresh.Id.slice(0, 12),
		);
		t.is(reached, fresh.Id.slice(0, 12));
		const why = await members.command(leads, "explain", moved);
		t.regex(why.stdout, new RegExp(`^reschedule: +${cut.name}, .*lost`, "m"));
		const stays = await eventually(
			() => members.command(leads, "explain", "mv_db_1"),
			({ stdout }) => stdout.includes("stayed"),
		);
		const reason = `volume mv_data is on ${cut.name}`;
		t.true(stays.stdout.includes(reason), stays.stdout);
		t.true((await members.command(leads, "ps")).stdout.includes(reason));
		const side = await eventually(
			() => members.command(leads, "explain", "mv_side_1"),
			({ stdout }) => stdout.includes("stayed"),
		);
		t.regex(side.stdout, /^elsewhere: +it stayed on .*: it has no address /m);
		t.true(members.gateway(leads).log().includes(reason));
		const { stdout: listed } = await docker(client, [
			...["ps", "-a", "--filter", `name=${moved}`, "--format", "{{.Names}}"],
		]);
		const rows = listed.split("\n").filter((name) => name === moved);
		t.is(rows.length, 1, listed);

		await cut.plug();
		const aside = `${moved}.superseded-${old.Id.slice(0, 12)}`;
		const heard = new Set<string>();
		const settled = await eventually(
			async () => {
				heard.add(await asked(from, other, address));
				const { stdout } = await docker(cut, [
					...["inspect", "--format"],
					"{{.State.Running}} {{.HostConfig.RestartPolicy.Name}}",
					aside,
				]);
				return stdout.trim();
			},
			(text) => text === "false no",
			60,
		);
		t.is(settled, "false no");
		t.false(heard.has(old.Id.slice(0, 12)), [...heard].join());
		await untilResolved(t, members.hosts, "mv", all);
		// the host is heard again in the network, and its own containers reach the new copy
		const near = await eventually(
			() => asked(cut, "mv_db_1", address),
			(id) => id === fresh.Id.slice(0, 12),
			30,
		);
		t.is(near, fresh.Id.slice(0, 12));
		const again = await docker(client, ["start", aside]);
		t.regex(again.stderr, /was started elsewhere/);
		// past that, once the host is known to be back: it is stopped again
		const started = await eventually(
			() => docker(client, ["start", old.Id]),
			({ code }) => code === 0,
			10,
		);
		t.is(started.code, 0, started.stderr);
		await until(
			() => hostWith([cut], aside),
			(host) => host === undefined,
		);
		t.is((await docker(client, ["rm", "-f", aside])).code, 0);
		const stayed = ["mv_side_1", "mv_db_1"];
		t.is((await docker(client, ["rm", "-f", ...stayed])).code, 0);
		t.truthy(await members.value(`arpanet/containers/${moved}`));
		await untilResolved(t, members.hosts, "mv", all);
		t.is((await docker(client, ["rm", "-f", ...names])).code, 0);
	},
);

test.serial(
	"a host that comes back although it was removed for good stops what was started elsewhere",
	async (t) => {
		await members.consulIsWhole();
		await members.allAreHeard();
		const leads = await members.leader();
		const cut = await follower(leads);
		const rest = members.hosts.filter((host) => host !== cut);
		const client = members.gateway(leads);
		const names = ["rt_web_1", "rt_web_2", "rt_web_3"];
		for (const name of names) {
			const { code, stderr } = await docker(client, [
				...["run", "-d", "--name", name, "--init", "--restart", "always"],
				...["-l", "arpanet.reschedule=on-host-failure"],
				...["busybox", "sleep", "9999"],
			]);
			t.is(code, 0, stderr);
		}
		const all = await addresses(members.hosts, "rt");
		await untilResolved(t, members.hosts, "rt", all);
		const own = [];
		for (const name of names) {
			if ((await hostWith([cut], name)) === cut) own.push(name);
		}
		t.is(own.length, 1, "one copy on each host");

		t.teardown(() => cut.plug());
		await cut.unplug();
		await until(
			() => addresses(rest, "rt"),
			(found) => found.length === all.length,
			60,
		);
		const removed = await eventually(
			() => members.command(leads, "host", "rm", "--force", cut.name),
			({ code }) => code === 0,
			30,
		);
		t.regex(removed.stdout, /is forgotten/, removed.stderr);
		await cut.plug();
		const still = await eventually(
			() => addresses([cut], "rt"),
			(found) => found.length === 0,
			60,
		);
		t.deepEqual(still, []);
		const { stdout } = await docker(cut, [
			...["ps", "-a", "--filter", "name=rt_web", "--format", "{{.Names}}"],
		]);
		t.regex(stdout, new RegExp(`^${own[0]}\\.superseded-`));
		t.deepEqual(await addresses(rest, "rt"), all);
		await untilResolved(t, members.hosts, "rt", all);
		const aside = stdout.trim();
		const { code, stderr } = await docker(client, [
			...["rm", "-f", ...names, aside],
		]);
		t.is(code, 0, stderr);
	},
);

test.serial(
	"what a host had that is removed for good is given back",
	async (t) => {
		const leads = await members.leader();
		const gone = members.hosts.find((host) => host !== leads) as Host;
		const living = await members.command(
			leads,
			"host",
			"rm",
			"--force",
			gone.name,
		);
		t.regex(living.stderr, new RegExp(`host ${gone.name} lives`));
		const rest = members.hosts.filter((host) => host !== gone);
		const left = await addresses(rest, "abc");
		const kept = ["kg_web_1", "kg_web_2", "kg_web_3"];
		for (const name of kept) {
			const { code, stderr } = await docker(members.gateway(leads), [
				...["run", "-d", "--name", name, "--init"],
				...["-l", "arpanet.reschedule=on-host-failure"],
				...["busybox", "sleep", "9999"],
			]);
			t.is(code, 0, stderr);
		}
		const all = await addresses(members.hosts, "kg");
		await untilResolved(t, members.hosts, "kg", all);
		await gone.crash();
		await untilResolved(t, rest, "abc", left);
		// one of these was there: it is not among what is given back
		const moved = await eventually(
			() => addresses(rest, "kg"),
			(found) => found.length === all.length,
			60,
		);
		t.deepEqual(moved, all);
		await untilResolved(t, rest, "kg", all);
		t.is((await docker(members.gateway(leads), ["rm", "-f", ...kept])).code, 0);
		const removed = await eventually(
			() => members.command(leads, "host", "rm", "--force", gone.name),
			({ code }) => code === 0,
			30,
		);
		t.regex(removed.stdout, /is forgotten, and 1 containers/, removed.stderr);
		const answer = await fetch(`${leads.consul}/v1/kv/arpanet/?recurse`);
		const rows = (await answer.json()) as { Key: string; Value: string }[];
		const traces = rows
			.filter(({ Key }) => !/^arpanet\/(repairs|reasons|copies)\//.test(Key)) // reasons tell of it as it was; a copy that was adopted leaves its old mark to the sweep
			.map(({ Key, Value }) => `${Key} ${Buffer.from(Value ?? "", "base64")}`)
			.filter((text) => new RegExp(`\\b${gone.name}\\b`).test(text));
		t.deepEqual(traces, []);
		const leases = rows.filter(({ Key }) =>
			Key.startsWith("arpanet/leases/abc/"),
		);
		t.is(leases.length, 2 * rest.length); // a copy and a bridge on each
		const node = await fetch(
			`${leads.consul}/v1/catalog/node/arpanet-${gone.name}`,
		);
		t.is(await node.json(), null);
	},
);
