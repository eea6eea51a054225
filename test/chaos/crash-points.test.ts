import test from "ava";
import { loadImages } from "../lab/images.ts";
import { type Host, type Lab, startLab } from "../lab/lab.ts";
import {
	crashEverywhere,
	ON_ONE,
	startUp,
	wrongAtLast,
} from "./crash-points.ts";
import { Tripwire } from "./tripwire.ts";

let lab: Lab;
const made: string[] = [];

test.before(async () => {
	lab = await startLab();
	await loadImages(lab.hosts[0] as Host, ["busybox"]);
});
test.after.always(() => lab?.stop());

const crash = test.macro({
	async exec(t, victim: string, prefix: string) {
		t.timeout(10 * 60_000); // twenty-odd restarts, on whatever machine
		const tripwire = new Tripwire({ writesOnly: true });
		const scene = await ON_ONE[victim]?.(lab, tripwire);
		if (!scene) throw new Error(victim);
		try {
			const { points, deployments, violations } = await crashEverywhere(
				lab.hosts,
				scene,
				prefix,
			);
			t.log(points.join("\n"));
			made.push(...deployments);
			t.deepEqual(violations, []);
			t.true(points.includes("after PUT /v1/txn"));
		} finally {
			await scene.stop();
		}
	},
	title: (_, victim: string) =>
		`${victim}, killed before and after each write of a create: who tries again has one container, with the address it was given`,
});
test.serial(crash, "all in one process", "one");
test.serial(crash, "an adapter of its own", "apart");

test.serial("a minute later nothing of it is left over", async (t) => {
	const arpanet = await startUp(lab.hosts[0] as Host);
	t.deepEqual(await wrongAtLast(lab.hosts, made), []);
	await arpanet.stop();
});
