/**
 * Faults over real hosts, judged by a checker that shares nothing with the product.
 *
 *     npm run chaos -- --seed 1 --rounds 20     rounds of what comes to mind; the default
 *     npm run chaos -- without-consul           every Consul stopped for --seconds 120
 *     npm run chaos -- crash-points             kill -9 before and after every call of a create
 *
 * Rounds stop at the first violation; its seed, as `--seed N --rounds 1`, plays the same faults again. What clients and
 * faults meet in between is up to the machine.
 */
import { parseArgs } from "node:util";
import { loadImages } from "../lab/images.ts";
import { type Host, startLab } from "../lab/lab.ts";
import {
	crashEverywhere,
	ON_ONE,
	ON_TWO,
	startUp,
	wrongAtLast,
} from "./crash-points.ts";
import { round } from "./rounds.ts";
import { Stage } from "./stage.ts";
import { Tripwire } from "./tripwire.ts";
import { withoutConsul } from "./without-consul.ts";

const { values, positionals } = parseArgs({
	allowPositionals: true,
	options: {
		seed: { type: "string", default: "1" },
		rounds: { type: "string", default: "10" },
		seconds: { type: "string", default: "120" },
	},
});
const [what = "rounds"] = positionals;

if (what === "rounds") {
	await onStage((stage) =>
		rounds(stage, Number(values.seed), Number(values.rounds)),
	);
} else if (what === "without-consul") {
	await onStage(async (stage) => {
		const told = await withoutConsul(stage, Number(values.seconds));
		const { refused, seconds, violations } = told;
		console.log(
			`${refused} creates refused in ${values.seconds} s without Consul; all right ${seconds} s after it was back`,
		);
		return violations;
	});
} else if (what === "crash-points") {
	await crashes(1, ON_ONE);
	await crashes(2, ON_TWO);
} else throw new Error("rounds, without-consul or crash-points?");

async function onStage(
	play: (stage: Stage) => Promise<string[]>,
): Promise<void> {
	const stage = await Stage.start();
	try {
		const violations = await play(stage);
		if (violations.length === 0) return;
		failed(violations);
		await tellState(stage.hosts[0] as Host);
		for (const { host, role, arpanet } of stage.members) {
			const lines = arpanet.log().split("\n").slice(-15);
			const last = lines.join("\n").slice(0, 4000);
			console.log(`\n${host.name}, ${role}:\n${last}`);
		}
	} finally {
		await stage.lab.stop();
	}
}

/** What is in Consul, without what says nothing of how it came to be so. */
async function tellState({ consul }: Host): Promise<void> {
	const answer = await fetch(`${consul}/v1/kv/arpanet/?recurse`);
	const entries = (await answer.json()) as { Key: string; Value: string }[];
	for (const { Key, Value } of entries) {
		if (/^arpanet\/(beats|bodies|images)\b/.test(Key)) continue;
		const value = Buffer.from(Value ?? "", "base64").toString();
		console.log(`${Key}: ${value.slice(0, 400)}`);
	}
}

async function crashes(hosts: number, scenes: typeof ON_ONE): Promise<void> {
	const lab = await startLab({ hosts });
	try {
		await loadImages(lab.hosts[0] as Host, ["busybox"]);
		for (const [i, [victim, start]] of Object.entries(scenes).entries()) {
			const scene = await start(lab, new Tripwire());
			const made = await crashEverywhere(lab.hosts, scene, `c${i}p`);
			await scene.stop();
			console.log(`\n${victim}, killed at ${made.points.length} points:`);
			console.log(made.points.join("\n"));
			const again = await Promise.all(lab.hosts.map((host) => startUp(host)));
			failed([
				...made.violations,
				...(await wrongAtLast(lab.hosts, made.deployments)),
			]);
			await Promise.all(again.map((arpanet) => arpanet.stop()));
		}
	} finally {
		await lab.stop();
	}
}

function failed(violations: string[]): void {
	if (violations.length === 0) return;
	console.log(`\n${violations.join("\n")}`);
	process.exitCode = 1;
}

/** @returns what the last one has violated */
async function rounds(
	stage: Stage,
	first: number,
	count: number,
): Promise<string[]> {
	console.log("| seed | faults | answered | right after | violations |");
	console.log("|---|---|---|---|---|");
	for (let seed = first; seed < first + count; seed++) {
		const result = await round(stage, seed);
		const { faults, answered, seconds, violations } = result;
		console.log(
			`| ${seed} | ${faults.join(", ")} | ${answered} | ${seconds} s | ${violations.length} |`,
		);
		if (violations.length === 0) continue;
		return [...violations, `npm run chaos -- --seed ${seed} --rounds 1`];
	}
	return [];
}
