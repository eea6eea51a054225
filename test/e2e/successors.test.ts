import test from "ava";
import type { Arpanet } from "../lab/arpanet.ts";
import { compose1, compose2 } from "../lab/clients.ts";
import { showComplaints } from "./complaints.ts";
import { Placing } from "./placing.ts";

let cluster: Placing;

test.before(async () => {
	cluster = await Placing.start();
});
showComplaints(() => cluster?.gateways ?? []);
test.after.always(async () => {
	await cluster?.stop();
});

for (const [client, project, file] of [
	[compose1, "verone", "web: $"],
	[compose2, "vertwo", "services: {web: $}"],
] as const) {
	test.serial(
		`a container that ${client.name} makes anew takes over its fixed port, though every host has one`,
		async (t) => {
			for (const seconds of [100, 200]) {
				const web = `{image: busybox, command: sleep ${seconds}, ports: ["7070:80"]}`;
				const { code, stderr } = await client(
					cluster.gateways[2],
					["-f", "-", "-p", project, "up", "-d", "-t", "1", "--scale", "web=3"],
					{ input: file.replace("$", web) },
				);
				t.is(code, 0, stderr);
			}
			const places = await Promise.all(
				[1, 2, 3].map((i) =>
					cluster.hostOf(
						[project, "web", i].join(client === compose1 ? "_" : "-"),
					),
				),
			);
			t.deepEqual(places.sort(), ["h1", "h2", "h3"]);
			await cluster.removeAll(t, project);
			await cluster.at(1, "network", "rm", `${project}_default`); // what v2 makes stays
		},
	);
}

test.serial(
	"a container that another Compose, or another container_name, makes anew takes over what the old one had",
	async (t) => {
		const file = (name: string) => `
version: "2.4"
services:
  db: {image: busybox, init: true, command: sleep 1000, ports: ["7171:80"], volumes: ["data:/v"]}
  fix: {image: busybox, init: true, command: sleep 1000, networks: {default: {ipv4_address: 172.28.7.10}}}
  only: {image: busybox, init: true, command: sleep 1000, labels: {arpanet.exclusive: "true"}, scale: 3}
  named: {image: busybox, init: true, command: sleep 1000, container_name: ${name}, ports: ["7272:80"], volumes: ["data:/v"]}
networks: {default: {ipam: {config: [{subnet: 172.28.7.0/24}]}}}
volumes: {data: {}}
`;
		const places = new Set<string>();
		let i = 0;
		for (const [client, name] of [
			[compose2, "heir-foo"],
			[compose2, "heir-bar"],
			[compose1, "heir-bar"],
			[compose1, "heir-foo"],
			[compose2, "heir-bar"],
		] as const) {
			const up = ["-f", "-", "-p", "heir", "up", "-d", "-t", "1"];
			const { code, stderr } = await client(
				cluster.gateways[i++ % 3] as Arpanet,
				up,
				{
					input: file(name),
				},
			);
			t.is(code, 0, stderr);
			const mark = client === compose1 ? "_" : "-";
			const named = (service: string, copy = 1) =>
				["heir", service, copy].join(mark);
			const all = await cluster.perContainer("heir");
			t.deepEqual(
				all.map((each) => each.split(" ")[0]).sort(),
				[
					...[name, named("db"), named("fix")],
					...[1, 2, 3].map((copy) => named("only", copy)),
				].sort(),
			);
			places
				.add(await cluster.hostOf(named("db")))
				.add(await cluster.hostOf(name));
			const { stdout } = await cluster.at(1, "inspect", named("fix"));
			t.regex(stdout, /"IPAddress": "172\.28\.7\.10"/);
		}
		t.is(places.size, 1, "the volume and those who use it stay where they are");
		t.deepEqual(
			(await cluster.keys("arpanet/leases/heir/")).length,
			9,
			"six containers and a bridge on each host",
		);
		await cluster.removeAll(t, "heir");
		await cluster.at(1, "network", "rm", "heir_default");
		await cluster.at(1, "volume", "rm", "heir_data");
		t.deepEqual(await cluster.keys("arpanet/containers/heir"), []);
	},
);

test.serial("all of it goes again, and nothing is left on record", (t) =>
	cluster.nothingIsLeft(t),
);
