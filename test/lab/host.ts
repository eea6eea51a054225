import {
	type ChildProcess,
	type SpawnOptions,
	spawn,
} from "node:child_process";
import { closeSync, existsSync, openSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { type RequestOptions, request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import {
	cacheFolder,
	findBinary,
	type Result,
	type RunOptions,
	run,
	runOk,
} from "../../examples/images/tools.ts";
import { killCgroup, processCgroup, type Remains } from "./clean.ts";

/** How a lab's hosts are set up; every field has a default. */
export interface HostOptions {
	/** Give each host a Consul agent; true unless told. The first three hosts of three or more are servers, else the first. */
	consul?: boolean;
	/** Give each host an engine; true unless told. */
	engine?: boolean;
	/** Where Consul asks for names that are not its own, as `ADDRESS` or `ADDRESS:PORT`; nowhere unless told. */
	recursors?: string[];
	/** More of Consul's configuration, in its own words, over the lab's. */
	consulConfig?: Record<string, unknown>;
	/** Size of a disk of its own for Consul's data, as for tmpfs: `128m`. What is on it is lost with the host's power. */
	consulDisk?: string;
	/** Shown by the lab itself, where `consulConfig` has ACLs on. */
	consulToken?: string;
	/** More of the engine's configuration (daemon.json), in its own words, over the lab's. */
	engineConfig?: Record<string, unknown>;
	/**
	 * The Debian release whose Docker the hosts have, once `setup.sh docker RELEASE` has fetched it; `LAB_DOCKER` of the environment, else
	 * the machine's own.
	 */
	docker?: string | undefined;
	/** What the hosts' /etc/resolv.conf holds; no name server unless told, so that look-ups on the host fail at once. */
	resolvConf?: string;
}

// Makes the mount namespace that the host's processes share: everything as on the machine, but a /run, /sys,
// resolv.conf and engine identity of its own. /sys/fs/cgroup must be carried over into the new /sys.
const HOLD = `
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --rbind /run/cgroup /sys/fs/cgroup
umount -l /run/cgroup
rmdir /run/cgroup
resolv="$(readlink -m /etc/resolv.conf)"
mkdir -p "$(dirname "$resolv")" /etc/docker
[ -e "$resolv" ] || touch "$resolv"
mount --bind "$DATA/resolv.conf" "$resolv"
mount --bind "$DATA/etc-docker" /etc/docker
if [ "$CONSUL_DISK" ]; then
	mkdir -p "$DATA/consul"
	mount -t tmpfs -o "size=$CONSUL_DISK" tmpfs "$DATA/consul"
fi
hostname "$NAME"
ip link set lo up
echo ready
exec sleep infinity
`;

/** One host of a lab: a network and a mount namespace with an engine and a Consul agent in them. */
export class Host {
	readonly name: string;
	readonly address: string;
	/** The host's folder: logs (`engine.log`, `consul.log`), configuration and the daemons' data. */
	readonly dataDir: string;
	/** The engine's socket, by its path on the machine. Inside the host it is /run/docker.sock too. */
	readonly socketPath: string;
	/** The engine for `DOCKER_HOST`, from the machine as well as from inside. */
	readonly docker: string;
	/** Consul's HTTP API, from the machine as well as from inside. */
	readonly consul: string;

	readonly #remains: Remains;
	readonly #index: number;
	readonly #hosts: number;
	readonly #options: HostOptions;
	/** Where the host's own processes are counted, so that all can be killed. */
	#cgroupFolder = "";
	#holder?: ChildProcess;
	#engine?: ChildProcess;
	#consulAgent?: ChildProcess;

	/** @param index counted from 1 */
	constructor(
		remains: Remains,
		index: number,
		hosts: number,
		options: HostOptions,
	) {
		this.#remains = remains;
		this.#index = index;
		this.#hosts = hosts;
		this.#options = options;
		this.name = `h${index}`;
		this.address = remains.address(index);
		this.dataDir = join(remains.folder, this.name);
		this.socketPath = join(this.dataDir, "docker.sock");
		this.docker = `unix://${this.socketPath}`;
		this.consul = `http://${this.address}:8500`;
	}

	/** The engine's process id on the machine; undefined while it does not run. */
	get pidOfEngine(): number | undefined {
		return alive(this.#engine) ? this.#engine?.pid : undefined;
	}

	/** Consul's process id on the machine; undefined while it does not run. */
	get pidOfConsul(): number | undefined {
		return alive(this.#consulAgent) ? this.#consulAgent?.pid : undefined;
	}

	/** The process whose namespaces the host is, for `nsenter --target`; undefined while the host is down. */
	get pidOfHolder(): number | undefined {
		return alive(this.#holder) ? this.#holder?.pid : undefined;
	}

	/** Switches the host on: its network, then whichever of Consul and the engine the lab's options ask for. */
	async boot(): Promise<void> {
		await this.#powerOn();
		const { consul = true, engine = true } = this.#options;
		await Promise.all([
			consul && this.startConsul(),
			engine && this.startEngine(),
		]);
	}

	/** Cuts the power: kills every process on the host, containers included, at once. Disks stay; `boot()` starts it again. */
	async crash(): Promise<void> {
		await killCgroup(this.#cgroup);
		await run("ip", ["link", "del", this.cable]);
	}

	/** Pulls the network cable; everything on the host goes on running. */
	async unplug(): Promise<void> {
		await runOk("ip", ["link", "set", this.cable, "down"]);
	}

	/** Puts the network cable back. */
	async plug(): Promise<void> {
		await runOk("ip", ["link", "set", this.cable, "up"]);
	}

	/**
	 * Starts a process on the host. It is killed when the lab stops, if not before.
	 *
	 * @param options as node's own; `cwd` is a path on the host
	 * @returns node's handle; its pid is the process's own
	 */
	spawn(
		command: string,
		args: readonly string[] = [],
		options: SpawnOptions = {},
	): ChildProcess {
		return spawn(
			"nsenter",
			this.#enter(command, args, options.cwd?.toString()),
			{ ...options, cwd: "/" },
		);
	}

	/**
	 * Runs a command on the host to its end, whatever its exit code.
	 *
	 * @param options `timeout` in milliseconds, 60,000 unless told
	 * @throws when it cannot be started or takes too long
	 */
	exec(
		command: string,
		args: readonly string[] = [],
		options: RunOptions = {},
	): Promise<Result> {
		return run("nsenter", this.#enter(command, args, options.cwd), {
			...options,
			cwd: "/",
		});
	}

	/** Starts the engine and waits until it answers, at most 40 s. */
	async startEngine(): Promise<void> {
		if (this.pidOfEngine) return;
		const config = {
			hosts: [this.docker, "unix:///run/docker.sock"],
			"data-root": join(this.dataDir, "docker"),
			"cgroup-parent": `/${this.#cgroup}/docker`,
			"exec-opts": ["native.cgroupdriver=cgroupfs"],
			"insecure-registries": ["10.213.0.0/16"],
			...this.#options.engineConfig,
		};
		const file = join(this.dataDir, "daemon.json");
		await writeFile(file, JSON.stringify(config));
		// its containerd dies with a killed engine, but may long stay a zombie, which the next engine takes for alive
		await this.exec("rm", ["-f", "/run/docker/containerd/containerd.pid"]);
		const engine = this.#daemon(
			"dockerd",
			["--config-file", file],
			"engine.log",
			{ ...process.env, PATH: this.#enginePath() },
		);
		this.#engine = engine;
		await this.#ready(engine, "engine", 40_000, () =>
			httpGet({ socketPath: this.socketPath, path: "/_ping" }),
		);
	}

	/** Stops the engine as an administrator would, its containers with it. */
	async stopEngine(): Promise<void> {
		await stopDaemon(this.#engine);
	}

	/** Starts Consul and waits until it knows a leader, at most 40 s; what it stored before is there again. */
	async startConsul(): Promise<void> {
		const file = join(this.dataDir, "consul.json");
		await writeFile(file, JSON.stringify(this.#consulConfig()));
		if (this.pidOfConsul) return;
		const agent = this.#daemon(
			findBinary("consul"),
			["agent", "-config-file", file],
			"consul.log",
		);
		this.#consulAgent = agent;
		await this.#ready(agent, "consul", 40_000, async () => {
			// registered itself as well: the catalog is then writable and its own node in it
			const node = await httpGet({
				host: this.address,
				port: 8500,
				path: `/v1/catalog/node/${this.name}`,
				headers: { "x-consul-token": this.#options.consulToken ?? "" },
			});
			return node.includes(`"${this.address}"`);
		});
	}

	/** Stops Consul without leaving the cluster; its data stays. */
	async stopConsul(): Promise<void> {
		await stopDaemon(this.#consulAgent);
	}

	get #cgroup(): string {
		return `${this.#remains.cgroup}/${this.name}`;
	}

	/** The end of its cable that is on the machine: `ip link set … down` pulls it. */
	get cable(): string {
		return this.#remains.cable(this.#index);
	}

	async #powerOn(): Promise<void> {
		await mkdir(join(this.dataDir, "etc-docker"), { recursive: true });
		this.#cgroupFolder = join(await processCgroup(this.#cgroup), "host");
		await mkdir(this.#cgroupFolder, { recursive: true });
		await writeFile(
			join(this.dataDir, "resolv.conf"),
			this.#options.resolvConf ?? "",
		);

		const holder = spawn(
			"sh",
			[
				"-c",
				'echo $$ >"$0/cgroup.procs" && exec unshare --net --mount --uts sh -c "$1"',
				this.#cgroupFolder,
				HOLD,
			],
			{
				cwd: "/",
				detached: true, // Ctrl-C ends the test, which then ends the host
				stdio: ["ignore", "pipe", "pipe"],
				env: {
					...process.env,
					DATA: this.dataDir,
					NAME: this.name,
					CONSUL_DISK: this.#options.consulDisk,
				},
			},
		);
		this.#holder = holder;
		await saidReady(holder, this.name);

		const { bridge } = this.#remains;
		const cable = this.cable;
		await runOk("ip", [
			"link",
			"add",
			cable,
			"type",
			"veth",
			"peer",
			"name",
			"eth0",
			"netns",
			String(holder.pid),
		]);
		await runOk("ip", ["link", "set", cable, "master", bridge, "up"]);
		const inside = ["--target", String(holder.pid), "--net", "ip"];
		await runOk("nsenter", [
			...inside,
			"address",
			"add",
			`${this.address}/24`,
			"dev",
			"eth0",
		]);
		await runOk("nsenter", [...inside, "link", "set", "eth0", "up"]);
	}

	#enter(command: string, args: readonly string[], cwd = "/"): string[] {
		if (!this.pidOfHolder) throw new Error(`lab: ${this.name} is down`);
		// the shell becomes the command, so the pid that the caller sees is the command's own
		const join =
			'echo $$ >"$1/cgroup.procs" && cd "$2" && shift 2 && exec "$@"';
		return [
			...["--target", String(this.pidOfHolder), "--net", "--mount", "--uts"],
			...["sh", "-c", join, "sh", this.#cgroupFolder, cwd, command, ...args],
		];
	}

	/** Where the engine and its containerd are looked for. */
	#enginePath(): string | undefined {
		const { docker = process.env.LAB_DOCKER } = this.#options;
		if (!docker) return process.env.PATH;
		const tree = join(cacheFolder, `engine-${docker}`, "usr");
		if (!existsSync(tree)) {
			throw new Error(
				`no ${tree}: run "bash scripts/setup.sh docker ${docker}"`,
			);
		}
		const folders = [join(tree, "sbin"), join(tree, "bin")];
		return [...folders, process.env.PATH].join(":");
	}

	#daemon(
		command: string,
		args: readonly string[],
		log: string,
		env = process.env,
	): ChildProcess {
		const out = openSync(join(this.dataDir, log), "a");
		const child = this.spawn(command, args, {
			env,
			detached: true,
			stdio: ["ignore", out, out],
		});
		closeSync(out);
		child.unref();
		return child;
	}

	async #ready(
		child: ChildProcess,
		daemon: string,
		limit: number,
		check: () => Promise<unknown>,
	): Promise<void> {
		const end = Date.now() + limit;
		for (;;) {
			if (await check().catch(() => false)) return;
			const failure = !alive(child)
				? "ended"
				: Date.now() > end
					? `not ready after ${limit} ms`
					: undefined;
			if (failure) {
				const log = await readFile(
					join(this.dataDir, `${daemon}.log`),
					"utf8",
				).catch(() => "(no log)");
				throw new Error(
					`lab: ${daemon} on ${this.name} ${failure}\n${log.split("\n").slice(-30).join("\n")}`,
				);
			}
			await sleep(100);
		}
	}

	#consulConfig(): Record<string, unknown> {
		const servers = this.#hosts < 3 ? 1 : 3;
		const addresses = Array.from({ length: servers }, (_, index) =>
			this.#remains.address(index + 1),
		);
		const server = this.#index <= servers;
		return {
			node_name: this.name,
			server,
			...(server && { bootstrap_expect: servers }),
			...(this.#hosts > 1 && {
				retry_join: addresses.filter((address) => address !== this.address),
				retry_interval: "1s",
			}),
			bind_addr: this.address,
			client_addr: `${this.address} 127.0.0.1`,
			ports: { dns: 53 },
			data_dir: join(this.dataDir, "consul"),
			dns_config: { udp_answer_limit: 100 },
			recursors: this.#options.recursors ?? [],
			performance: { raft_multiplier: 1 },
			leave_on_terminate: false,
			skip_leave_on_interrupt: true,
			disable_update_check: true,
			...this.#options.consulConfig,
		};
	}
}

