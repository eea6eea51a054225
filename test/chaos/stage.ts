import { setTimeout as sleep } from "node:timers/promises";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import { judge, type Violation } from "./checker/judge.ts";
import { look } from "./checker/look.ts";
import { packets } from "./checker/packets.ts";
import type { Random } from "./random.ts";

export const DEPLOYMENTS = ["abc", "xyz"];
const SERVICES = DEPLOYMENTS.map((deployment) => `web.${deployment}`);
/** Everything is right again this soon after the last fault: a lease goes back within a minute. */
const RIGHT_MS = 90_000;

/** Three hosts with a Consul of three servers and arpanet on each, which can be killed and started. */
export class Stage {
	readonly lab: Lab;
	readonly arpanets = new Map<Host, Arpanet>();
	#starts = 0;

	private constructor(lab: Lab) {
		this.lab = lab;
	}

	static async start(): Promise<Stage> {
		const lab = await startLab({ hosts: 3 });
		try {
			const stage = new Stage(lab);
			await Promise.all(lab.hosts.map((host) => loadImages(host, ["busybox"])));
			await Promise.all(lab.hosts.map((host) => stage.startArpanet(host)));
			await stage.isWhole();
			return stage;
		} catch (error) {
			await lab.stop();
			throw error;
		}
	}

	get hosts(): Host[] {
		return this.lab.hosts;
	}

	/** A gateway, for `DOCKER_HOST`. */
	gateway(random: Random): string {
		return `tcp://${random.pick(this.hosts).address}:2375`;
	}

	async startArpanet(host: Host): Promise<void> {
		const arpanet = await startArpanet(host, {
			name: `arpanet${this.#starts++}`,
			configure: ({ arpanet }) => {
				arpanet.host.engine = `tcp://${host.address}:2377`;
			},
		});
		this.arpanets.set(host, arpanet);
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

	/** What is wrong now. */
	async check(): Promise<Violation[]> {
		const picture = await look(this.hosts, SERVICES);
		const found = judge(picture);
		return found.length > 0 ? found : packets(this.hosts, picture);
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
}
