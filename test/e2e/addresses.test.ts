import test, { type ExecutionContext } from "ava";
import type { Result } from "../../examples/images/tools.ts";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { api, consulKeys, range, startApart } from "./adapters.ts";
import { eventually, Stage, until } from "./stage.ts";

let stage: Stage;
let arpanet: Arpanet;

test.before(async () => {
	stage = await Stage.start();
	arpanet = stage.arpanet;
});
test.after.always(() => stage?.stop());

/** A client's command, through arpanet. */
function through(...args: string[]): Promise<Result> {
	return docker(arpanet, args);
}

async function ok(
	t: ExecutionContext,
	result: Promise<Result>,
): Promise<string> {
	const { code, stdout, stderr } = await result;
	t.is(code, 0, stderr);
	return stdout.trim();
}

const sleeper = ["busybox", "sleep", "9999"];

/** Starts a container of a deployment and gives the address that it really has. */
async function run(
	t: ExecutionContext,
	deployment: string,
	name: string,
	...options: string[]
): Promise<string> {
	await ok(
		t,
		through(
			"run",
			"-d",
			"--init",
			"--name",
			name,
			"--label",
			`arpanet.deployment=${deployment}`,
			...options,
			...sleeper,
		),
	);
	return addressOf(name);
}

async function addressOf(name: string): Promise<string> {
	const { stdout } = await docker(stage.host, [
		"exec",
		name,
		"ip",
		"-4",
		"-o",
		"addr",
		"show",
		"eth0",
	]);
	return /inet ([\d.]+)/.exec(stdout)?.[1] ?? stdout;
}

/** The address that Docker has for a container in a network. */
async function addressIn(network: string, name: string): Promise<string> {
	const container = await stage.engine.inspectContainer(name);
	return container?.NetworkSettings.Networks[network]?.IPAddress ?? "none";
}

/** What is on record of a deployment, but for its network. */
async function traces(deployment: string): Promise<string[]> {
	const keys = await consulKeys(stage.host, "arpanet/");
	return keys.filter((key) =>
		new RegExp(`[/.]${deployment}([/._-]|$)`).test(key),
	);
}

/** Waits until nothing is on record of a deployment, for a minute and what a slow machine takes. */
async function isGivenBack(
	t: ExecutionContext,
	deployment: string,
): Promise<void> {
	const left = await eventually(
		() => traces(deployment),
		(keys) => keys.length === 0,
		75,
	);
	t.deepEqual(left, []);
	t.is(await stage.network(`${deployment}_default`), undefined);
	const [subnets, networks] = await Promise.all([
		consulKeys(stage.host, "arpanet/subnets/"),
		consulKeys(stage.host, "arpanet/networks/"),
	]);
	t.is(subnets.length, networks.length);
	const services = await stage.registered();
	t.deepEqual(
		services.filter(
			({ name }) => name === deployment || name.endsWith(`.${deployment}`),
		),
		[],
	);
}

test.serial(
	"200 creates at once from 8 clients through 3 adapters get 200 addresses, all on record",
	async (t) => {
		const apart = await startApart(stage.host, 3);
		t.teardown(() => apart.stop());
		const names = range(200).map((i) => `crowd_web_${i + 1}`);
		const waiting = [...names];
		const client = async (number: number) => {
			for (let name = waiting.pop(); name; name = waiting.pop()) {
				const { status, body } = await api(
					apart.gateways[number % 3] as string,
					"POST",
					`/v1.41/containers/create?name=${name}`,
					{ Image: "busybox", Cmd: ["true"] },
				);
				t.is(status, 201, JSON.stringify(body));
			}
		};
		await Promise.all(range(8).map(client));

		const rows = await stage.engine.listContainers("arpanet.deployment=crowd");
		const real = Object.fromEntries(
			await Promise.all(
				rows.map(async ({ Id }) => {
					const container = await stage.engine.inspectContainer(Id);
					const endpoint = container?.NetworkSettings.Networks.crowd_default;
					return [endpoint?.IPAMConfig?.IPv4Address, container?.Name.slice(1)];
				}),
			),
		);
		t.is(Object.keys(real).length, 200);
		t.deepEqual(await stage.leases("crowd"), real);
	},
);

