import { setTimeout as sleep } from "node:timers/promises";
import { api } from "../e2e/adapters.ts";
import type { Random } from "./random.ts";
import { DEPLOYMENTS, type Stage } from "./stage.ts";

const COPIES = 5;

type Act = (
	stage: Stage,
	random: Random,
	deployment: string,
	name: string,
) => Promise<unknown>;

/** What clients do, through any gateway; what fails they leave. */
const ACTS: Act[] = [
	up,
	up,
	up,
	act("stop?t=1"),
	act("start"),
	act("kill"),
	rm,
];

async function up(
	stage: Stage,
	random: Random,
	deployment: string,
	name: string,
): Promise<void> {
	const gateway = stage.gateway(random);
	const body = {
		Image: "busybox",
		Cmd: ["sleep", "9999"],
		Labels: {
			"arpanet.deployment": deployment,
			"arpanet.service": "web",
		},
		HostConfig: { Init: true },
	};
	await api(gateway, "POST", `/containers/create?name=${name}`, body);
	await api(gateway, "POST", `/containers/${name}/start`);
}

function act(what: string): Act {
	return (stage, random, _, name) =>
		api(stage.gateway(random), "POST", `/containers/${name}/${what}`);
}

function rm(stage: Stage, random: Random, _: string, name: string) {
	const path = `/containers/${name}?force=1`;
	return api(stage.gateway(random), "DELETE", path);
}

/** Several clients at once until the signal ends them. @returns how many requests had an answer */
export async function work(
	stage: Stage,
	random: Random,
	signal: AbortSignal,
): Promise<number> {
	let answered = 0;
	await Promise.all(
		Array.from({ length: 4 }, async () => {
			while (!signal.aborted) {
				const deployment = random.pick(DEPLOYMENTS);
				const name = `${deployment}_web_${random.between(1, COPIES)}`;
				const doing = random.pick(ACTS)(stage, random, deployment, name);
				const late = sleep(30_000);
				await Promise.race([doing, late]).then(
					() => answered++,
					() => sleep(100), // the gateway is dead: another time
				);
			}
		}),
	);
	return answered;
}
