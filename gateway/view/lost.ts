import { createHash } from "node:crypto";
import { LABEL_PREFIX } from "../../pipeline/facts.ts";
import type {
	ContainerRecord,
	Containers,
} from "../../pipeline/state/containers.ts";
import { isSuperseded } from "../../pipeline/state/moves.ts";
import { type Listed, listedOf } from "./host-view.ts";
import { type Row, rowsOf } from "./rows.ts";
import { timeless } from "./status.ts";

/** Compose would ask for each container that it finds, and break off at the first that does not answer. */
const COMPOSE = "com.docker.compose.";

/**
 * The containers of a host that does not answer: as they were last seen from here, and what else Consul
 * has on record. They are listed with running ones, with a status that says why nothing else works with them.
 *
 * @param last as this gateway last saw them; empty after it was started
 */
export async function lostRows(
	host: string,
	last: readonly Listed[],
	records: Pick<Containers, "list" | "name">,
): Promise<Listed[]> {
	const known = await records.list(true).catch(() => []); // without Consul, what was seen must do
	const elsewhere = new Set(
		known
			.filter(({ value }) => value.facts.host !== host)
			.map(({ key }) => records.name(key)),
	);
	const here = last.filter(
		({ names }) => !names.some((name) => elsewhere.has(name)), // else started anew
	);
	const seen = here.map((row) => {
		const text = `${row.head}${row.tail}`;
		const labels = withoutCompose(row);
		return listed(host, JSON.parse(text), row.created, labels);
	});
	const names = new Set(seen.flatMap((row) => row.names));
	const recorded = known
		.filter(({ value }) => value.facts.host === host)
		.map(({ key, value }) => ({ name: records.name(key), value }))
		.filter(({ name }) => !names.has(name) && !name.startsWith("."))
		.map(({ name, value }) => fromRecord(host, name, value));
	return [...seen, ...recorded];
}

/**
 * A row of the list. A copy that was started elsewhere is none of its service any more: Compose would count it, take a
 * living one away for it, and start it.
 */
export function withoutService(row: Listed): Listed {
	if (!row.names.some(isSuperseded)) return row;
	const labels = Object.fromEntries(withoutCompose(row));
	const shown = { ...JSON.parse(`${row.head}${row.tail}`), Labels: labels };
	return listedOf(rowOf(shown), shown, row);
}

function rowOf(summary: object): Row {
	const [row] = rowsOf(`[${JSON.stringify(summary)}]`);
	return row as Row;
}

/** A row's labels but those by which Compose finds its containers. */
function withoutCompose({ labels }: Listed): [string, string][] {
	return Object.entries(labels).filter(([key]) => !key.startsWith(COMPOSE));
}

/** Consul does not know a container's id: one that is always the same stands for it. */
function fromRecord(
	host: string,
	name: string,
	{ facts }: ContainerRecord,
): Listed {
	const row = {
		Id: createHash("sha256").update(`${host}/${name}`).digest("hex"),
		Names: [`/${name}`],
		Image: "",
		ImageID: "",
		Command: "",
		Created: 0,
		Ports: [],
		HostConfig: {},
		NetworkSettings: { Networks: {} },
		Mounts: [],
	};
	const labels = Object.entries(facts)
		.filter(([, value]) => value !== undefined)
		.map(([fact, value]) => [LABEL_PREFIX + fact, String(value)] as const);
	return listed(host, row, "1970-01-01T00:00:00.000000000", labels);
}

function listed(
	host: string,
	row: { Id: string; Names: string[] },
	created: string,
	labelled: readonly (readonly [string, string])[],
): Listed {
	const Labels = Object.fromEntries(labelled);
	const shown = { ...row, Labels, State: "dead", Status: "" };
	return listedOf(rowOf(shown), shown, {
		created,
		running: true,
		status: timeless(`Lost: host ${host} does not answer`),
	});
}