test.serial(
	"what is removed behind arpanet's back is given back, with the deployment's network",
	async (t) => {
		const rows = await stage.engine.listContainers("arpanet.deployment=crowd");
		t.is(rows.length, 200);
		const waiting = rows.map(({ Id }) => Id);
		await Promise.all(
			range(4).map(async () => {
				for (let id = waiting.pop(); id; id = waiting.pop()) {
					await api(stage.host.docker, "DELETE", `/containers/${id}?force=1`);
				}
			}),
		);
		await isGivenBack(t, "crowd");
	},
);

test.serial(
	"an address is kept across stop, start, restart and crash",
	async (t) => {
		const address = await run(t, "kept", "kept_web_1", "--restart=always");
		const lease = { [address]: "kept_web_1" };
		t.deepEqual(await stage.leases("kept"), lease);

		await ok(t, through("stop", "-t", "1", "kept_web_1"));
		t.deepEqual(await stage.leases("kept"), lease);
		await ok(t, through("start", "kept_web_1"));
		t.is(await addressOf("kept_web_1"), address);

		await ok(t, through("restart", "-t", "1", "kept_web_1"));
		t.is(await addressOf("kept_web_1"), address);

		const before = await stage.engine.inspectContainer("kept_web_1");
		process.kill(Number(before?.State.Pid), "SIGKILL");
		await until(
			() => stage.engine.inspectContainer("kept_web_1"),
			(now) =>
				Boolean(now?.State.Running) && now?.State.Pid !== before?.State.Pid,
		);
		// Docker 26 tells of it before it is in its network
		await until(() => addressOf("kept_web_1"), Boolean);
		t.is(await addressOf("kept_web_1"), address);
		t.deepEqual(await stage.leases("kept"), lease);
	},
);

test.serial(
	"an address is kept across a restart of the engine and of arpanet",
	async (t) => {
		const lease = await stage.leases("kept");
		const [address = ""] = Object.keys(lease);
		await stage.host.stopEngine();
		await stage.host.startEngine();
		const running = await eventually(
			() => stage.engine.inspectContainer("kept_web_1").catch(() => undefined),
			(container) => container?.State.Running === true,
		);
		t.true(running?.State.Running);
		t.deepEqual({ [await addressOf("kept_web_1")]: "kept_web_1" }, lease);

		t.is(await arpanet.stop("SIGKILL"), null);
		t.deepEqual({ [await addressOf("kept_web_1")]: "kept_web_1" }, lease);
		arpanet = await startArpanet(stage.host);
		const other = await run(t, "kept", "kept_web_2");
		t.deepEqual(await stage.leases("kept"), {
			...lease,
			[other]: "kept_web_2",
		});
		t.is(await addressOf("kept_web_1"), address);
	},
);

test.serial(
	"rm gives back the address, and the last one the network",
	async (t) => {
		const [first, second] = Object.keys(await stage.leases("kept"));
		t.truthy(first && second);
		await ok(t, through("rm", "-f", "kept_web_2"));
		t.deepEqual(Object.values(await stage.leases("kept")), ["kept_web_1"]);
		await ok(t, through("rm", "-f", "kept_web_1"));
		await isGivenBack(t, "kept");
	},
);

test.serial("--rm gives back all when the process ends", async (t) => {
	const output = await ok(
		t,
		through(
			"run",
			"--rm",
			"--label",
			"arpanet.deployment=brief",
			"busybox",
			"ip",
			"-4",
			"-o",
			"addr",
			"show",
			"eth0",
		),
	);
	t.regex(output, /inet 10\./);
	await isGivenBack(t, "brief");
});

