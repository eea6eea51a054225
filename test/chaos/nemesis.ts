import { setTimeout as sleep } from "node:timers/promises";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import type { Random } from "./random.ts";
import type { Stage } from "./stage.ts";

/** Something that goes wrong, and how it ends: strikes, and gives back what heals it. */
type Fault = (
	stage: Stage,
	host: Host,
	random: Random,
) => Promise<() => Promise<unknown>>;

const nothing = async () => {};

export const FAULTS: Record<string, Fault> = {
	async "arpanet killed"(stage, host) {
		await stage.arpanets.get(host)?.stop("SIGKILL");
		return () => stage.startArpanet(host);
	},
	async "arpanet paused"(stage, host) {
		const child = stage.arpanets.get(host)?.process;
		child?.kill("SIGSTOP");
		return async () => child?.kill("SIGCONT");
	},
	async "host cut off"(_, host) {
		await host.unplug();
		return () => host.plug();
	},
	async "engine restarted"(_, host) {
		await host.stopEngine();
		return () => host.startEngine();
	},
	async "Consul's leader killed"(stage) {
		const [first] = stage.hosts as [Host];
		const answer = await fetch(`${first.consul}/v1/status/leader`);
		const leader = (await answer.json()) as string;
		const host = stage.hosts.find(({ address }) => leader.startsWith(address));
		if (host?.pidOfConsul) process.kill(host.pidOfConsul, "SIGKILL");
		return async () => {
			while (host?.pidOfConsul) await sleep(50);
			await host?.startConsul();
		};
	},
	async "containers removed behind its back"(_, host) {
		const { stdout } = await docker(host, ["ps", "-aq"]);
		const [one] = stdout.split("\n");
		if (one) await docker(host, ["rm", "-f", one]);
		return nothing;
	},
	async "overlay deleted"(_, host) {
		const { stdout } = await host.exec("ip", [
			..."-br link show type vxlan".split(" "),
		]);
		const [link] = stdout.split(/[\s@]/);
		if (link) await host.exec("ip", ["link", "del", link]);
		return nothing;
	},
	async "keys deleted"(stage, _, random) {
		const [first] = stage.hosts as [Host];
		const answer = await fetch(`${first.consul}/v1/kv/arpanet/?keys`);
		if (!answer.ok) return nothing;
		const keys = ((await answer.json()) as string[]).filter((key) =>
			/^arpanet\/(leases\/.*\.\d+$|containers|subnets\/|hosts|leader)/.test(
				key,
			),
		);
		for (let i = 0; i < 2 && keys.length > 0; i++) {
			const key = random.pick(keys);
			await fetch(`${first.consul}/v1/kv/${key}`, { method: "DELETE" });
		}
		return nothing;
	},
	async "node deregistered"(stage, host) {
		const [first] = stage.hosts as [Host];
		await fetch(`${first.consul}/v1/catalog/deregister`, {
			method: "PUT",
			body: JSON.stringify({ Node: `arpanet-${host.name}` }),
		});
		return nothing;
	},
};

/** One fault on one host, for a while. @returns its name */
export async function strike(
	stage: Stage,
	random: Random,
	name: string,
): Promise<string> {
	const host = random.pick(stage.hosts);
	const fault = FAULTS[name] as Fault;
	const heal = await fault(stage, host, random);
	await sleep(1000 * random.between(2, 12));
	await heal();
	return `${name} (${host.name})`;
}
