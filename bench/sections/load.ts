import { readdir, readlink } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Arpanet, startArpanet } from "../../test/lab/arpanet.ts";
import { loadImages } from "../../test/lab/images.ts";
import { type Host, startLab } from "../../test/lab/lab.ts";
import type { Bench } from "../bench.ts";
import { Client } from "../connection.ts";
import { median, timed } from "../figures.ts";
import { memory } from "./startup.ts";

const CLIENTS = 16;
const HOSTS = 3;
/** Of a client's containers so many run; older ones are killed, and removed when they are the oldest. */
const RUNNING = 6;
/** Consul's own patience: the lab's servers elect at once, here also because these processors have so much to do. */
const CONSUL = { performance: { raft_multiplier: 5 } };
/** Removals of one container that fail, before it stays. */
const MAX_TRIES = 5;
const COLLECT = fileURLToPath(new URL("../collect.js", import.meta.url));
/** A collection is over by then. */
const COLLECT_MS = 2_000;
/** Everything is given back this soon: a lease within a minute, its network in the next look. */
const SETTLE_MS = 180_000;

/** What must not grow. */
interface Held {
	/** MB of all arpanet processes, with the garbage that V8 has not collected yet. */
	memory: number;
	/** MB of them when it has. */
	collected: number;
	files: number;
	sockets: number;
	/** Keys under `arpanet/`, but for what is kept for people to read. */
	keys: number;
	leases: number;
	/** On all hosts. */
	bridges: number;
	overlays: number;
}

/** 1,000 containers over three hosts, made and removed in a loop by 16 clients: what is left of it. */
export async function load({
	report,
	quick,
}: Omit<Bench, "stage">): Promise<void> {
	const [containers, seconds] = quick ? [96, 45] : [1_000, 600];
	report.section(
		`${containers} containers on ${HOSTS} hosts, created and removed for ${seconds} s by ${CLIENTS} clients`,
	);
	const lab = await startLab({ hosts: HOSTS, consulConfig: CONSUL });
	const clients: Customer[] = [];
	try {
		await Promise.all(lab.hosts.map((host) => loadImages(host, ["busybox"])));
		const all = await Promise.all(lab.hosts.map(start));
		await know(all);
		for (let i = 0; i < CLIENTS; i++) {
			const { address } = lab.hosts[i % HOSTS] as Host;
			const window = Math.ceil(containers / CLIENTS);
			clients.push(new Customer(`load${i}`, address, window));
		}
		const spell = async (until: number) => {
			await Promise.all(clients.map((client) => client.work(until)));
		};
		await spell(performance.now() + (quick ? 10_000 : 60_000)); // warm
		await Promise.all(clients.map((client) => client.leave()));
		await settled(lab.hosts);
		const before = await held(lab.hosts, all);
		const rows: [string, Held][] = [["before", before]];
		for (const client of clients) client.forget();
		for (let part = 1; part <= 5; part++) {
			await spell(performance.now() + (seconds * 1000) / 5);
			const now = Math.round((part * seconds) / 5);
			rows.push([`after ${now} s`, await held(lab.hosts, all)]);
		}
		await Promise.all(clients.map((client) => client.leave()));
		const gone = await timed(() => settled(lab.hosts));
		const after = await held(lab.hosts, all);
		rows.push(["all removed", after]);

		const kinds = Object.keys(before) as (keyof Held)[];
		report.table(
			["", ...kinds],
			rows.map(([when, each]) => [when, ...kinds.map((kind) => each[kind])]),
		);
		const took = clients.flatMap(({ creates }) => creates);
		const errors = clients.flatMap((client) => client.errors);
		report.note(
			`${took.length} containers made, create ${Math.round(median(took))} ms; all given back after ${Math.round(gone / 1000)} s`,
		);
		for (const error of errors.slice(0, 5)) report.note(error);
		report.budget("errors under load", errors.length, { most: 0 });
		report.budget(
			"memory held after load over before",
			after.collected / before.collected,
			{ most: 1.25, unit: " x" },
		);
		for (const kind of ["files", "sockets"] as const) {
			// connections to Consul and the other hosts come and go
			const more = after[kind] - before[kind];
			report.budget(`more ${kind} after load`, more, { most: 30 });
		}
		for (const kind of ["keys", "leases", "bridges", "overlays"] as const) {
			const more = after[kind] - before[kind];
			report.budget(`more ${kind} after load`, more, { most: 0 });
		}
	} finally {
		for (const client of clients) client.close();
		await lab.stop();
	}
}

/** A client that makes containers of its own deployment and removes the oldest, one step after the other. */
class Customer {
	readonly #deployment: string;
	readonly #client: Client;
	readonly #window: number;
	/** From the oldest to the newest. */
	readonly #names: string[] = [];
	#number = 0;
	/** What each create took, in ms. */
	creates: number[] = [];
	errors: string[] = [];

