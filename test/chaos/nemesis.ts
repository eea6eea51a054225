import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { refusals } from "./checker/gateways.ts";
import type { Violation } from "./checker/judge.ts";
import { Random } from "./random.ts";
import { consulDisk, type Member, type Stage } from "./stage.ts";

/** Something that goes wrong, and how it ends. */
interface Fault {
	/** Where it strikes, if that is no choice. */
	at?(stage: Stage): Host;
	/** @returns what heals it */
	strike(
		stage: Stage,
		host: Host,
		random: Random,
	): Promise<() => Promise<unknown>>;
	/** Packets may be lost by it, whatever arpanet does. */
	cuts?: true;
	/** Clients may wait in vain: the end of their connections may be lost by it. */
	silences?: true;
	/** Clients' containers end by it. */
	stops?: true;
	/** What must hold while it lasts and nothing else is wrong, beside traffic. */
	meanwhile?(stage: Stage): Promise<Violation[]>;
}

const nothing = async () => {};

/** Keys that someone deletes. */
const DELETED =
	/^arpanet\/(leases\/.*\.\d+$|containers|reasons|slots|copies|networks|gateways|network-ids|subnets|hosts|beats|leader)/;

export const FAULTS: Record<string, Fault> = {
	"arpanet killed": killed(anyOf),
	"arpanet paused": paused(anyOf),
	"adapter killed": { ...killed((stage) => stage.adapter), at: adapterHost },
	"adapter paused": { ...paused((stage) => stage.adapter), at: adapterHost },
	"time of day jumped": {
		async strike(stage, host, random) {
			anyOf(stage, host, random).arpanet.process.kill("SIGUSR2"); // clock.ts
			return nothing;
		},
	},
	"engine hangs": hangs(({ pidOfEngine }) => pidOfEngine),
	"Consul hangs": hangs(({ pidOfConsul }) => pidOfConsul),
	"host cut off": {
		cuts: true,
		silences: true,
		async strike(_, host) {
			await host.unplug();
			return () => host.plug();
		},
	},
	"engine restarted": {
		cuts: true,
		stops: true,
		async strike(_, host) {
			await host.stopEngine();
			return () => host.startEngine();
		},
	},
	"Consul's leader killed": {
		async strike(stage) {
			const [first] = stage.hosts as [Host];
			const answer = await consul(first, "status/leader");
			const leader = String(answer?.ok && (await answer.json()));
			const host = stage.hosts.find(({ address }) =>
				leader.startsWith(`${address}:`),
			);
			const pid = host?.pidOfConsul;
			if (pid) process.kill(pid, "SIGKILL");
			return async () => {
				// another fault's end may have started it again by now
				while (pid && host?.pidOfConsul === pid) await sleep(50);
				if (host) await startAgain(host);
			};
		},
	},
	"Consul stopped everywhere": {
		async strike({ hosts }) {
			await Promise.all(hosts.map((host) => host.stopConsul()));
			return () => Promise.all(hosts.map((host) => host.startConsul()));
		},
		meanwhile: ({ hosts }) => refusals(hosts),
	},
	"disk of Consul full": {
		async strike(_, host) {
			const file = `${consulDisk(host)}/full`;
			await host.exec("sh", ["-c", `cat /dev/zero >${file}`]);
			return async () => {
				await host.exec("rm", ["-f", file]);
				await host.startConsul(); // where it has died of it
			};
		},
	},
	"containers removed behind its back": {
		stops: true,
		async strike(_, host) {
			const copies = ["ps", "-aq", "--filter", "label=arpanet.service=web"];
			const { stdout } = await docker(host, copies);
			const [one] = stdout.split("\n");
			if (one) await docker(host, ["rm", "-f", one]);
			return nothing;
		},
	},
	"overlay deleted": {
		cuts: true,
		async strike(_, host) {
			const { stdout } = await host.exec("ip", [
				..."-br link show type vxlan".split(" "),
			]);
			const [link] = stdout.split(/[\s@]/);
			if (link) await host.exec("ip", ["link", "del", link]);
			return nothing;
		},
	},
	"keys deleted": {
		cuts: true,
		async strike(stage, _, random) {
			const [first] = stage.hosts as [Host];
			const answer = await consul(first, "kv/arpanet/?keys");
			if (!answer?.ok) return nothing;
			const keys = ((await answer.json()) as string[]).filter((key) =>
				DELETED.test(key),
			);
			for (let i = 0; i < 2 && keys.length > 0; i++) {
				const key = random.pick(keys);
				await consul(first, `kv/${key}`, { method: "DELETE" });
			}
			return nothing;
		},
	},
	"node deregistered": {
		async strike(stage, host) {
			const [first] = stage.hosts as [Host];
			await consul(first, "catalog/deregister", {
				method: "PUT",
				body: JSON.stringify({ Node: `arpanet-${host.name}` }),
			});
			return nothing;
		},
	},
};

