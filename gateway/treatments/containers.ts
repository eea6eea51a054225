import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import type { Views } from "../view/views.ts";
import type { BringImage } from "./images.ts";
import { containerList } from "./list.ts";
import type { Row } from "./treatment.ts";

/** Ids whose hosts are remembered. */
const MAX_KNOWN = 20_000;
/** Of all requests the one that the gateway answers itself with one host, too. */
export const LIST = /^\/containers\/json$/;
const ID = /^[0-9a-f]{64}$/;

/** `containers/…` and `exec/…`: a container's requests go to its host, and the list is of all. */
export function containers(
	engines: Engines,
	views: Views,
	bringImage: BringImage,
): Row[] {
	const { cluster, local } = engines;
	/** Where containers and execs are, by full id: that never changes. */
	const hosts = new Map<string, string>();

	function remember(id: string, host: string): void {
		if (hosts.size >= MAX_KNOWN) hosts.clear();
		hosts.set(id, host);
	}

	async function create(body: string | null): Promise<EnginePool> {
		let create: { Image?: string; Labels?: Record<string, string> };
		try {
			create = JSON.parse(body ?? "");
		} catch {
			return local; // the engine says what is wrong with it
		}
		const host = create.Labels?.["arpanet.host"] ?? cluster.self;
		if (create.Image) await bringImage(create.Image, host);
		return engines.pool(host);
	}

	async function container(ref: string): Promise<EnginePool> {
		const known = hosts.get(ref);
		if (known) return engines.pool(known);
		const found = await cluster.find(ref);
		if (!found) return local; // and its engine says that there is none
		remember(found.container.Id, found.host);
		return engines.pool(found.host);
	}

	async function exec(id: string): Promise<EnginePool> {
		const known = hosts.get(id);
		if (known) return engines.pool(known);
		const host = await engines.holder(`/exec/${id}/json`);
		if (ID.test(id) && host) remember(id, host);
		return host ? engines.pool(host) : local;
	}

	return [
		[/^POST$/, /^\/containers\/create$/, ({ body }) => create(body)],
		[/^GET$/, LIST, containerList(engines, views)],
		[
			/^/,
			/^\/containers\/(?!prune$)([^/]+)(?:\/|$)/,
			({ ref }) => container(ref),
		],
		[/^/, /^\/exec\/([^/]+)\//, ({ ref }) => exec(ref)],
	];
}
