import { loadavg } from "node:os";
import { parseArgs } from "node:util";
import { Report } from "./report.ts";
import { addresses } from "./sections/addresses.ts";
import { cluster } from "./sections/cluster.ts";
import { compose } from "./sections/compose.ts";
import { consul } from "./sections/consul.ts";
import { create } from "./sections/create.ts";
import { hooks } from "./sections/hooks.ts";
import { hosts } from "./sections/hosts.ts";
import { list } from "./sections/list.ts";
import { load } from "./sections/load.ts";
import { loop } from "./sections/loop.ts";
import { ping } from "./sections/ping.ts";
import { scale } from "./sections/scale.ts";
import { startup } from "./sections/startup.ts";
import { streams } from "./sections/streams.ts";
import { Stage } from "./stage.ts";

/** What a section is given. */
export interface Bench {
	report: Report;
	stage: Stage;
	/** Few rounds: figures to develop by, none to quote. */
	quick: boolean;
}

/** Those that run on one host, and those that need three Consul servers. */
const ONE = {
	ping,
	list,
	hooks,
	create,
	streams,
	loop,
	compose,
	startup,
	consul,
};
const THREE = { cluster, scale, addresses };
/** Bring their own hosts. */
const OWN = { hosts, load };

const SECTIONS = [ONE, THREE, OWN].flatMap((each) => Object.keys(each));
/** Takes as long as all others: only when asked for. */
const LONG = "load";

async function main(): Promise<void> {
	const usual = SECTIONS.filter((name) => name !== LONG);
	const { values } = parseArgs({
		options: {
			quick: { type: "boolean", default: false },
			only: { type: "string", default: usual.join(",") },
		},
	});
	const wanted = values.only.split(",");
	const unknown = wanted.find((name) => !SECTIONS.includes(name));
	if (unknown) {
		throw new Error(
			`no section "${unknown}"; there are ${SECTIONS.join(", ")}`,
		);
	}
	const report = new Report();
	const { quick } = values;
	report.note(
		`load of this machine before: ${loadavg()[0]?.toFixed(1)} (figures move with it, ratios less)`,
	);
	for (const [hosts, sections] of [
		[1, ONE],
		[3, THREE],
	] as const) {
		const chosen = Object.entries(sections).filter(([name]) =>
			wanted.includes(name),
		);
		if (chosen.length === 0) continue;
		const stage = await Stage.start(hosts);
		try {
			for (const [name, section] of chosen) {
				await run(name, report, () => section({ report, stage, quick }));
			}
		} finally {
			await stage.stop();
		}
	}
	for (const [name, section] of Object.entries(OWN)) {
		if (wanted.includes(name)) {
			await run(name, report, () => section({ report, quick }));
		}
	}
	report.summary();
}

/** A section that breaks spoils the exit code, not the other sections. */
async function run(
	name: string,
	report: Report,
	section: () => Promise<void>,
): Promise<void> {
	const start = performance.now();
	try {
		await section();
	} catch (error) {
		process.exitCode = 1;
		report.note(
			`${name} broke: ${error instanceof Error ? error.stack : error}`,
		);
	}
	report.note(
		`(${((performance.now() - start) / 1000).toFixed(0)} s, load ${loadavg()[0]?.toFixed(1)})`,
	);
}

await main();
