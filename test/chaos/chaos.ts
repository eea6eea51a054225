/**
 * Rounds of faults over three real hosts, each judged by a checker that shares nothing with the product.
 *
 *     npm run chaos -- --seed 1 --rounds 20
 *
 * Stops at the first violation; its seed, as `--seed N --rounds 1`, plays the same faults again. What clients and faults
 * meet in between is up to the machine.
 */
import { parseArgs } from "node:util";
import { round } from "./rounds.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
	options: {
		seed: { type: "string", default: "1" },
		rounds: { type: "string", default: "10" },
	},
});
const first = Number(values.seed);
const stage = await Stage.start();
console.log("| seed | faults | answered | right after | violations |");
console.log("|---|---|---|---|---|");
try {
	for (let seed = first; seed < first + Number(values.rounds); seed++) {
		const result = await round(stage, seed);
		const { faults, answered, seconds, violations } = result;
		console.log(
			`| ${seed} | ${faults.join(", ")} | ${answered} | ${seconds} s | ${violations.length} |`,
		);
		if (violations.length === 0) continue;
		console.log(`\n${violations.join("\n")}`);
		for (const [host, { log }] of stage.arpanets) {
			const lines = log().split("\n").slice(-15);
			console.log(`\n${host.name}:\n${lines.join("\n").slice(0, 4000)}`);
		}
		console.log(`\nnpm run chaos -- --seed ${seed} --rounds 1`);
		process.exitCode = 1;
		break;
	}
} finally {
	await stage.lab.stop();
}