function alive(child: ChildProcess | undefined): boolean {
	return (
		child?.pid !== undefined &&
		child.exitCode === null &&
		child.signalCode === null
	);
}

async function stopDaemon(child: ChildProcess | undefined): Promise<void> {
	if (!child || !alive(child)) return;
	const ended = new Promise((resolve) => child.once("exit", resolve));
	child.kill("SIGTERM");
	const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
	await ended;
	clearTimeout(timer);
}

function saidReady(holder: ChildProcess, name: string): Promise<void> {
	return new Promise((resolve, reject) => {
		let complaint = "";
		const timer = setTimeout(() => fail("not ready after 10000 ms"), 10_000);
		const fail = (why: string) =>
			reject(new Error(`lab: ${name} cannot be set up: ${why}\n${complaint}`));
		holder.stderr?.on("data", (text) => {
			complaint += text;
		});
		holder.once("error", (error) => fail(error.message));
		holder.once("exit", (code) => fail(`exit ${code}`));
		holder.stdout?.once("data", () => {
			clearTimeout(timer);
			holder.stdout?.destroy();
			holder.stderr?.destroy();
			holder.unref();
			resolve();
		});
	});
}

/** @returns the body of an answer 200; rejects on anything else and after 2 s */
function httpGet(target: RequestOptions): Promise<string> {
	return new Promise((resolve, reject) => {
		const asked = request(
			{ ...target, timeout: 2000, agent: false },
			(response) => {
				let body = "";
				response.setEncoding("utf8");
				response.on("data", (text) => {
					body += text;
				});
				response.on("end", () =>
					response.statusCode === 200 ? resolve(body) : reject(new Error(body)),
				);
			},
		);
		asked.on("timeout", () => asked.destroy(new Error("no answer within 2 s")));
		asked.on("error", reject);
		asked.end();
	});
}
