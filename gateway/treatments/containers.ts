import { PATIENCE_MS } from "../../pipeline/cluster.ts";
import { type ContainerCreate, imagesOf } from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import { readLabels } from "../../pipeline/facts.ts";
import { stringify } from "../../pipeline/json.ts";
import type { BringImage } from "../../pipeline/lifecycle/image-carrier.ts";
import { Names } from "../../pipeline/lifecycle/names.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import type { Views } from "../view/views.ts";
import { showAliases } from "./aliases.ts";
import { containerList } from "./list.ts";
import { withNetworkIds } from "./network-ids.ts";
import { type PortMap, portsOf } from "./ports.ts";
import {
	addedUp,
	type OwnAnswer,
	type Route,
	type TreatedRequest,
} from "./treatment.ts";

/** A container is made. */
export const CREATE = /^\/containers\/create$/;
/** Of all requests the one that the gateway answers itself with one host, too. */
export const LIST = /^\/containers\/json$/;

/**
 * `containers/…` and `exec/…`: a container's requests go to its host, and the list is of all.
 */
export function containers(
	engines: Engines,
	views: Views,
	bringImage: BringImage,
): Route[] {
	const { cluster, local, locator, records, store } = engines;
	const names = new Names({ cluster, containers: records, store });

	async function create({
		body,
		query,
		afterwards,
	}: TreatedRequest): Promise<EnginePool> {
		let create: ContainerCreate;
		try {
			create = JSON.parse(body ?? "");
		} catch {
			return local; // the engine says what is wrong with it
		}
		const placed = create.Labels?.["arpanet.host"];
		const host = placed ?? cluster.self;
		const name = nameIn(query);
		const kept =
			placed && records.keep(name ?? "", readLabels(create.Labels ?? null));
		if (kept) afterwards(kept.end);
		if (cluster.alone) return local;
		// Docker looks for them first, too
		await Promise.all(imagesOf(create).map((each) => bringImage(each, host)));
		if (kept) await kept.mustBeThere();
		// one that was placed has its name by its record
		if (name && !placed) await keepName(name, host, undefined, afterwards);
		return engines.pool(host);
	}

	async function rename({
		ref,
		query,
		afterwards,
	}: TreatedRequest): Promise<EnginePool> {
		const found = await locator.surelyFind(ref);
		const name = nameIn(query);
		if (!found) {
			await container(ref); // its host may be lost
			// one that is there by now must not be renamed without a look at its new name
			throw new HttpError(404, `No such container: ${ref}`);
		}
		if (name) {
			try {
				await keepName(name, found.host, found.container.Id, afterwards);
			} catch (error) {
				if (!(error instanceof HttpError && error.status === 409)) throw error;
				throw new HttpError(
					409,
					`Error when allocating new name: ${error.message}`,
				);
			}
		}
		return engines.pool(found.host);
	}

	/** Keeps a name until the request is answered. @throws HttpError 409 */
	async function keepName(
		name: string,
		host: string,
		own: string | undefined,
		afterwards: TreatedRequest["afterwards"],
	): Promise<void> {
		const release = await names.reserve(name, host, own);
		// one that cannot be given back now is stale after a while
		afterwards(() => void release().catch(() => {}));
	}

	async function container(ref: string): Promise<EnginePool> {
		const host = await locator.hostOf(ref);
		return host ? engines.pool(host) : local; // and its engine says that there is none
	}

	/** What its engine says of a container, and where that is, in the words of classic Swarm. */
	async function inspect({
		ref,
		path,
		query,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const name = await locator.hostOf(ref);
		if (!name) return local;
		const host = await cluster.hosts.get(name);
		const answer = await cluster.ask(
			name,
			(engine) => engine.answer(path + query),
			{ patience: PATIENCE_MS },
		);
		if (answer.status !== 200) return engines.pool(name);
		const body = JSON.parse(answer.text);
		const ports = body.NetworkSettings?.Ports as PortMap | null;
		if (ports) body.NetworkSettings.Ports = portsOf(ports, host.address);
		await showAliases(body, store);
		body.Node = {
			ID: name,
			Name: name,
			Addr: host.engine?.replace("tcp://", "") ?? "",
			IP: host.address,
			Cpus: host.cpus,
			Memory: host.memory,
			Labels: host.labels ?? {},
		};
		const bytes = Buffer.from(`${stringify(body, answer.text)}\n`);
		return { status: 200, bytes, headers: answer.headers };
	}

	async function exec({ ref }: TreatedRequest): Promise<EnginePool> {
		const host = await locator.hostOfExec(ref);
		return host ? engines.pool(host) : local;
	}

	return [
		[/^POST$/, CREATE, create],
		[/^POST$/, /^\/containers\/prune$/, addedUp(engines)],
		[/^POST$/, /^\/containers\/([^/]+)\/rename$/, rename],
		[/^GET$/, LIST, withNetworkIds(engines, containerList(engines, views))],
		[
			/^GET$/,
			/^\/containers\/([^/]+)\/json$/,
			withNetworkIds(engines, inspect),
		],
		[/^/, /^\/containers\/([^/]+)(?:\/|$)/, ({ ref }) => container(ref)],
		[/^/, /^\/exec\/([^/]+)\//, exec],
	];
}

/** Names that Docker gives to containers; of any other it says what is wrong. */
const NAME = /^\/?([a-zA-Z0-9][a-zA-Z0-9_.-]+)$/;

/** The name that a create or rename asks for, if it is one. */
function nameIn(query: string): string | undefined {
	return NAME.exec(new URLSearchParams(query).get("name") ?? "")?.[1];
}