test.serial("a create that Docker refuses leaves nothing behind", async (t) => {
	const image = await through(
		"create",
		"--name",
		"noimage_web_1",
		"nowhere/none:1",
	);
	t.not(image.code, 0);
	t.regex(image.stderr, /nowhere\/none/);
	await isGivenBack(t, "noimage");

	const bad = await through(
		"create",
		"--name",
		"bad_web_1",
		"-m",
		"1b",
		...sleeper,
	);
	t.not(bad.code, 0);
	t.regex(bad.stderr, /memory limit/i);
	await isGivenBack(t, "bad");

	await ok(
		t,
		docker(stage.host, ["create", "--name", "stranger_web_1", ...sleeper]),
	);
	const stranger = await through(
		"create",
		"--name",
		"stranger_web_1",
		...sleeper,
	);
	t.not(stranger.code, 0);
	t.regex(
		stranger.stderr,
		/Conflict\. The container name "\/stranger_web_1" is already in use/,
	);
	await isGivenBack(t, "stranger");
});

test.serial(
	"a name conflict takes nothing from the container that has the name",
	async (t) => {
		const address = await run(t, "named", "named_web_1");
		for (const _ of range(2)) {
			const again = await through(
				"create",
				"--name",
				"named_web_1",
				...sleeper,
			);
			t.not(again.code, 0);
			t.regex(
				again.stderr,
				/Conflict\. The container name "\/named_web_1" is already in use by container "[0-9a-f]{64}"/,
			);
		}
		t.deepEqual(await stage.leases("named"), { [address]: "named_web_1" });
		t.is(await addressOf("named_web_1"), address);
	},
);

test.serial(
	"a renamed container keeps its address, and its old name is free",
	async (t) => {
		const [address] = Object.keys(await stage.leases("named")) as [string];
		await ok(t, through("rename", "named_web_1", "named_front_1"));
		const renamed = await eventually(
			() => stage.leases("named"),
			(leases) => leases[address] === "named_front_1",
		);
		t.deepEqual(renamed, { [address]: "named_front_1" });
		const other = await run(t, "named", "named_web_1");
		t.not(other, address);
		t.deepEqual(await stage.leases("named"), {
			[address]: "named_front_1",
			[other]: "named_web_1",
		});
		await ok(t, through("rm", "-f", "named_web_1", "named_front_1"));
		await isGivenBack(t, "named");
	},
);

test.serial(
	"a subnet without a free address says so to who runs a container, and nothing is left behind",
	async (t) => {
		const size = ["--label", "arpanet.size=5"];
		for (const i of range(5)) {
			await ok(
				t,
				through("create", "--name", `tight_web_${i}`, ...size, ...sleeper),
			);
		}
		const before = await consulKeys(stage.host, "arpanet/");
		const { code, stderr } = await through(
			"run",
			"--name",
			"tight_web_6",
			...size,
			...sleeper,
		);
		t.is(code, 125);
		t.regex(
			stderr,
			/dhcp: no free address in 10\.\d+\.\d+\.\d+\/29 \(5 of 5 leased\)/,
		);
		t.deepEqual(await consulKeys(stage.host, "arpanet/"), before);
		t.is(await stage.engine.inspectContainer("tight_web_6"), undefined);
	},
);

test.serial(
	"what was removed while arpanet was down is given back when it is up again",
	async (t) => {
		await arpanet.stop();
		await ok(
			t,
			docker(stage.host, [
				"rm",
				"-f",
				...range(5).map((i) => `tight_web_${i}`),
			]),
		);
		t.is(Object.keys(await stage.leases("tight")).length, 5);
		arpanet = await startArpanet(stage.host);
		await isGivenBack(t, "tight");
	},
);

