import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findBinary, runOk } from "../../examples/images/tools.ts";
import { dockerCli } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";

const ADDRESS = "127.0.0.1:5000";
/** What the tests name, all of it our busybox. */
const IMAGES = [
	"alpine:3.10.1",
	"alpine:3.12",
	"alpine:edge",
	"alpine:latest",
	"busybox:1.27.2",
	"busybox:1.31.0-uclibc",
	"busybox:latest",
	"nginx:latest",
];

/** Of an engine that asks the hub of its host where another asks Docker's. */
export const MIRRORS = { "registry-mirrors": [`http://${ADDRESS}`] };

/** Starts on every host a registry that stands for Docker's, with the images of the tests, which the engines then have as well. */
export async function startHub(hosts: Host[]): Promise<void> {
	const [first] = hosts as [Host];
	const root = join(first.dataDir, "hub"); // one for all
	await mkdir(root, { recursive: true });
	const config = join(root, "hub.yml");
	await writeFile(
		config,
		`version: 0.1
log: {level: error}
storage: {filesystem: {rootdirectory: ${root}}}
http: {addr: "${ADDRESS}"}
`,
	);
	for (const host of hosts) {
		host.spawn(findBinary("docker-registry"), ["serve", config], {
			stdio: "ignore",
		});
	}
	const docker = (...args: string[]) =>
		runOk(dockerCli(), ["--host", first.docker, ...args]);
	for (const image of IMAGES) {
		const there = `${ADDRESS}/library/${image}`;
		await docker("tag", "busybox", there);
		for (let tries = 0; ; tries++) {
			const pushed = await docker("push", "--quiet", there).catch((error) => {
				if (tries === 50) throw error;
			});
			if (pushed) break;
			await sleep(100); // the registry is still starting
		}
		await docker("rmi", there);
		await docker("tag", "busybox", image);
	}
}
