import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stringify } from "yaml";
import { arpanetProgram } from "../../test/lab/arpanet.ts";
import { compose1, docker } from "../../test/lab/clients.ts";
import { type LabCluster, startCluster } from "../../test/lab/cluster.ts";
import type { Host } from "../../test/lab/lab.ts";
import type { Bench } from "../bench.ts";
import { interleave, median, timed } from "../figures.ts";

const CONTAINERS = 60;
/** Started before: on every host the image has come and the network is woven. */
const FIRST = 6;
/**
 * An engine by itself, also where it gives the stack a network of its own as arpanet does, and a gateway whose containers may go
 * to so many hosts.
 */
const WAYS = [
	"engine",
	"engine, network",
	"1 host",
	"2 hosts",
	"3 hosts",
] as const;

/** `docker-compose up` and `docker ps` over one, two and three hosts, which share this machine's processors. */
export async function hosts({
	report,
	quick,
}: Omit<Bench, "stage">): Promise<void> {
	const count = quick ? CONTAINERS / 4 : CONTAINERS;
	report.section(
		`docker-compose up -d of ${count} containers, docker ps, docker create; engines on the same cores`,
	);
	// clients reach it as they reach the engine: without TLS, of which each request of docker-py makes a new connection
	const socketOf = ({ dataDir }: Host) => join(dataDir, "gateway.sock");
	const lab = await startCluster({ hosts: 3 }, ({ arpanet }, host) => {
		arpanet.gateway.listen.push(`unix://${socketOf(host)}`);
	});
	try {
		const ups = new Map(WAYS.map((way) => [way, [] as number[]]));
		const lists = new Map(WAYS.map((way) => [way, [] as number[]]));
		const creates = new Map(WAYS.map((way) => [way, [] as number[]]));
		const [first] = lab.hosts as [Host];
		const services = { web: { image: "busybox", command: "sleep 100000" } };
		const plain = join(first.dataDir, "many.yml");
		const inNetwork = join(first.dataDir, "many-network.yml");
		await writeFile(plain, stringify(services));
		await writeFile(inNetwork, stringify({ version: "2.4", services }));
		await interleave(WAYS, quick ? 1 : 3, async (way, round) => {
			const number = WAYS.indexOf(way);
			const isEngine = way.startsWith("engine");
			await useOnly(lab, isEngine ? 1 : Number.parseInt(way, 10));
			const target = isEngine ? first : `unix://${socketOf(first)}`;
			const file = way === "engine, network" ? inNetwork : plain;
			const options = { timeout: 300_000 };
			const run = async (...args: string[]) => {
				const project = ["-f", file, "-p", `up${number}r${round}`];
				const all = [...project, ...args];
				const { code, stderr } = await compose1(target, all, options);
				if (code !== 0) throw new Error(`${args.join(" ")} ${way}: ${stderr}`);
			};
			const cli = async (...args: string[]) => {
				const { code, stderr } = await docker(target, args, options);
				if (code !== 0) throw new Error(`${args.join(" ")} ${way}: ${stderr}`);
			};
			await run("up", "-d", "--scale", `web=${FIRST}`);
			const up = await timed(() => run("up", "-d", "--scale", `web=${count}`));
			ups.get(way)?.push(up);
			for (let i = 0; i < 5; i++) {
				lists.get(way)?.push(await timed(() => cli("ps", "-a")));
				const name = `up${number}r${round}_other_${i + 1}`;
				creates
					.get(way)
					?.push(await timed(() => cli("create", "--name", name, "busybox")));
				await cli("rm", name);
			}
			await run("kill");
			await run("down");
			return 0;
		});
		const of = (figures: Map<string, number[]>, way: string) =>
			median(figures.get(way) ?? []);
		report.table(
			["", "up s", "of engine", "of it with network", "ps ms", "create ms"],
			WAYS.map((way) => [
				way,
				of(ups, way) / 1000,
				of(ups, way) / of(ups, "engine"),
				of(ups, way) / of(ups, "engine, network"),
				of(lists, way),
				of(creates, way),
			]),
		);
		for (const way of ["2 hosts", "3 hosts"] as const) {
			report.budget(
				`compose up to ${count} over ${way}, of one engine`,
				of(ups, way) / of(ups, "engine"),
				{ most: 1.05, stretch: 1, unit: " x" },
			);
		}
	} finally {
		await lab.stop();
	}
}

/** Drains all hosts but the first so many. */
async function useOnly(lab: LabCluster, count: number): Promise<void> {
	const [first] = lab.hosts as [Host];
	const [gateway] = lab.gateways;
	for (const [i, { name }] of lab.hosts.entries()) {
		const verb = i < count ? "undrain" : "drain";
		const args = ["host", verb, name, "-c", gateway?.config ?? ""];
		const { code, stderr } = await first.exec(arpanetProgram, args);
		if (code !== 0) throw new Error(stderr);
	}
}
