import { setTimeout as sleep } from "node:timers/promises";
import test, { type ExecutionContext } from "ava";
import { docker } from "../lab/clients.ts";
import { startMember } from "../lab/cluster.ts";
import { loadImages } from "../lab/images.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { eventually, until } from "./stage.ts";
import { TlsCluster } from "./tls-cluster.ts";

const WAITS = ["busybox", "sleep", "3600"];

let cluster: TlsCluster;

test.before(async () => {
	cluster = await TlsCluster.start();
});
showComplaints(() => cluster?.gateways ?? []);
test.after.always(async () => {
	await cluster?.stop();
});

/** Two deployments, each with a container on two hosts: `<id>_a_1` on the first host, `<id>_b_1` on the second. */
async function pairs(t: ExecutionContext, ...ids: string[]): Promise<void> {
	const [h1, h2] = cluster.hosts;
	for (const id of ids) {
		await cluster.run(t, `${id}_a_1`, h1);
		await cluster.run(t, `${id}_b_1`, h2);
	}
}

/** From h1, or from a container there, at Consul's ports of two hosts. @returns a line for each that is open */
async function knocks(
	t: ExecutionContext,
	container?: string,
): Promise<string> {
	const [h1, h2] = cluster.hosts;
	const script = `const { connect } = require("net");
		for (const host of ["${h1.address}", "${h2.address}"])
			for (const port of [8300, 8301]) {
				const socket = connect({ host, port, timeout: 1000 });
				socket.on("connect", () => { console.log("open"); socket.destroy(); });
				socket.on("timeout", () => socket.destroy()).on("error", () => {});
			}`;
	const pid =
		container &&
		(await cluster.cli(t, "inspect", "-f", "{{.State.Pid}}", container));
	const inside = pid ? ["nsenter", "-t", pid, "-n"] : [];
	const [program = "", ...args] = [...inside, "node", "-e", script];
	const { code, stdout, stderr } = await h1.exec(program, args);
	t.is(code, 0, stderr);
	return stdout;
}

test.serial(
	"a container cannot join Consul, on whatever host, even where there is no deployment",
	async (t) => {
		t.is((await knocks(t)).match(/open/g)?.length, 4, "a host can");
		await cluster.run(t, "plain", cluster.hosts[0]); // on Docker's own bridge
		// of hosts that came later the firewall is told within 30 s
		const open = await eventually(
			() => knocks(t, "plain"),
			(heard) => heard === "",
			60,
		);
		t.is(open, "");
		await cluster.cli(t, "rm", "-f", "plain");
	},
);

test.serial("what is large gets through whole", async (t) => {
	await pairs(t, "red", "blue");
	const b = await cluster.addressOf(t, "red_b_1", "red_default");
	const mtu = await cluster.cli(
		t,
		...["exec", "red_a_1", "cat", "/sys/class/net/eth0/mtu"],
	);
	t.is(mtu, "1450");
	t.true(
		await cluster.reaches("red_a_1", b, "-s", "1422"),
		"the largest packet",
	);
	t.true(
		await cluster.reaches("red_a_1", b, "-s", "9000"),
		"one that goes in pieces",
	);
	const serve = "dd if=/dev/zero of=/big bs=1M count=20; httpd -h /";
	await cluster.cli(t, "exec", "red_b_1", "sh", "-c", serve);
	const fetch = `wget -qO- http://${b}/big | wc -c`;
	t.is(
		await cluster.cli(t, "exec", "red_a_1", "sh", "-c", fetch),
		String(20 * 2 ** 20),
	);
});

test.serial("no packet gets from one deployment to another", async (t) => {
	for (const to of ["blue_a_1", "blue_b_1"]) {
		const address = await cluster.addressOf(t, to, "blue_default");
		t.false(await cluster.reaches("red_a_1", address), to);
		t.false(await cluster.reaches("red_b_1", address), to);
	}
});

test.serial("a network is not another's because it says so", async (t) => {
	const [h1] = cluster.hosts;
	const forged = ["--label", "arpanet.network=red"];
	const disabled = ["--label", "arpanet.enabled=false"];
	await cluster.cli(t, "network", "create", ...forged, ...disabled, "evil");
	const shown = await cluster.inspect(t, "evil");
	t.deepEqual(shown.Labels, { "arpanet.enabled": "false" });
	// past every gateway, before the overlay looks again
	const made = await docker(h1, ["network", "create", ...forged, "forged"]);
	const bridge = `br-${made.stdout.slice(0, 12)}`;
	const devices = await vxlans(h1);
	for (const { ifname } of devices)
		await h1.exec("ip", ["link", "del", ifname]);
	const b = await cluster.addressOf(t, "red_b_1", "red_default");
	t.true(await cluster.soonReaches("red_a_1", b));
	const look = async () => {
		const masters = (await vxlans(h1)).map(({ master }) => master);
		t.false(masters.includes(bridge), "while it is looked at again");
		return masters.length;
	};
	await until(look, (length) => length === devices.length); // blue's, too
	for (const end = Date.now() + 7_000; Date.now() < end; await sleep(200))
		t.is(await look(), devices.length);
	await cluster.cli(t, "network", "rm", "evil");
	await docker(h1, ["network", "rm", "forged"]);
});

