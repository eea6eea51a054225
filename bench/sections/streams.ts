import { randomBytes } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { runOk } from "../../examples/images/tools.ts";
import type { Bench } from "../bench.ts";
import { interleave, median } from "../figures.ts";
import type { Stage, Way } from "../stage.ts";
import { memory } from "./startup.ts";

const WAYS = ["direct", "node", "gateway"] as const;
const MB = 1e6;
const OUTPUT = 64 * 2 ** 20;
const IMAGE = 50 * 2 ** 20;
const BUILD = "/build?q=1&t=big";
/** The stream that comes fastest. */
export const BIG = "/images/big/get";

const LEAST: Record<string, number> = {
	logs: 0.85,
	attach: 0.85,
	save: 0.95,
	load: 0.95,
	"build context": 0.8,
};

/** Big bodies, both ways: MB/s against the engine's own, and what memory they took. */
export async function streams({ report, stage, quick }: Bench): Promise<void> {
	report.section("Streams: MB/s, and the gateway's share of direct");
	const { pid } = stage.arpanet.process;
	await writeFile(`/proc/${pid}/clear_refs`, "5"); // its peak counts from here
	const flows = await prepare(stage, quick ? OUTPUT / 4 : OUTPUT);
	const rows: (string | number)[][] = [];
	for (const [name, flow] of Object.entries(flows)) {
		const rates = await interleave(WAYS, quick ? 1 : 5, async (way) => {
			const { bytes, ms } = await flow(stage.ways[way]);
			return bytes / MB / (ms / 1000);
		});
		const share = median(rates.gateway) / median(rates.direct);
		rows.push([name, ...WAYS.map((way) => median(rates[way])), share]);
		report.budget(`${name}: MB/s over direct`, share, {
			least: LEAST[name] ?? 1,
			stretch: 1,
			unit: " x",
		});
	}
	report.table(["", ...WAYS, "share"], rows);
	report.budget("memory, peak over the streams", await memory(pid, "VmHWM"), {
		most: 130,
		stretch: 120,
		unit: " MB",
	});
}

interface Flow {
	bytes: number;
	ms: number;
}

/** What each stream needs, made over the engine itself, and how to run it over a way. */
async function prepare(
	stage: Stage,
	output: number,
): Promise<Record<string, (way: Way) => Promise<Flow>>> {
	const engine = stage.direct.client;
	const line = `yes "$(head -c 999 /dev/zero | tr '\\0' x)"`;
	const command = ["sh", "-c", `${line} | head -c ${output}`];
	const talker = await engine.ask("POST", "/containers/create", {
		Image: "busybox",
		Cmd: command,
	});
	const { Id } = JSON.parse(talker.body) as { Id: string };
	await engine.ask("POST", `/containers/${Id}/start`);
	await engine.ask("POST", `/containers/${Id}/wait`);

	const context = await buildBig(stage);
	const saved = join(stage.host.dataDir, "big.tar");
	const save = await download(stage.direct, BIG, true);
	await writeFile(saved, Buffer.concat(save.chunks));
	const image = await readFile(saved);
	return {
		logs: (way) => download(way, `/containers/${Id}/logs?stdout=1&stderr=1`),
		attach: (way) => attach(way, stage.direct, command),
		save: (way) => download(way, BIG),
		load: (way) => upload(way, "/images/load?quiet=1", image),
		"build context": (way) => upload(way, BUILD, context),
	};
}

/** Makes an image that takes a while to save. @returns its build context */
export async function buildBig(stage: Stage): Promise<Buffer> {
	const context = await contextTar(stage);
	await upload(stage.direct, BUILD, context);
	return context;
}

/** A build context whose building costs nothing once it has been read: the steps are cached. */
async function contextTar({ host }: Stage): Promise<Buffer> {
	const folder = join(host.dataDir, "context");
	await mkdir(folder, { recursive: true });
	await writeFile(
		join(folder, "Dockerfile"),
		"FROM busybox\nCOPY data /data\n",
	);
	await writeFile(join(folder, "data"), randomBytes(IMAGE));
	const tar = join(host.dataDir, "context.tar");
	await runOk("tar", ["-C", folder, "-cf", tar, "."]);
	await rm(folder, { recursive: true });
	return readFile(tar);
}

export function download(
	{ socketPath }: Way,
	path: string,
	keep = false,
): Promise<Flow & { chunks: Buffer[] }> {
	return new Promise((resolve, reject) => {
		const start = performance.now();
		const chunks: Buffer[] = [];
		let bytes = 0;
		request({ socketPath, path, agent: false }, (answer) => {
			answer.on("data", (chunk: Buffer) => {
				bytes += chunk.length;
				if (keep) chunks.push(chunk);
			});
			answer.on("error", reject);
			answer.on("end", () =>
				resolve({ bytes, ms: performance.now() - start, chunks }),
			);
		})
			.on("error", reject)
			.end();
	});
}

function upload(
	{ socketPath }: Way,
	path: string,
	body: Buffer,
): Promise<Flow> {
	return new Promise((resolve, reject) => {
		const start = performance.now();
		const headers = {
			"content-type": "application/x-tar",
			"content-length": body.length,
		};
		request(
			{ socketPath, path, method: "POST", headers, agent: false },
			(answer) => {
				let text = "";
				answer.on("data", (chunk) => (text += chunk));
				answer.on("error", reject);
				answer.on("end", () => {
					const ms = performance.now() - start;
					if (answer.statusCode === 200 && !text.includes('"error"')) {
						resolve({ bytes: body.length, ms });
					} else reject(new Error(`${path}: ${answer.statusCode} ${text}`));
				});
			},
		)
			.on("error", reject)
			.end(body);
	});
}

/** From the first byte of a container's output to the last; starting it is not counted. */
async function attach(way: Way, engine: Way, Cmd: string[]): Promise<Flow> {
	const { client } = engine;
	const { body } = await client.ask("POST", "/containers/create", {
		Image: "busybox",
		Cmd,
		AttachStdout: true,
		HostConfig: { LogConfig: { Type: "none" } },
	});
	const { Id } = JSON.parse(body) as { Id: string };
	const socket = await hijack(
		way,
		`/containers/${Id}/attach?stream=1&stdout=1`,
	);
	let first = 0;
	let bytes = 0;
	const ended = new Promise<number>((resolve, reject) => {
		socket.on("error", reject);
		socket.on("data", (chunk: Buffer) => {
			first ||= performance.now();
			bytes += chunk.length;
		});
		socket.on("end", () => resolve(performance.now()));
	});
	await client.ask("POST", `/containers/${Id}/start`);
	const ms = (await ended) - first;
	socket.destroy();
	await client.ask("DELETE", `/containers/${Id}?force=1`);
	return { bytes, ms };
}

function hijack({ socketPath }: Way, path: string): Promise<Duplex> {
	return new Promise((resolve, reject) => {
		const headers = { connection: "Upgrade", upgrade: "tcp" };
		request({ socketPath, path, method: "POST", headers, agent: false })
			.on("upgrade", (_, socket, first) => {
				if (first.length > 0) socket.unshift(first);
				resolve(socket);
			})
			.on("response", ({ statusCode }) =>
				reject(new Error(`attach: ${statusCode}`)),
			)
			.on("error", reject)
			.end();
	});
}