/**
 * Starts a Consul server that was killed. One of 1.8 can find its own log broken then ("panic: log not found") and never comes up again: as its
 * operator would, it is started without its log, and has that from the others.
 */
async function startAgain(host: Host): Promise<void> {
	try {
		await host.startConsul();
	} catch (error) {
		if (!String(error).includes("log not found")) throw error;
		const log = join(host.dataDir, "consul", "raft");
		await rm(log, { recursive: true, force: true });
		await host.startConsul();
	}
}

/** Asks Consul; undefined where another fault has it not answer. */
function consul(
	host: Host,
	path: string,
	options?: RequestInit,
): Promise<Response | undefined> {
	return fetch(`${host.consul}/v1/${path}`, options).catch(() => undefined);
}

type Choice = (stage: Stage, host: Host, random: Random) => Member;

function anyOf(stage: Stage, host: Host, random: Random): Member {
	return random.pick(stage.processesOf(host));
}

function adapterHost(stage: Stage): Host {
	return stage.adapter.host;
}

function killed(choose: Choice): Fault {
	return {
		async strike(stage, host, random) {
			const member = choose(stage, host, random);
			await member.arpanet.stop("SIGKILL");
			return () => stage.restart(member);
		},
	};
}

/** A daemon of a host that takes connections and answers nothing. */
function hangs(pidOf: (host: Host) => number | undefined): Fault {
	return {
		async strike(_, host) {
			const pid = pidOf(host);
			if (pid) process.kill(pid, "SIGSTOP");
			return async () => {
				if (pid && pid === pidOf(host)) process.kill(pid, "SIGCONT");
			};
		},
	};
}

function paused(choose: Choice): Fault {
	return {
		async strike(stage, host, random) {
			const { process } = choose(stage, host, random).arpanet;
			process.kill("SIGSTOP");
			return async () => process.kill("SIGCONT");
		},
	};
}

/** What clients and the judge must bear when faults of these names strike. */
export function bears(
	names: readonly string[],
	what: "cuts" | "silences" | "stops",
): boolean {
	return names.some((name) => FAULTS[name]?.[what]);
}

/**
 * Faults on a host each, for a while, all at once.
 * @returns what they were, and what did not hold while they lasted
 */
export async function strike(
	stage: Stage,
	random: Random,
	names: readonly string[],
): Promise<{ faults: string[]; violations: Violation[] }> {
	const spared = new Set(stage.hosts);
	for (const name of names) spared.delete(FAULTS[name]?.at?.(stage) as Host);
	const strikes = names.map((name) => {
		const fault = FAULTS[name] as Fault;
		const host = fault.at?.(stage) ?? random.pick([...spared]);
		spared.delete(host);
		const lasts = 1000 * random.between(1, 10);
		return { fault, host, lasts, random: new Random(random.between(0, 1e9)) };
	});
	const faults = strikes.map(({ host }, i) => `${names[i]} (${host.name})`);
	const cuts = strikes.some(({ fault }) => fault.cuts);
	const traffic = cuts ? undefined : await stage.traffic();
	const violations: Violation[] = [];
	try {
		await Promise.all(
			strikes.map(async ({ fault, host, lasts, random }) => {
				const heal = await fault.strike(stage, host, random);
				try {
					const watched = names.length === 1 && fault.meanwhile?.(stage);
					const [found] = await Promise.all([watched, sleep(lasts)]);
					violations.push(...(found || []));
				} finally {
					await heal();
				}
			}),
		);
	} finally {
		violations.push(...((await traffic?.end()) ?? []));
	}
	const during = faults.join(" and ");
	return {
		faults,
		violations: violations.map((each) => `${each} (during: ${during})`),
	};
}
