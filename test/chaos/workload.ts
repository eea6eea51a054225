import { setTimeout as sleep } from "node:timers/promises";
import { type Answer, api, LATE } from "../e2e/adapters.ts";
import type { Violation } from "./checker/judge.ts";
import { Ledger, type State } from "./ledger.ts";
import type { Random } from "./random.ts";
import { DEPLOYMENTS, LINK, type Stage } from "./stage.ts";

const COPIES = 5;
/** Longer than any fault lasts: who has no answer by then gets none. */
const PATIENCE_MS = 60_000;

type Ask = (method: string, path: string, body?: unknown) => Promise<Answer>;
type Act = (ask: Ask, deployment: string, name: string) => Promise<Answer>;

/** Of its copies those with an even number are in DNS once they are healthy. */
const HEALTHCHECK = { Test: ["CMD", "true"], Interval: 2e9 };

const up: Act = async (ask, deployment, name) => {
	const isEven = /[02468]$/.test(name);
	const body = {
		Image: "busybox",
		Cmd: ["sleep", "9999"],
		Labels: {
			"arpanet.deployment": deployment,
			"arpanet.service": "web",
		},
		...(isEven ? { Healthcheck: HEALTHCHECK } : {}),
		HostConfig: {
			Init: true,
			Links: deployment === LINK.deployment ? [LINK.link] : [],
		},
	};
	const create = `/containers/create?name=${name}`;
	const made = await ask("POST", create, body);
	const started = await ask("POST", `/containers/${name}/start`);
	return made.status < 500 ? started : made;
};

const rm: Act = (ask, _, name) => ask("DELETE", `/containers/${name}?force=1`);

function act(what: string): Act {
	return (ask, _, name) => ask("POST", `/containers/${name}/${what}`);
}

/** As docker-compose does it when the file has changed: the old one steps aside, and goes when the new one runs. */
const recreate: Act = async (ask, deployment, name) => {
	const aside = `old_${name}`;
	const answers = [
		await rm(ask, deployment, aside), // of another who died half-way
		await ask("POST", `/containers/${name}/stop?t=1`),
		await ask("POST", `/containers/${name}/rename?name=${aside}`),
		await up(ask, deployment, name),
		await rm(ask, deployment, aside),
	];
	const [, , , started] = answers as [Answer, Answer, Answer, Answer];
	return answers.find(({ status }) => status >= 500) ?? started;
};

const pause: Act = async (ask, _, name) => {
	const paused = await ask("POST", `/containers/${name}/pause`);
	if (paused.status >= 300) return paused;
	await sleep(500);
	return ask("POST", `/containers/${name}/unpause`);
};

/** What clients do, through any gateway, and how a container is then; what fails they leave. */
const ACTS: [act: Act, after: State][] = [
	[up, "running"],
	[up, "running"],
	[up, "running"],
	[act("stop?t=1"), "stopped"],
	[act("start"), "running"],
	[act("kill"), "stopped"],
	[rm, "gone"],
	[recreate, "running"],
	[pause, "running"],
];

/** What came of what clients asked. */
export interface Work {
	/** Requests with an answer that is no failure of arpanet. */
	answered: number;
	/** 6: an engine answers whatever it is asked. */
	unanswered: Violation[];
	/** What the answers said. */
	ledger: Ledger;
}

/**
 * Several clients at once until the signal ends them.
 * @param patience milliseconds without a byte
 */
export async function work(
	stage: Pick<Stage, "gateway">,
	random: Random,
	signal: AbortSignal,
	patience = PATIENCE_MS,
): Promise<Work> {
	const ledger = new Ledger();
	const done: Work = { answered: 0, unanswered: [], ledger };
	await Promise.all(
		Array.from({ length: 4 }, async () => {
			while (!signal.aborted) {
				const deployment = random.pick(DEPLOYMENTS);
				const name = `${deployment}_web_${random.between(1, COPIES)}`;
				const [act, after] = random.pick(ACTS);
				const gateway = stage.gateway(random);
				const ask: Ask = (method, path, body) =>
					api(gateway, method, path, body, patience);
				try {
					const status = await ledger.note(name, after, () =>
						act(ask, deployment, name),
					);
					if (status < 500) done.answered++;
				} catch (error) {
					const { message } = error as Error;
					if (message.endsWith(LATE)) done.unanswered.push(`6: ${message}`);
					await sleep(100); // the gateway is dead: another time
				}
			}
		}),
	);
	return done;
}