test.serial("another host is not told either what is not theirs", async (t) => {
	const [, h2] = cluster.hosts;
	const asked = (name: string) =>
		cluster.resolves("red_a_1", `${name}.service.consul`, h2.address);
	const b = await cluster.addressOf(t, "red_b_1", "red_default");
	t.deepEqual(await asked("b.red"), [b]);
	t.deepEqual(await asked("b.blue"), []);
});

test.serial(
	"a container cannot speak as though it were the overlay",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		const answer = await fetch(`${h1.consul}/v1/kv/arpanet/networks/red?raw`);
		const { vni } = (await answer.json()) as { vni: number };
		const frame = (from: number) => {
			const header = Buffer.from([8, 0, 0, 0, 0, vni >> 8, vni & 255, 0]); // RFC 7348
			const ethernet = "ffffffffffff02000000000088b5"; // a type for experiments
			const bytes = [
				header,
				Buffer.from(ethernet, "hex"),
				Buffer.alloc(46, from),
			];
			return Buffer.concat(bytes).toString("hex");
		};
		const capture = h1.spawn(
			"tcpdump",
			["-i", `arpa${vni}`, "-l", "-x", "ether", "proto", "0x88b5"],
			{ stdio: ["ignore", "pipe", "pipe"] },
		);
		let seen = "";
		for (const stream of [capture.stdout, capture.stderr]) {
			stream?.on("data", (chunk) => {
				seen += chunk;
			});
		}
		await until(
			async () => seen,
			(said) => said.includes("listening on"),
		);
		const speak = async (
			host: Host,
			from: number,
			inside: string[] = [],
			to = h1.address,
		) => {
			const script = `const s = require("dgram").createSocket("udp4");
				s.send(Buffer.from("${frame(from)}", "hex"), 4789, "${to}", () => s.close())`;
			const [program = "", ...args] = [...inside, "node", "-e", script];
			t.is((await host.exec(program, args)).code, 0);
		};
		await cluster.run(t, "plain", h1); // on Docker's own bridge
		const bridge = "com.docker.network.bridge.name=br@odd";
		const odd = ["network", "create", "-o", bridge, "odd"];
		t.is((await docker(h1, odd)).code, 0);
		await docker(h1, ["run", "-d", "--name=odd", "--network=odd", ...WAITS]);
		const isBarred = async () =>
			(await h1.exec("iptables-save")).stdout.includes("-i br@odd -j DROP");
		t.true(await eventually(isBarred, Boolean));
		for (const container of ["plain", "odd", "blue_a_1"]) {
			const pid = await cluster.cli(
				t,
				"inspect",
				"-f",
				"{{.State.Pid}}",
				container,
			);
			await speak(h1, 0x11, ["nsenter", "-t", pid, "-n"]);
		}
		// nor by way of an address of the host that no other knows of
		const further = h1.address.replace(/\d+$/, "222");
		await h1.exec("ip", ["address", "add", `${further}/24`, "dev", "eth0"]);
		const format = ["-f", "{{.State.Pid}}", "blue_b_1"];
		const pid = await cluster.cli(t, "inspect", ...format);
		await speak(h2, 0x11, ["nsenter", "-t", pid, "-n"], further);
		await h1.exec("ip", ["address", "del", `${further}/24`, "dev", "eth0"]);
		await speak(h2, 0x22);
		await until(
			async () => seen,
			(said) => said.includes("2222 2222"),
		);
		t.true(seen.includes("2222 2222"), "a host can");
		t.false(seen.includes("1111 1111"), "a container cannot");
		capture.kill("SIGINT");
		await cluster.cli(t, "rm", "-f", "plain", "odd");
		await docker(h1, ["network", "rm", "odd"]);
	},
);

test.serial("nor can a container of a deployment", async (t) => {
	t.is(await knocks(t, "blue_a_1"), "");
});

