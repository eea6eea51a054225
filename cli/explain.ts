import type { Config } from "../pipeline/config.ts";
import { HttpError } from "../pipeline/errors.ts";
import {
	type ContainerRecord,
	Containers,
	isReasons,
	type Reasons,
} from "../pipeline/state/containers.ts";
import { NO_ADDRESS } from "../pipeline/state/moves.ts";
import { listRepairs } from "../pipeline/state/repairs.ts";
import { Store } from "../pipeline/state/store.ts";
import { table } from "./table.ts";

/**
 * Why a container has the host and the address that it has, and what was repaired about it.
 * @param name as `docker ps` shows it
 * @throws HttpError 404 if nothing is on record of it, 503 when Consul does not answer
 */
export async function explain(config: Config, name: string): Promise<string> {
	const store = new Store(config.arpanet.consul);
	try {
		const [entry, all] = await Promise.all([
			new Containers(store).get(name),
			listRepairs(store),
		]);
		const repairs = all
			.map(({ value }) => value)
			.filter(({ container }) => container === name);
		if (!entry && repairs.length === 0) {
			throw new HttpError(
				404,
				`nothing is on record of ${name}; docker ps -a has the names`,
			);
		}
		const key = entry?.value.holds.find(isReasons);
		const reasons = key ? await store.get<Reasons>(key) : undefined;
		const lines = entry
			? ofRecord(entry.value, reasons?.value)
			: ["It is not on record any more."];
		if (repairs.length > 0) {
			const rows = repairs.map(({ at, by, what, why }) => [at, by, what, why]);
			lines.push("", ...table([["REPAIRED", "BY", "WHAT", "WHY"], ...rows]));
		}
		return lines.join("\n");
	} finally {
		store.close();
	}
}

function ofRecord(
	{ facts, stays }: ContainerRecord,
	reasons: Reasons | undefined,
): string[] {
	const { deployment, service, index, host, network, address, reschedule } =
		facts;
	const rows = [
		["deployment:", deployment ?? "-"],
		["service:", service ? `${service}${index ? ` (${index})` : ""}` : "-"],
		["host:", host ?? "-"],
		["address:", address ? `${address} in ${network}` : "-"],
		[
			"made:",
			reasons
				? `${reasons.at} through ${reasons.by}`
				: "put back on record; why it is where it is nobody knows any more",
		],
	];
	if (reschedule) {
		const how = stays
			? `it stayed on ${host} when that was lost: ${stays}`
			: address
				? "if its host is lost"
				: `never: ${NO_ADDRESS}`;
		rows.push(["elsewhere:", how]);
	}
	const said = Object.entries(reasons?.because ?? {});
	return table([...rows, ...said.map(([plugin, why]) => [`${plugin}:`, why])]);
}