test.serial(
	"who is none of arpanet's and is connected to a deployment's network has an address that nobody else gets",
	async (t) => {
		const names = ["foreign", "passing"];
		for (const name of names) {
			await ok(t, through("run", "-d", "--init", "--name", name, ...sleeper));
		}
		await run(t, "open", "open_web_1", "--label", "arpanet.size=5");
		for (const name of names) {
			await ok(t, through("network", "connect", "open_default", name));
		}
		await run(t, "open", "open_web_2");
		await run(t, "open", "open_web_3");
		const leases = await stage.leases("open");
		const address = await addressIn("open_default", "foreign");
		t.is(leases[address], "foreign");
		t.is(Object.keys(leases).length, 5);
		const { stderr } = await through("create", "--name=open_web_4", "busybox");
		t.regex(stderr, /5 of 5 leased/);

		const connect = (...args: string[]) =>
			through("network", "connect", ...args, "open_default", "foreign");
		await ok(t, through("network", "disconnect", "open_default", "foreign"));
		await ok(t, connect("--ip", address, "--alias", "pg"));
		t.is(await addressIn("open_default", "foreign"), address);
		await ok(
			t,
			docker(stage.host, ["exec", "open_web_1", "ping", "-c1", "pg"]),
		);

		await ok(t, through("stop", "-t", "0", "foreign"));
		await ok(t, through("rm", "-f", "passing"));
		const left = await eventually(
			() => stage.leases("open"),
			(held) => !Object.values(held).includes("passing"),
			75,
		);
		t.is(left[address], "foreign"); // it has been looked at by then, and is only stopped
		await run(t, "open", "open_web_4");
		await ok(t, through("start", "foreign"));
		t.is(await addressIn("open_default", "foreign"), address);

		await ok(
			t,
			through(
				"rm",
				"-f",
				"foreign",
				...range(4).map((i) => `open_web_${i + 1}`),
			),
		);
		await isGivenBack(t, "open");
	},
);

test.serial(
	"weave gets its address in WEAVE_CIDR, and nothing of the network is touched",
	async (t) => {
		const weave = await startArpanet(stage.host, {
			name: "weave",
			configure: ({ arpanet: ours, adapters }) => {
				ours.gateway.listen = [`tcp://${stage.host.address}:2475`];
				ours.adapter.listen = `tcp://${stage.host.address}:2478`;
				adapters["arpanet-pre"] = `http://${stage.host.address}:2478/pre-hook`;
				adapters["arpanet-post"] =
					`http://${stage.host.address}:2478/post-hook`;
				ours.plugins = [
					"deployment-id",
					"placement",
					"dhcp",
					{ network: { driver: "weave" } },
				];
			},
		});
		t.teardown(() => weave.stop());
		await ok(t, docker(weave, ["create", "--name", "woven_web_1", ...sleeper]));
		await ok(
			t,
			docker(weave, [
				"create",
				"--name",
				"mine_web_1",
				"-e",
				"WEAVE_CIDR=10.222.7.9/24",
				...sleeper,
			]),
		);
		await ok(t, docker(stage.host, ["create", "--name", "plain", ...sleeper]));

		const [woven, mine, plain] = await Promise.all(
			["woven_web_1", "mine_web_1", "plain"].map((name) =>
				stage.engine.inspectContainer(name),
			),
		);
		const [[address] = []] = Object.entries(await stage.leases("woven"));
		const added = woven?.Config.Env?.filter(
			(pair) => !plain?.Config.Env?.includes(pair),
		);
		t.deepEqual(added, [`WEAVE_CIDR=${address}/24`]);
		t.deepEqual(woven?.HostConfig, plain?.HostConfig);
		t.deepEqual(
			Object.keys(woven?.NetworkSettings.Networks ?? {}),
			Object.keys(plain?.NetworkSettings.Networks ?? {}),
		);
		t.deepEqual(await stage.leases("mine"), { "10.222.7.9": "mine_web_1" });
		t.deepEqual(
			mine?.Config.Env?.filter((pair) => pair.startsWith("WEAVE")),
			["WEAVE_CIDR=10.222.7.9/24"],
		);

		await ok(t, docker(weave, ["rm", "woven_web_1", "mine_web_1"]));
		await isGivenBack(t, "woven");
		await isGivenBack(t, "mine");
	},
);