test.serial(
	"what a service exposes others reach and find, and nothing else",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		await cluster.run(t, "open_api_1", h2, "-l", "arpanet.expose=red");
		await cluster.run(t, "open_db_1", h1);
		const name = "api.open.service.consul";
		const api = await cluster.addressOf(t, "open_api_1", "open_default");
		const red = await eventually(
			() => cluster.reaches("red_a_1", api),
			(there) => there,
			60,
		);
		t.true(red, "from another host");
		t.true(
			await eventually(
				() => cluster.reaches("red_b_1", api),
				(there) => there,
				60,
			),
			"from the same host",
		);
		t.deepEqual(await cluster.resolves("red_a_1", name), [api]);
		t.deepEqual(await cluster.resolves("blue_a_1", name), []);
		t.false(await cluster.reaches("blue_a_1", api), "blue is not named");
		t.false(await cluster.reaches("blue_b_1", api), "blue is not named");
		const db = await cluster.addressOf(t, "open_db_1", "open_default");
		t.false(await cluster.reaches("red_a_1", db), "it is not exposed");
		const back = await cluster.addressOf(t, "red_b_1", "red_default");
		t.false(
			await cluster.reaches("open_api_1", back),
			"the way back is closed",
		);
		const wrong = [
			"run",
			"-d",
			"-l",
			"arpanet.expose=A!",
			"--name=open_x_1",
			"busybox",
		];
		t.regex(
			(await cluster.ask(cluster.any(), ...wrong)).stderr,
			/expose: "A!".* is no deployment's id/,
		);
		await cluster.cli(t, "rm", "-f", "open_api_1", "open_db_1");
	},
);

test.serial(
	"what a service exposes to all is for containers of deployments, not for whoever can send its host a packet",
	async (t) => {
		const [, h2, h3] = cluster.hosts;
		await cluster.run(t, "open_web_1", h2, "-l", "arpanet.expose=true");
		const web = await cluster.addressOf(t, "open_web_1", "open_default");
		t.true(await cluster.soonReaches("blue_b_1", web));
		const way = [`${web}/32`, "via", h2.address];
		await h3.exec("ip", ["route", "add", ...way]);
		const ping = ["ping", "-c", "1", "-W", "2", web];
		const machine = ["run", "--rm", "--network", "host", "busybox"];
		await loadImages(h3, ["busybox"]);
		const { code, stderr } = await docker(h3, [...machine, ...ping]);
		t.is(code, 1, stderr);
		await h3.exec("ip", ["route", "del", ...way]);
		await cluster.cli(t, "rm", "-f", "open_web_1");
	},
);

test.serial("what someone deletes of the overlay comes back", async (t) => {
	const [h1, h2] = cluster.hosts;
	const b = await cluster.addressOf(t, "red_b_1", "red_default");
	const whole = () => cluster.soonReaches("red_a_1", b);
	const devices = await vxlans(h1);
	for (const { ifname } of devices) {
		await h1.exec("ip", ["link", "del", ifname]);
	}
	t.true(await whole());
	const gone = devices.map(({ ifindex }) => ifindex);
	t.false((await vxlans(h1)).some(({ ifindex }) => gone.includes(ifindex)));
	for (const device of await vxlans(h2)) {
		await h2.exec("ip", ["link", "set", device.ifname, "nomaster"]);
	}
	t.true(await whole());
	for (const { ifname } of await vxlans(h1)) {
		const flood = ["fdb", "del", "00:00:00:00:00:00", "dev", ifname];
		await h1.exec("bridge", [...flood, "dst", h2.address]);
		await h1.exec("bridge", ["fdb", "flush", "dev", ifname]);
	}
	t.true(await whole());
});

test.serial(
	"a network that is put on record anew never has two devices in its bridge: they would be a loop",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		await cluster.run(t, "ring_a_1", h1);
		await cluster.run(t, "ring_b_1", h2);
		const b = await cluster.addressOf(t, "ring_b_1", "ring_default");
		const whole = () => cluster.soonReaches("ring_a_1", b);
		t.true(await whole());
		const names = (devices: Device[]) => devices.map(({ ifname }) => ifname);
		const old = names(await vxlans(h1));
		const record = `${h1.consul}/v1/kv/arpanet/networks/ring`;
		await fetch(record, { method: "DELETE" });
		const isNew = await eventually(
			async () => {
				const all = await Promise.all([h1, h2].map(vxlans));
				for (const devices of all) {
					const bridges = devices.map(({ master }) => master);
					t.is(new Set(bridges).size, bridges.length, `${names(devices)}`);
				}
				return all.every((some) => names(some).some((n) => !old.includes(n)));
			},
			Boolean,
			30,
		);
		t.true(isNew);
		t.true(await whole());
		await cluster.cli(t, "rm", "-f", "ring_a_1", "ring_b_1");
	},
);

