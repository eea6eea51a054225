import type { ContainerCreate } from "../../pipeline/docker.ts";
import type { PartMaker } from "./part.ts";

/** Processors and bytes of memory; 0 where nothing is reserved. */
interface Reserved {
	cpus: number;
	memory: number;
}

/** Nobody reserves more than a host has, and a little (`overcommit`). A single host is left to its engine. */
export const resources: PartMaker = ({ overcommit }, { cluster }) => ({
	place({ body }) {
		const { cpus, memory } = reserved(body);
		if ((cpus === 0 && memory === 0) || cluster.alone) return undefined;

		return {
			filter(host) {
				const { use } = host;
				if (use.memory + memory > host.memory * (1 + overcommit)) {
					return `${size(memory)} of memory are asked for, and of its ${size(host.memory)} ${size(use.memory)} are reserved`;
				}
				if (use.cpus + cpus > host.cpus * (1 + overcommit)) {
					return `${cpus} CPUs are asked for, and of its ${host.cpus} ${round(use.cpus)} are reserved`;
				}
				return undefined;
			},
		};
	},
});

/** What a container reserves: its reservation, else its limit. */
export function reserved({ HostConfig }: ContainerCreate): Reserved {
	const { Memory, MemoryReservation, NanoCpus, CpuQuota, CpuPeriod } =
		HostConfig ?? {};
	const quota = positive(CpuQuota) / (positive(CpuPeriod) || 100_000); // Docker's own period
	return {
		cpus: positive(NanoCpus) / 1e9 || quota,
		memory: positive(MemoryReservation) || positive(Memory),
	};
}

/** -1 and 0 are Docker's words for no limit. */
function positive(value: unknown): number {
	return typeof value === "number" && value > 0 ? value : 0;
}

/** `1.5 GiB` */
function size(bytes: number): string {
	const units = ["B", "KiB", "MiB", "GiB", "TiB"];
	const step = bytes > 0 ? Math.floor(Math.log2(bytes) / 10) : 0;
	const unit = Math.min(step, units.length - 1);
	return `${round(bytes / 1024 ** unit)} ${units[unit]}`;
}

function round(value: number): number {
	return Math.round(value * 10) / 10;
}
