import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { compose1 } from "../../test/lab/clients.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, timed } from "../figures.ts";

/** An engine gives the stack of a fig.yml no network, and that of a Compose file one; arpanet gives each one. */
const WAYS = [
	"fig.yml, direct",
	"fig.yml, gateway",
	"Compose file, direct",
	"Compose file, gateway",
] as const;
const SERVICES = 20;
/** The client's own start is most of an `up` again, and varies by a quarter. */
const AGAIN = 3;

/** The stock docker-compose with a file of 20 services, of either kind: up, and up again. */
export async function compose({ report, stage, quick }: Bench): Promise<void> {
	report.section(`docker-compose up -d of ${SERVICES} containers`);
	const service = { image: "busybox", command: "sleep 100000" };
	const services = Object.fromEntries(
		Array.from({ length: SERVICES }, (_, i) => [`service${i}`, service]),
	);
	const fig = join(stage.host.dataDir, "fig.yml");
	const composeFile = join(stage.host.dataDir, "docker-compose.yml");
	await writeFile(fig, stringify(services));
	await writeFile(composeFile, stringify({ version: "2.4", services }));
	const again = new Map(WAYS.map((way) => [way, [] as number[]]));
	const first = await interleave(WAYS, quick ? 1 : 3, async (name, round) => {
		const way = name.endsWith("gateway") ? stage.gateway : stage.direct;
		const path = name.startsWith("fig.yml") ? fig : composeFile;
		const project = `up${WAYS.indexOf(name)}r${round}`;
		const run = async (...args: string[]) => {
			const all = ["-f", path, "-p", project, ...args];
			const { code, stderr } = await compose1(`unix://${way.socketPath}`, all);
			if (code !== 0) throw new Error(`${args.join(" ")} ${name}: ${stderr}`);
		};
		const took = await timed(() => run("up", "-d"));
		for (let time = 0; time < AGAIN; time++) {
			again.get(name)?.push(await timed(() => run("up", "-d")));
		}
		await run("kill");
		await run("down");
		return took;
	});
	const up = (name: (typeof WAYS)[number]) => median(first[name]);
	const upAgain = (name: (typeof WAYS)[number]) =>
		median(again.get(name) ?? []);
	report.table(
		["", "up s", "up again s"],
		WAYS.map((name) => [name, up(name) / 1000, upAgain(name) / 1000]),
	);
	for (const file of ["fig.yml", "Compose file"] as const) {
		report.budget(
			`compose up of ${SERVICES} over direct, ${file}`,
			up(`${file}, gateway`) / up(`${file}, direct`),
			{ most: 1.08, stretch: 1, unit: " x" },
		);
		report.budget(
			`compose up again over direct, ${file}`,
			upAgain(`${file}, gateway`) / upAgain(`${file}, direct`),
			{ most: 1.1, stretch: 1, unit: " x" },
		);
	}
}