test.serial(
	"a fixed address that goes to another host is soon reached there",
	async (t) => {
		const [h1, h2, h3] = cluster.hosts;
		const address = "172.30.9.50";
		const subnet = ["--subnet", "172.30.9.0/24"];
		await cluster.cli(t, "network", "create", ...subnet, "roam");
		const run = (name: string, host: Host, ...more: string[]) =>
			cluster.run(t, name, host, "--network", "roam", ...more);
		await run("roam_stay_1", h1); // the old host keeps the network
		await run("roam_near_1", h2);
		await run("roam_far_1", h3);
		await run("roam_web_1", h1, "--ip", address);
		for (const from of ["roam_near_1", "roam_far_1"])
			t.true(await cluster.soonReaches(from, address), from);
		await cluster.cli(t, "rm", "-f", "roam_web_1");
		await run("roam_web_1", h2, "--ip", address);
		// left alone, who knows its MAC asks where it is once that is old: after 23 s at the earliest
		for (const from of ["roam_near_1", "roam_far_1"]) {
			const reaches = () => cluster.reaches(from, address);
			t.true(await eventually(reaches, Boolean, 15), from);
		}
		const all = ["stay", "near", "far", "web"].map((each) => `roam_${each}_1`);
		await cluster.cli(t, "rm", "-f", ...all);
		await cluster.cli(t, "network", "rm", "roam");
	},
);

interface Device {
	ifname: string;
	ifindex: number;
	/** The bridge that it is in. */
	master?: string;
}

async function vxlans(host: Host): Promise<Device[]> {
	const { stdout } = await host.exec("ip", [
		...["-j", "link", "show", "type", "vxlan"],
	]);
	return JSON.parse(stdout || "[]");
}

test.serial(
	"who reads along on the wire reads nothing with encrypt",
	async (t) => {
		const [h1] = cluster.hosts;
		const b = await cluster.addressOf(t, "red_b_1", "red_default");
		const payload = "Payload-That-Is-Nobody-Elses";
		const seen = async () => {
			const capture = h1.spawn("tcpdump", ["-i", "eth0", "-l", "-A", "udp"], {
				stdio: ["ignore", "pipe", "pipe"],
			});
			let text = "";
			capture.stdout?.on("data", (chunk) => {
				text += chunk;
			});
			capture.stderr?.on("data", (chunk) => {
				text += chunk;
			});
			await until(
				async () => text,
				(said) => said.includes("listening on"),
			);
			await cluster.ask(
				cluster.any(),
				"exec",
				"red_a_1",
				"wget",
				"-qO-",
				`http://${b}/${payload}`,
			);
			const captured = await eventually(
				async () => text,
				(said) => said.includes(payload),
				3,
			);
			capture.kill("SIGINT");
			return captured;
		};
		t.true((await seen()).includes(payload), "as it is");

		await Promise.all(cluster.gateways.map((gateway) => gateway.stop()));
		cluster.gateways = await Promise.all(
			cluster.hosts.map((host) =>
				startMember(host, cluster.certificates, "encrypting", ({ arpanet }) => {
					arpanet.encrypt = true;
				}),
			),
		);
		t.true(
			await eventually(
				() => cluster.reaches("red_a_1", b),
				(there) => there,
				60,
			),
		);
		t.false((await seen()).includes(payload), "encrypted");
		t.true(await cluster.reaches("red_a_1", b, "-s", "9000"));
		for (const state of ["down", "up"]) {
			await h1.exec("ip", ["link", "set", "arpawg", state]); // its address goes
		}
		t.true(await cluster.soonReaches("red_a_1", b));
		const { stdout } = await h1.exec("stat", [
			...["-c", "%a", "/run/arpanet/wireguard.key"],
		]);
		t.is(stdout.trim(), "600");
	},
);

test.serial(
	"a host in which nobody is any more leaves the network",
	async (t) => {
		const [h1, h2] = cluster.hosts;
		await cluster.cli(t, "rm", "-f", "red_b_1", "blue_a_1", "blue_b_1");
		const networks = async (host: Host) => {
			const names = ["network", "ls", "--format={{.Name}}"];
			return (await docker(host, names)).stdout;
		};
		const left = await eventually(
			() => networks(h2),
			(names) => !names.includes("red_default"),
			90,
		);
		t.false(left.includes("red_default"));
		t.true((await networks(h1)).includes("red_default"));
		t.deepEqual(
			await eventually(
				() => vxlans(h1),
				(devices) => devices.length === 0,
				30,
			),
			[],
		);
		await cluster.cli(t, "rm", "-f", "red_a_1");
	},
);
