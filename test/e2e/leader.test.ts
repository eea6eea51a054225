import test from "ava";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { addresses, Members, untilResolved } from "./members.ts";
import { eventually } from "./stage.ts";

let members: Members;

test.before(async () => {
	members = await Members.start();
});
showComplaints(() => members?.arpanets ?? [], /"level":[45]0|lead/);
test.after.always(() => members?.stop());

test.serial("one agent leads, and any host says which", async (t) => {
	const leads = await members.leader();
	for (const host of members.hosts) {
		const { stdout, stderr, code } = await members.command(host, "leader");
		t.is(code, 0, stderr);
		t.regex(stdout, new RegExp(`^${leads.name} leads since 20`));
	}
});

/** Makes a container of the same name at the engine of another host, as though arpanet had. @returns that host */
async function twinOf(name: string, address: string): Promise<Host> {
	for (const host of members.hosts) {
		const { stdout } = await docker(host, ["ps", "-qf", `name=^${name}$`]);
		if (stdout.trim()) continue;
		const labels = {
			...{ deployment: "abc", service: "web", network: "abc" },
			...{ host: host.name, address },
		};
		const { code, stderr } = await docker(host, [
			...["create", "--name", name],
			...Object.entries(labels).flatMap(([key, content]) => [
				"--label",
				`arpanet.${key}=${content}`,
			]),
			"busybox",
		]);
		if (code !== 0) throw new Error(stderr);
		return host;
	}
	throw new Error(`every host has ${name}`);
}

test.serial(
	"what belongs to nobody goes back within a minute, with the reason; what lives keeps what it has",
	async (t) => {
		await members.copies(t, "abc", 3);
		const before = await addresses(members.hosts, "abc");
		const host = members.hosts[1]?.name;
		const free: string[] = [];
		for (let last = 200; free.length < 2; last++) {
			const address = `10.32.0.${last}`;
			const leased = await members.value(`arpanet/leases/abc/${address}`);
			if (leased === undefined) free.push(address);
		}
		const [orphaned, another] = free as [string, string];
		const orphans: Record<string, unknown> = {
			[`arpanet/leases/abc/${orphaned}`]: {
				host,
				deployment: "abc",
				container: "abc_gone_1",
			},
			[`arpanet/aliases/abc/cache/${orphaned}`]: {
				service: "web",
				container: "abc_gone_1",
			},
			[`arpanet/slots/${host}/4711`]: { container: "abc_gone_1" },
			"arpanet/reasons/abc_gone_1": { at: "", by: host, because: {} },
			"arpanet/subnets/10.44.0.0-24": "nowhere",
			"arpanet/gateways/nowhere/h2": "10.44.0.1",
			"arpanet/leases/nowhere/10.44.0.1": { host, deployment: "nowhere" },
			// of requests whose gateway died
			"arpanet/names/never_made": { host, at: Date.now() },
			[`arpanet/tagging/${host}/never-answered`]: { host, at: "" },
		};
		for (const [key, content] of Object.entries(orphans)) {
			await members.put(key, content);
		}
		const marked = () => members.value("arpanet/aliases/abc/");
		t.truthy(await eventually(marked, Boolean, 30)); // as that alias should have been
		const kept = await docker(members.gateway(), [
			...["network", "create", "empty_default"],
			...["--label", "com.docker.compose.project=empty"],
			...["--label", "com.docker.compose.network=default"],
		]);
		t.is(kept.code, 0, kept.stderr);
		const twin = await twinOf("abc_web_2", another);
		const [first] = members.hosts;
		// a living container's record and its catalog entries go behind our back
		for (const path of [
			"kv/arpanet/containers/abc_web_1",
			"kv/arpanet/subnets?recurse",
		]) {
			await fetch(`${first.consul}/v1/${path}`, { method: "DELETE" });
		}
		await fetch(`${first.consul}/v1/catalog/deregister`, {
			method: "PUT",
			body: JSON.stringify({ Node: `arpanet-${members.hosts[2]?.name}` }),
		});

		for (const key of Object.keys(orphans)) {
			t.is(
				await eventually(
					() => members.value(key),
					(seen) => seen === undefined,
					60,
				),
				undefined,
				key,
			);
		}
		t.deepEqual(await addresses(members.hosts, "abc"), before);
		await untilResolved(t, members.hosts, "abc", before);
		for (const key of [
			"arpanet/containers/abc_web_1",
			`arpanet/leases/abc/${before[0]}`,
			"arpanet/networks/empty",
		]) {
			t.truthy(await eventually(() => members.value(key), Boolean, 30), key);
		}
		const subnet = await members.value<{ subnet: string }>(
			"arpanet/networks/abc",
		);
		const key = `arpanet/subnets/${subnet?.subnet.replace("/", "-")}`;
		t.is(await eventually(() => members.value(key), Boolean, 30), "abc");
		const why = await members.command(first, "explain", "abc_web_2");
		t.regex(why.stdout, /^made: +20.* through h1$/m, why.stderr);
		t.regex(why.stdout, /^placement: +scores .*; h\d scores /m);
		t.regex(why.stdout, /^dhcp: +10\.32\.0\.\d+ in abc: free in 10\.32/m);
		const repaired = await members.command(first, "explain", "abc_web_1");
		t.regex(repaired.stdout, /put back on record.*it lives and was not/);
		const gone = await members.command(first, "explain", "abc_gone_1");
		t.regex(gone.stdout, /lease given back +no container is on record/);
		const aside = /^[0-9a-f]{12}_abc_web_2$/m;
		const names = await eventually(
			() => docker(twin, ["ps", "-a", "--format={{.Names}}"]),
			({ stdout }) => aside.test(stdout),
			30,
		);
		const [renamed = ""] = aside.exec(names.stdout) ?? [];
		const onRecord = await eventually(
			() => members.value(`arpanet/containers/${renamed}`),
			Boolean,
			30,
		);
		t.like(onRecord, { facts: { host: twin.name } });
		const record = await members.value<{ facts: { host: string } }>(
			"arpanet/containers/abc_web_2",
		);
		t.not(record?.facts.host, twin.name);
		t.is((await docker(twin, ["rm", renamed])).code, 0);
		const { stdout } = await members.command(first, "leader");
		t.regex(stdout, /^lease given back +2 /m);
		t.regex(stdout, /^subnet put back +\d /m);
		t.regex(stdout, /^container put back on record +2 /m);
		const unmarked = await eventually(marked, (seen) => seen === undefined, 60);
		t.is(unmarked, undefined, "its only alias is gone");
	},
);

test.serial(
	"a leader that sleeps is replaced, and leads no more when it wakes",
	async (t) => {
		const sleeper = await members.leader();
		const { process: child, log } = members.gateway(sleeper);
		child.kill("SIGSTOP");
		const next = await members.leader(sleeper);
		child.kill("SIGCONT");
		const said = await eventually(
			async () => log(),
			(text) => text.includes("this agent leads no more"),
		);
		t.regex(said, /this agent leads no more/);
		t.is(await members.leader(), next);
	},
);
