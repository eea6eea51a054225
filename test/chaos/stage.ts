import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import { gateways } from "./checker/gateways.ts";
import { judge, type Violation, witnesses } from "./checker/judge.ts";
import { type Container, look } from "./checker/look.ts";
import { lookups } from "./checker/lookups.ts";
import { packets } from "./checker/packets.ts";
import { Traffic } from "./checker/traffic.ts";
import type { Random } from "./random.ts";

export const DEPLOYMENTS = ["abc", "xyz"];
/** A service of the first deployment with a copy on each host that clients leave alone. */
export const WITNESS = "witness";
/** A name that containers of a deployment give a service by a link of theirs. */
export const LINK = {
	deployment: "abc",
	alias: "seen",
	service: WITNESS,
	/** To one of its copies, as docker-compose links. */
	link: `abc_${WITNESS}_1:seen`,
};
export const SERVICES = [
	...DEPLOYMENTS.map((deployment) => `web.${deployment}`),
	`${WITNESS}.${DEPLOYMENTS[0]}`,
];
/** Everything is right again this soon after the last fault: a lease goes back within a minute. */
const RIGHT_MS = 90_000;
/** Lets a process's time of day jump. */
const CLOCK = fileURLToPath(new URL("./clock.js", import.meta.url));
/** What runs on each host, a process each. */
const ROLES = [["up"], ["up"], ["agent", "adapter", "gateway"]];

/** A process of arpanet. */
export interface Member {
	host: Host;
	role: string;
	arpanet: Arpanet;
}

/** Where a host's Consul keeps its data: a small disk of its own. */
export function consulDisk({ dataDir }: Host): string {
	return join(dataDir, "consul");
}

/** Three hosts with a Consul of three servers and arpanet on each, which can be killed and started. */
export class Stage {
	readonly lab: Lab;
	#members: Member[] = [];
	#witnesses: readonly Container[] = [];
	#starts = 0;

	private constructor(lab: Lab) {
		this.lab = lab;
	}

	static async start(): Promise<Stage> {
		const lab = await startLab({
			hosts: 3,
			consulDisk: "128m",
			// it trusts a server that is back before the next fault comes
			consulConfig: { autopilot: { server_stabilization_time: "2s" } },
		});
		try {
			const stage = new Stage(lab);
			await Promise.all(lab.hosts.map((host) => loadImages(host, ["busybox"])));
			stage.#members = await Promise.all(
				lab.hosts.flatMap((host, i) =>
					(ROLES[i] ?? []).map((role) => stage.#start(host, role)),
				),
			);
			await stage.isWhole();
			for (const host of lab.hosts) await stage.#witness(host);
			const { containers } = await look(lab.hosts, []);
			stage.#witnesses = containers.filter(
				({ service }) => service === WITNESS,
			);
			return stage;
		} catch (error) {
			await lab.stop();
			throw error;
		}
	}

	get hosts(): Host[] {
		return this.lab.hosts;
	}

	get members(): readonly Member[] {
		return this.#members;
	}

	/** The adapter that is a process of its own. */
	get adapter(): Member {
		return this.#members.find(({ role }) => role === "adapter") as Member;
	}

	processesOf(host: Host): Member[] {
		return this.#members.filter((each) => each.host === host);
	}

	/** A gateway, for `DOCKER_HOST`. */
	gateway(random: Random): string {
		return `tcp://${random.pick(this.hosts).address}:2375`;
	}

	/** Starts a process anew. */
	async restart(member: Member): Promise<void> {
		member.arpanet = (await this.#start(member.host, member.role)).arpanet;
	}

	/** Waits until every gateway knows all hosts and Consul can lose a server. */
	async isWhole(): Promise<void> {
		const end = performance.now() + RIGHT_MS;
		for (const host of this.hosts) {
			for (;;) {
				const { stdout } = await docker(`tcp://${host.address}:2375`, ["info"]);
				const health = await fetch(
					`${host.consul}/v1/operator/autopilot/health`,
				).then((answer) => answer.text(), String);
				if (/Hosts: 3/.test(stdout) && /"FailureTolerance": ?1/.test(health)) {
					break;
				}
				if (performance.now() > end) throw new Error(`${stdout}\n${health}`);
				await sleep(200);
			}
		}
	}

	/** Packets between containers that no client touches. */
	async traffic(): Promise<Traffic> {
		return Traffic.watch(this.hosts, await look(this.hosts, []), WITNESS);
	}

	/** What is wrong now. */
	async check(): Promise<Violation[]> {
		const picture = await look(this.hosts, SERVICES);
		const found = [...judge(picture), ...witnesses(this.#witnesses, picture)];
		if (found.length > 0) return found;
		const more = await Promise.all([
			gateways(this.hosts, picture),
			lookups(this.hosts, picture, LINK),
			packets(this.hosts, picture),
		]);
		return more.flat();
	}

	/** What is still wrong when all should have been put right. */
	async settle(): Promise<{ violations: Violation[]; seconds: number }> {
		const began = performance.now();
		for (;;) {
			const violations = await this.check().catch((error) => [String(error)]);
			const passed = performance.now() - began;
			if (violations.length === 0 || passed > RIGHT_MS) {
				return { violations, seconds: Math.round(passed / 1000) };
			}
			await sleep(500);
		}
	}

	async #start(host: Host, role: string): Promise<Member> {
		const arpanet = await startArpanet(host, {
			role,
			name: `${role}${this.#starts++}`,
			preload: CLOCK,
			configure: (config) => {
				const adapter = `${host.address}:2378`;
				config.arpanet.host.engine = `tcp://${host.address}:2377`;
				config.arpanet.adapter.listen = `tcp://${adapter}`;
				config.adapters = {
					"arpanet-pre": `http://${adapter}/pre-hook`,
					"arpanet-post": `http://${adapter}/post-hook`,
				};
			},
		});
		return { host, role, arpanet };
	}

	/** It comes back with its engine, as clients' containers do not. */
	async #witness({ name, address }: Host): Promise<void> {
		const [deployment = ""] = DEPLOYMENTS;
		const { code, stderr } = await docker(`tcp://${address}:2375`, [
			...["run", "-d", "--init", "--restart", "always"],
			...["--name", `${deployment}_${WITNESS}_${name.slice(1)}`],
			...["-e", `constraint:node==${name}`],
			...["-l", `arpanet.deployment=${deployment}`],
			...["-l", `arpanet.service=${WITNESS}`, "busybox", "sleep", "99999"],
		]);
		if (code !== 0) throw new Error(stderr);
	}
}
