import type { ChildProcess } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findBinary } from "../../examples/images/tools.ts";
import { insist } from "../e2e/adapters.ts";
import {
	type Arpanet,
	type ArpanetOptions,
	startArpanet,
} from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import type { Host, Lab } from "../lab/lab.ts";
import { judge, type Violation } from "./checker/judge.ts";
import { leaseOf, look } from "./checker/look.ts";
import type { Tripwire } from "./tripwire.ts";

/** What a container held is given back within a minute; on a busy machine a look takes longer. */
const RIGHT_MS = 100_000;

/** A process that is killed at each of its calls, and what it takes to go on. */
export interface Scene {
	/** Docker's API, for clients. */
	gateway: string;
	tripwire: Tripwire;
	/** More of the create's body. */
	more?: object;
	victim(): ChildProcess;
	/** Starts it again once it is dead. */
	restart(): Promise<void>;
	stop(): Promise<void>;
}

type SceneMaker = (lab: Lab, tripwire: Tripwire) => Promise<Scene>;

/** Who is killed, where all of arpanet is on one host. */
export const ON_ONE: Record<string, SceneMaker> = {
	"all in one process": allInOne,
	"an adapter of its own": (...args) => apart("adapter", ...args),
	"a gateway of its own": (...args) => apart("gateway", ...args),
};
/** Who is killed, where containers go to another host. */
export const ON_TWO: Record<string, SceneMaker> = {
	"the host that is asked": remote,
};

/** What came of killing a process at every point of a create. */
export interface Crashes {
	/** Where it was killed: `after PUT /v1/txn`. */
	points: string[];
	/** Deployments that were made, one for each point and one to the end. */
	deployments: string[];
	violations: Violation[];
}

/**
 * Creates a container of a new deployment, kills the victim at the first point of it, starts it again, and lets the
 * client try until it has its container; then another one with a kill at the second point, until a create goes through.
 * @param prefix of the deployments' names
 */
export async function crashEverywhere(
	hosts: readonly Host[],
	scene: Scene,
	prefix: string,
): Promise<Crashes> {
	const { gateway, tripwire, more } = scene;
	const result: Crashes = { points: [], deployments: [], violations: [] };
	for (let at = 0; ; at++) {
		const deployment = `${prefix}${at}`;
		const name = `${deployment}_web_1`;
		result.deployments.push(deployment);
		await tripwire.quiet();
		const tripped = tripwire.set(scene.victim(), at);
		const up = create(gateway, deployment, name, more).then(() =>
			insist(() => gateway, "POST", `/containers/${name}/start`),
		);
		const point = await Promise.race([tripped, up.then(() => undefined)]);
		if (!point) {
			tripwire.clear();
			return result;
		}
		result.points.push(point);
		const promised = await leaseOf(hosts[0] as Host, deployment, name);
		await scene.restart();
		await up;
		const { containers } = await look(hosts, []);
		const all = containers.filter((each) => each.name === name);
		const got = all.map(({ address, running }) =>
			running ? address : `${address}, stopped`,
		);
		if (all.length !== 1 || got[0] !== (promised ?? got[0])) {
			result.violations.push(
				`5: killed ${point}, ${name} has ${got.join(" and ")}, and was given ${promised}`,
			);
		}
	}
}

/**
 * What is wrong once everything had its time to be put right.
 * @param deployments that were made
 */
export async function wrongAtLast(
	hosts: readonly Host[],
	deployments: string[],
): Promise<Violation[]> {
	const services = deployments.map((each) => `web.${each}`);
	const end = performance.now() + RIGHT_MS;
	for (;;) {
		const wrong = judge(await look(hosts, services));
		if (wrong.length === 0 || performance.now() > end) return wrong;
		await sleep(500);
	}
}

async function create(
	gateway: string,
	deployment: string,
	name: string,
	more: object | undefined,
): Promise<void> {
	const body = {
		Image: "busybox",
		Cmd: ["sleep", "9999"],
		Labels: {
			"arpanet.deployment": deployment,
			"arpanet.service": "web",
		},
		HostConfig: { Init: true },
		...more,
	};
	const path = `/containers/create?name=${name}`;
	const answer = await insist(() => gateway, "POST", path, body);
	// 409: the answer to an earlier try was lost
	if ([201, 409].includes(answer.status)) return;
	throw new Error(`${name}: ${answer.status} ${JSON.stringify(answer.body)}`);
}

