import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { compose1 } from "../../test/lab/clients.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, timed } from "../figures.ts";

/** In the second, the engine gives the stack a network of its own, as arpanet does: compare with that. */
const WAYS = ["direct", "direct, network", "gateway"] as const;
const SERVICES = 20;
/** The client's own start is most of an `up` again, and varies by a quarter. */
const AGAIN = 3;

/** The stock docker-compose with a plain fig.yml of 20 services: up, and up again. */
export async function compose({ report, stage, quick }: Bench): Promise<void> {
	report.section(`docker-compose up -d of ${SERVICES} containers`);
	const file = join(stage.host.dataDir, "fig.yml");
	const inNetwork = join(stage.host.dataDir, "docker-compose.yml");
	const service = { image: "busybox", command: "sleep 100000" };
	const services = Object.fromEntries(
		Array.from({ length: SERVICES }, (_, i) => [`service${i}`, service]),
	);
	await writeFile(file, stringify(services));
	await writeFile(inNetwork, stringify({ version: "2.4", services }));
	const again = new Map(WAYS.map((way) => [way, [] as number[]]));
	const first = await interleave(WAYS, quick ? 1 : 3, async (name, round) => {
		const way = name === "gateway" ? stage.gateway : stage.direct;
		const path = name === "direct, network" ? inNetwork : file;
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
		["", "up s", "of direct", "up again s", "of direct"],
		WAYS.map((name) => [
			name,
			up(name) / 1000,
			up(name) / up("direct"),
			upAgain(name) / 1000,
			upAgain(name) / upAgain("direct"),
		]),
	);
	report.note(
		`over the engine that gives it a network of its own: ${(up("gateway") / up("direct, network")).toFixed(2)} x`,
	);
	report.budget(
		`compose up of ${SERVICES} over direct`,
		up("gateway") / up("direct"),
		{ most: 1.08, stretch: 1, unit: " x" },
	);
	report.budget(
		"compose up again over direct",
		upAgain("gateway") / upAgain("direct"),
		{ most: 1.1, stretch: 1, unit: " x" },
	);
}
