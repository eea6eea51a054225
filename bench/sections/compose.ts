import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { compose1 } from "../../test/lab/clients.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, timed } from "../figures.ts";

const WAYS = ["direct", "gateway"] as const;
const SERVICES = 20;

/** The stock docker-compose with a plain fig.yml of 20 services: up, and up again. */
export async function compose({ report, stage, quick }: Bench): Promise<void> {
	report.section(`docker-compose up -d of ${SERVICES} containers`);
	const file = join(stage.host.dataDir, "fig.yml");
	const service = { image: "busybox", command: "sleep 100000" };
	await writeFile(
		file,
		stringify(
			Object.fromEntries(
				Array.from({ length: SERVICES }, (_, i) => [`service${i}`, service]),
			),
		),
	);
	const again: Record<(typeof WAYS)[number], number[]> = {
		direct: [],
		gateway: [],
	};
	const first = await interleave(WAYS, quick ? 1 : 2, async (name, round) => {
		const docker = `unix://${stage.ways[name].socketPath}`;
		const run = async (...args: string[]) => {
			const project = ["-f", file, "-p", `${name}${round}`];
			const { code, stderr } = await compose1(docker, [...project, ...args]);
			if (code !== 0) throw new Error(`${args.join(" ")} ${name}: ${stderr}`);
		};
		const took = await timed(() => run("up", "-d"));
		again[name].push(await timed(() => run("up", "-d")));
		await run("kill");
		await run("rm", "-f");
		return took;
	});
	report.table(
		["", "up s", "of direct", "up again s", "of direct"],
		WAYS.map((name) => [
			name,
			median(first[name]) / 1000,
			median(first[name]) / median(first.direct),
			median(again[name]) / 1000,
			median(again[name]) / median(again.direct),
		]),
	);
	report.budget(
		`compose up of ${SERVICES} over direct`,
		median(first.gateway) / median(first.direct),
		{ most: 1.08, stretch: 1, unit: " x" },
	);
	report.budget(
		"compose up again over direct",
		median(again.gateway) / median(again.direct),
		{ most: 1.1, stretch: 1, unit: " x" },
	);
}