/** All of arpanet in one process, which dies. */
async function allInOne(lab: Lab, tripwire: Tripwire): Promise<Scene> {
	const [host] = lab.hosts as [Host];
	const guarded = await guardAll(tripwire, host, lab);
	const start = () => startArpanet(host, { configure: guarded });
	return scene(tripwire, await start(), start);
}

/**
 * Each role in a process of its own, and one of them dies.
 * @param role `adapter` or `gateway`; the gateway also at its calls to the adapter
 */
async function apart(
	role: "adapter" | "gateway",
	lab: Lab,
	tripwire: Tripwire,
): Promise<Scene> {
	const [host] = lab.hosts as [Host];
	const guarded = await guardAll(tripwire, host, lab);
	const { gateway: wire } = lab;
	const hooks = await tripwire.guard(
		{ host: wire, port: 0 },
		{ host: host.address, port: 2378 },
	);
	const start = (role: string, isVictim: boolean) =>
		startArpanet(host, {
			role,
			name: role,
			configure: (config) => {
				if (isVictim) guarded(config);
				const adapter = `${host.address}:2378`;
				config.arpanet.adapter.listen = `tcp://${adapter}`;
				const asked = isVictim ? `${wire}:${hooks}` : adapter;
				config.adapters = {
					"arpanet-pre": `http://${asked}/pre-hook`,
					"arpanet-post": `http://${asked}/post-hook`,
				};
			},
		});
	const others = ["agent", "adapter", "gateway"].filter((r) => r !== role);
	const running = await Promise.all(others.map((r) => start(r, false)));
	const made = scene(tripwire, await start(role, true), () =>
		start(role, true),
	);
	return {
		...made,
		stop: async () => {
			await made.stop();
			await Promise.all(running.map((each) => each.stop()));
		},
	};
}

/** All of arpanet on the first host, which dies; containers go to the second one, over its engine's port. */
async function remote(lab: Lab, tripwire: Tripwire): Promise<Scene> {
	const [host, other] = lab.hosts as [Host, Host];
	const guarded = await guardAll(tripwire, host, lab);
	const engine = { host: other.address, port: 2377 };
	const port = await tripwire.guard({ host: lab.gateway, port: 0 }, engine);
	const detour = [
		...["-p", "tcp", "-d", engine.host, "--dport", `${engine.port}`],
		...["-j", "DNAT", "--to-destination", `${lab.gateway}:${port}`],
	];
	const rule = (verb: string) =>
		host.exec(findBinary("iptables"), [
			"-w",
			"-t",
			"nat",
			verb,
			"OUTPUT",
			...detour,
		]);
	await rule("-A");
	const neighbour = await startUp(other);
	const start = () => startUp(host, guarded);
	const made = scene(tripwire, await start(), start);
	for (const end = performance.now() + RIGHT_MS; ; await sleep(200)) {
		const { stdout } = await docker(made.gateway, ["info"]);
		if (stdout.includes("Hosts: 2")) break;
		if (performance.now() > end) throw new Error(stdout);
	}
	return {
		...made,
		more: { Env: [`constraint:node==${other.name}`] },
		stop: async () => {
			await made.stop();
			await neighbour.stop();
			await rule("-D");
		},
	};
}

/** Starts all of arpanet on a host, its engine within reach of others. */
export function startUp(
	host: Host,
	configure: Required<ArpanetOptions>["configure"] = () => {},
): Promise<Arpanet> {
	return startArpanet(host, {
		configure: (config) => {
			configure(config);
			config.arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
}

/** Leads a process's calls to Consul and to its engine through a tripwire. @returns what to do to its configuration */
async function guardAll(
	tripwire: Tripwire,
	host: Host,
	{ gateway }: Lab,
	// biome-ignore lint/suspicious/noExplicitAny: the configuration file as it is
): Promise<(config: any) => void> {
	const consul = await tripwire.guard(
		{ host: gateway, port: 0 },
		{ host: host.address, port: 8500 },
	);
	const path = join(host.dataDir, `tripwire-${consul}.sock`);
	await tripwire.guard({ path }, { socketPath: host.socketPath });
	return ({ arpanet }) => {
		arpanet.consul.address = `http://${gateway}:${consul}`;
		arpanet.engine = `unix://${path}`;
	};
}

function scene(
	tripwire: Tripwire,
	first: Arpanet,
	start: () => Promise<Arpanet>,
): Scene {
	let victim = first;
	return {
		gateway: first.docker,
		tripwire,
		victim: () => victim.process,
		restart: async () => {
			await victim.stop("SIGKILL"); // until it is buried
			victim = await start();
		},
		stop: async () => {
			await victim.stop();
			tripwire.close();
		},
	};
}
