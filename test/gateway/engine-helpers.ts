import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { createGateway } from "../../gateway/gateway.ts";
import { type ClientOptions, docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { type Host, startLab } from "../lab/lab.ts";

/** A real engine with a gateway without hooks in front of it. */
export interface Fronted {
	host: Host;
	/** Of this test; the gateway listens on `gateway.sock` in it as well. */
	folder: string;
	port: number;
	/** The gateway, for `DOCKER_HOST`. */
	through: string;
	/** Runs the docker CLI through the gateway; it must succeed. @returns its output */
	cli(args: string[], options?: ClientOptions): Promise<string>;
	stop(): Promise<void>;
}

/** Starts both, with the image `busybox` and a container `sleeper` that does nothing. */
export async function startFronted(): Promise<Fronted> {
	const lab = await startLab({ consul: false });
	const [host] = lab.hosts as [Host];
	const folder = await mkdtemp(join(tmpdir(), "gateway-"));
	const gateway = createGateway({
		engine: { socketPath: host.socketPath },
		endpoints: [],
		adapters: {},
		hookTimeout: 5_000,
		maxBody: 1_000_000,
		log: pino({ level: "silent" }),
	});
	const stop = async () => {
		await gateway.close();
		await lab.stop();
		await rm(folder, { recursive: true });
	};
	try {
		const [through = ""] = await gateway.listen([
			"tcp://127.0.0.1:0",
			`unix://${folder}/gateway.sock`,
		]);
		const cli = async (args: string[], options?: ClientOptions) => {
			const { code, stdout, stderr } = await docker(through, args, options);
			if (code === 0) return stdout;
			throw new Error(`docker ${args.join(" ")}: ${stderr}${stdout}`);
		};
		await loadImages(host, ["busybox"]);
		await cli(["run", "-d", "--name", "sleeper", "busybox", "sleep", "1000"]);
		const port = Number(through.split(":")[2]);
		return { host, folder, port, through, cli, stop };
	} catch (error) {
		await stop();
		throw error;
	}
}
