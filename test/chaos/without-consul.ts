import { setTimeout as sleep } from "node:timers/promises";
import { api } from "../e2e/adapters.ts";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { refusals } from "./checker/gateways.ts";
import type { Violation } from "./checker/judge.ts";
import type { Stage } from "./stage.ts";

/** The container that is stopped and started meanwhile. */
const SPARE = "abc_web_1";
/** Between two rounds of creates that must be refused. */
const PAUSE_MS = 2_000;

/**
 * Stops every Consul for a while: containers go on to reach each other, creates are refused, what runs can be stopped and
 * started; then starts Consul, and nothing else.
 * @returns what did not hold; how many creates were refused, and how soon after all was right
 */
export async function withoutConsul(
	stage: Stage,
	seconds: number,
): Promise<{ violations: Violation[]; refused: number; seconds: number }> {
	const { hosts } = stage;
	const found: Violation[] = [];
	let refused = 0;
	const [first] = hosts as [Host];
	const { code, stderr } = await docker(`tcp://${first.address}:2375`, [
		...["run", "-d", "--init", "--name", SPARE, "-l", "arpanet.deployment=abc"],
		...["-l", "arpanet.service=web", "busybox", "sleep", "9999"],
	]);
	if (code !== 0) throw new Error(stderr);
	const traffic = await stage.traffic();
	await Promise.all(hosts.map((host) => host.stopConsul()));
	const end = performance.now() + seconds * 1000;
	for (let i = 0; performance.now() < end; i++) {
		const wrong = await refusals(hosts);
		refused += hosts.length - wrong.length;
		found.push(...wrong);
		const host = hosts[i % hosts.length];
		const gateway = `tcp://${host?.address}:2375`;
		for (const verb of ["stop?t=0", "start"]) {
			const path = `/containers/${SPARE}/${verb}`;
			const { status, body } = await api(gateway, "POST", path);
			if (status === 204) continue;
			found.push(
				`8: without Consul, ${host?.name} answers ${verb} with ${status}: ${body.message}`,
			);
		}
		await sleep(PAUSE_MS);
	}
	found.push(...(await traffic.end()));
	await Promise.all(hosts.map((host) => host.startConsul()));
	await stage.isWhole();
	const settled = await stage.settle();
	return {
		violations: [...found, ...settled.violations],
		refused,
		seconds: settled.seconds,
	};
}