	/** @param window how many containers it has at once */
	constructor(deployment: string, gateway: string, window: number) {
		this.#deployment = deployment;
		this.#client = new Client({ host: gateway, port: 2375 });
		this.#window = window;
	}

	async work(until: number): Promise<void> {
		while (performance.now() < until) {
			const name = `${this.#deployment}_web_${++this.#number}`;
			const body = {
				Image: "busybox",
				Cmd: ["sleep", "100000"],
				Labels: {
					"arpanet.deployment": this.#deployment,
					"arpanet.service": "web",
				},
				HostConfig: { Init: true },
			};
			const path = `create?name=${name}`;
			const began = performance.now();
			if (!(await this.#ask("POST", path, body))) continue;
			this.creates.push(performance.now() - began);
			this.#names.push(name);
			await this.#ask("POST", `${name}/start`);
			const old = this.#names.at(-1 - RUNNING);
			if (old) await this.#ask("POST", `${old}/kill`);
			if (this.#names.length > this.#window) await this.#remove();
		}
	}

	/** Removes all that it has. */
	async leave(): Promise<void> {
		while (this.#names.length > 0) await this.#remove();
	}

	/** Begins to count anew. */
	forget(): void {
		this.creates = [];
		this.errors = [];
	}

	close(): void {
		this.#client.close();
	}

	/** Removes the oldest; what fails is an error, and tried again so that what is left at last is arpanet's doing. */
	async #remove(): Promise<void> {
		const name = this.#names.shift();
		for (let tries = 0; tries < MAX_TRIES; tries++) {
			if (await this.#ask("DELETE", `${name}?force=1`)) return;
			await sleep(500);
		}
	}

	/** @returns whether it went well */
	async #ask(method: string, path: string, body?: object): Promise<boolean> {
		try {
			await this.#client.ask(method, `/v1.40/containers/${path}`, body);
			return true;
		} catch (error) {
			this.errors.push(String(error));
			return false;
		}
	}
}

function start(host: Host): Promise<Arpanet> {
	return startArpanet(host, {
		preload: COLLECT,
		configure: ({ arpanet }) => {
			arpanet.host.engine = `tcp://${host.address}:2377`;
		},
	});
}

/** Waits until every gateway knows all hosts. */
async function know(gateways: Arpanet[]): Promise<void> {
	for (const { docker } of gateways) {
		for (;;) {
			const url = `${docker.replace("tcp:", "http:")}/info`;
			const info = await (await fetch(url)).text();
			if (info.includes(`["Hosts","${HOSTS}"]`)) break;
			await sleep(200);
		}
	}
}

/** Waits until what was removed is given back, networks too; goes on if it is not. */
async function settled(hosts: Host[]): Promise<void> {
	const end = performance.now() + SETTLE_MS;
	while (performance.now() < end) {
		const keys = await keysOf(hosts);
		if (!keys.some((key) => /load\d/.test(key))) return;
		await sleep(500);
	}
}

async function held(hosts: Host[], all: Arpanet[]): Promise<Held> {
	const opened = await Promise.all(all.map(filesOf));
	const keys = await keysOf(hosts);
	const sizes = () =>
		Promise.all(all.map(({ process }) => memory(process.pid, "VmRSS")));
	const before = sum(await sizes());
	for (const { process } of all) process.kill("SIGUSR2");
	await sleep(COLLECT_MS);
	const links = async (type: string) => {
		const counts = await Promise.all(
			hosts.map(async (host) => {
				const args = ["-br", "link", "show", "type", type];
				const { stdout } = await host.exec("ip", args);
				return stdout.split("\n").filter(Boolean).length;
			}),
		);
		return sum(counts);
	};
	return {
		memory: before,
		collected: sum(await sizes()),
		files: sum(opened.map((files) => files.length)),
		sockets: sum(
			opened.map(
				(files) => files.filter((file) => file.startsWith("socket:")).length,
			),
		),
		keys: keys.length,
		leases: keys.filter((key) => key.startsWith("arpanet/leases/")).length,
		bridges: await links("bridge"),
		overlays: await links("vxlan"),
	};
}

/** What a process has open. */
async function filesOf({ process: { pid } }: Arpanet): Promise<string[]> {
	const folder = `/proc/${pid}/fd`;
	return Promise.all(
		(await readdir(folder)).map((fd) =>
			readlink(`${folder}/${fd}`).catch(() => ""),
		),
	);
}

/** Consul's keys, but for repairs, of which the last ones are kept. */
async function keysOf([first]: Host[]): Promise<string[]> {
	const answer = await fetch(`${first?.consul}/v1/kv/arpanet/?keys`);
	const keys = answer.ok ? ((await answer.json()) as string[]) : [];
	return keys.filter((key) => !key.startsWith("arpanet/repairs/"));
}

function sum(numbers: number[]): number {
	return numbers.reduce((all, each) => all + each, 0);
}
