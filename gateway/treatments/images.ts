import {
	type Has,
	type HostAnswer,
	isUnheard,
	whoHas,
} from "../../pipeline/answers.ts";
import { imagePath, isPredefined, isUnasked } from "../../pipeline/docker.ts";
import { HttpError } from "../../pipeline/errors.ts";
import {
	type BringImage,
	byName,
} from "../../pipeline/lifecycle/image-carrier.ts";
import {
	contentOf,
	type ImageInspect,
	type Images,
	isOnRecord,
} from "../../pipeline/lifecycle/images.ts";
import { isTrue } from "../../pipeline/spelling.ts";
import type { ImageRecord } from "../../pipeline/state/images.ts";
import type { Entry } from "../../pipeline/state/store.ts";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { withContainerConfig } from "./compose1.ts";
import { filtersOf, withFilters } from "./query.ts";
import {
	addedUp,
	mergedList,
	type OwnAnswer,
	type Route,
	type TreatedRequest,
} from "./treatment.ts";

/** `images/…` and what makes images: one looks the same from everywhere. */
export function images(
	engines: Engines,
	names: Images,
	bringImage: BringImage,
): Route[] {
	const { cluster, local, locator } = engines;

	async function holder(ref: string): Promise<EnginePool> {
		if (engines.localOnly || (await isHere(ref))) return local;
		const [first] = await holders(engines, names, ref);
		return first ? engines.pool(first.host) : local;
	}

	/** Whether this host has what a name means, and Consul knows that: then nobody else need be asked, as before a create. */
	async function isHere(ref: string): Promise<boolean> {
		const [known, [own]] = await Promise.all([
			names.records.look(ref).catch(() => undefined), // without Consul, the engines must do
			cluster.answers<Image>(imagePath(ref), [cluster.self]),
		]);
		if (!known || known.given.size + known.perhaps.size > 0) return false;
		const here = own?.answer;
		// a copy may have another id here, and clients compare ids
		return here !== undefined && here.Id === known.record?.value.id;
	}

	/**
	 * The engine of a host where a request may give names to images: until it is answered, creates look there.
	 * @param given those names, if they are known
	 * @param brief a tag or commit: builds wait for it from its beginning
	 */
	async function naming(
		host: string,
		afterwards: TreatedRequest["afterwards"],
		given?: string[],
		brief = false,
	): Promise<EnginePool> {
		const made = await maker(engines);
		// another build begins with them
		const carry = (name: string) => bringImage(name, made);
		try {
			const isThere = made === host || !given?.length;
			const done = await names.begin(host, {
				names: given,
				carry: isThere ? undefined : carry,
				brief,
			});
			afterwards(() => void done().catch(() => {}));
		} catch {
			// without Consul nothing can be created, and the host's agent tells of it later
		}
		return engines.pool(host);
	}

	/** The build host, once images named elsewhere have arrived: later, they would take over the names given now. */
	async function making(
		afterwards: TreatedRequest["afterwards"],
		given?: string[],
	): Promise<EnginePool> {
		await names.carried().catch(() => {}); // without Consul nobody knows
		return naming(await maker(engines), afterwards, given);
	}

	async function tag({
		ref,
		query,
		afterwards,
	}: TreatedRequest): Promise<EnginePool> {
		const given = namesIn(query);
		for (const name of given) await names.carried(name).catch(() => {});
		const has = await holders(engines, names, ref);
		const made = await maker(engines);
		const home =
			has.find(({ host, id }) => host === made && id === has[0]?.id) ?? has[0];
		return home ? naming(home.host, afterwards, given, true) : local;
	}

	/**
	 * Removes an image from everywhere, or from nowhere: hosts where containers use it are asked first, one after the
	 * other, and the first that refuses ends it; that where it has most names next.
	 */
	async function remove({
		ref,
		path,
		query,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		await names.carried(ref).catch(() => {}); // it would come there when it is gone here
		const has = await holders(engines, names, ref, true);
		if (has.length < 2) return has[0] ? engines.pool(has[0].host) : local;
		refuseMany(ref, query, has);
		const users = await cluster.answers<{ ImageID: string }[]>(
			"/containers/json?all=1",
		);
		const used = has.filter((image) => {
			const rows = users.find(({ host }) => host === image.host)?.answer;
			return rows?.some(({ ImageID }) => ImageID === image.id);
		});
		const removed = ({ host }: Holder) =>
			cluster.ask(host, (engine) => engine.remove<object[]>(path + query));
		const said: object[] = [];
		for (const each of used) said.push(...(await removed(each)));
		const others = has
			.filter((each) => !used.includes(each))
			.sort((a, b) => b.names.length - a.names.length);
		const failed: unknown[] = [];
		// by its id, an engine refuses one of several names: before another has removed it
		for (const some of [others.slice(0, 1), others.slice(1)]) {
			for (const each of await Promise.allSettled(some.map(removed))) {
				if (each.status === "fulfilled") said.push(...each.value);
				else failed.push(each.reason);
			}
			const refusal = failed.find(isRefusal);
			if (refusal) throw refusal;
		}
		if (said.length === 0 && failed.length > 0) throw failed[0];
		const lines = new Set(said.map((line) => JSON.stringify(line)));
		return { status: 200, body: [...lines].map((line) => JSON.parse(line)) };
	}

	/**
	 * `GET /images/json`. Whether an image dangles no engine can tell, for it may have a name on another host: that filter
	 * is for what all hosts together say.
	 */
	async function list(
		request: TreatedRequest,
	): Promise<EnginePool | OwnAnswer> {
		const { before, since, ...rest } = filtersOf(request.query);
		if (before || since) {
			// a host that lacks that image would refuse, and its own be missing
			const [from, to] = [await createdOf(since), await createdOf(before)];
			const query = withFilters(request.query, rest);
			const all = await list({ ...request, query });
			if (!("body" in all)) return all;
			const body = (all.body as Image[]).filter(
				({ Created }) => Created > (from ?? -1) && Created < (to ?? Infinity),
			);
			return { ...all, body };
		}
		const { dangling = [], ...filters } = rest;
		const [wanted = ""] = dangling;
		// the engine says what is wrong with any other
		if (!/^(true|1|false|0)$/.test(wanted)) {
			return mergedList(engines, merge)(request);
		}
		const asked = new URLSearchParams(withFilters(request.query, filters));
		const dangles = /^(true|1)$/.test(wanted);
		if (dangles) asked.delete("all"); // what others are built upon does not
		const isWanted = (image: Image) =>
			dangles ? !image.RepoTags?.some(isName) : isNamed(image);
		const chosen = async (answers: Has<Image[]>[]) =>
			(await merge(answers)).filter(isWanted);
		return mergedList(engines, chosen)({ ...request, query: `?${asked}` });
	}

	/** When the image was made that a filter names, in seconds. @throws HttpError 404, as the engine */
	async function createdOf(refs?: string[]): Promise<number | undefined> {
		const [ref] = refs ?? [];
		if (ref === undefined) return undefined;
		const [first] = await holders(engines, names, ref);
		if (!first) throw new HttpError(404, `No such image: ${ref}`);
		return first.created;
	}

	/** Each image once, newest first, with the names that mean it. */
	async function merge(answers: Has<Image[]>[]): Promise<Image[]> {
		const images = new Map<string, Image>();
		const meanings = new Map<string, Set<string>>();
		for (const { answer } of answers) {
			for (const image of answer) {
				const known = images.get(image.Id) ?? image;
				known.RepoTags = union(known.RepoTags, image.RepoTags);
				known.RepoDigests = union(known.RepoDigests, image.RepoDigests);
				const { Containers = -1 } = image;
				if (known !== image && Containers > 0) {
					known.Containers = Containers + Math.max(0, known.Containers ?? 0);
				}
				images.set(image.Id, known);
				for (const tag of image.RepoTags ?? []) {
					meanings.set(tag, (meanings.get(tag) ?? new Set()).add(image.Id));
				}
			}
		}
		for (const image of images.values()) {
			if (!isNamed(image)) continue;
			image.RepoTags = image.RepoTags?.filter(isName) ?? null;
			image.RepoDigests = image.RepoDigests?.filter(isName) ?? null;
		}
		for (const [tag, ids] of meanings) {
			if (ids.size === 1 || tag === UNTAGGED) continue;
			// while the host is silent that named it last, each says what it means there
			const held = await holders(engines, names, tag).catch(() => []);
			const [meant] = held;
			for (const id of ids) {
				const image = images.get(id);
				if (!meant || !image || id === meant.id) continue;
				const others = image.RepoTags?.filter((each) => each !== tag) ?? [];
				image.RepoTags = others.length > 0 ? others : [UNTAGGED];
				// an engine with another kind of image store calls it so
				const isCopy = held.some(
					(each) => each.id === id && each.content === meant.content,
				);
				if (isCopy && others.length === 0) images.delete(id);
			}
		}
		return [...images.values()].sort((a, b) => b.Created - a.Created);
	}

	/** An image is made where its container is. */
	async function commit({
		query,
		afterwards,
	}: TreatedRequest): Promise<EnginePool> {
		const ref = new URLSearchParams(query).get("container");
		const host = ref ? await locator.hostOf(ref) : undefined;
		return host ? naming(host, afterwards, namesIn(query), true) : local;
	}

	/** A build in a container's network, or in one by name, is done where that is; BuildKit, whose session is with the maker, has no such builds. */
	async function build({
		query,
		afterwards,
	}: TreatedRequest): Promise<EnginePool> {
		const asked = new URLSearchParams(query);
		const classic = asked.get("version") !== "2";
		const host = classic && (await networkHost(asked.get("networkmode") ?? ""));
		const given = asked.getAll("t");
		return host ? naming(host, afterwards, given) : making(afterwards, given);
	}

	/**
	 * The host of a build in a network, if that is not the maker's own: there a local `FROM` is found.
	 * @throws HttpError 409 for a network of ours on several hosts
	 */
	async function networkHost(mode: string): Promise<string | undefined> {
		if (isUnasked(mode) || isPredefined(mode)) return undefined;
		const [, container] = /^container:(.+)/.exec(mode) ?? [];
		if (container) return locator.hostOf(container);
		const known = await engines.networkIds.findHeard(mode);
		if (known && known.hosts.length > 1) {
			throw new HttpError(
				409,
				`network ${known.name} spans hosts ${known.hosts.join(", ")}: the address that an engine gives a build there may be a container's on another; build in a network of its own, or with --network host`,
			);
		}
		const path = `/networks/${encodeURIComponent(mode)}`;
		const has = whoHas(await cluster.answers(path)).map(({ host }) => host);
		const made = await maker(engines);
		if (has.includes(made)) return undefined;
		// by its one id only its home knows it
		return has.find((host) => host === known?.home) ?? has[0];
	}

	return [
		[/^GET$/, /^\/images\/json$/, list],
		[/^POST$/, /^\/(?:images|build)\/prune$/, addedUp(engines)],
		[/^POST$/, /^\/commit$/, commit],
		[/^POST$/, /^\/build$/, build],
		[
			/^POST$/,
			/^\/(?:grpc|images\/create|images\/load)$/,
			({ afterwards }) => making(afterwards),
		],
		[
			/^POST$/,
			/^\/(?:session|build\/cancel)$/,
			async () => engines.pool(await maker(engines)),
		],
		[
			/^GET$/,
			/^\/images\/get$/,
			async ({ query }) => {
				const made = await maker(engines);
				for (const name of new URLSearchParams(query).getAll("names")) {
					await bringImage(name, made);
				}
				return engines.pool(made);
			},
		],
		[/^DELETE$/, /^\/images\/(.+)$/, remove],
		[/^POST$/, /^\/images\/(.+)\/tag$/, tag],
		[
			/^POST$/,
			/^\/images\/(.+)\/push$/,
			async ({ ref, query }) => {
				const tag = new URLSearchParams(query).get("tag"); // clients give it here
				if (tag) return holder(`${ref}:${tag}`);
				// all tags: they are where images are made, and `latest` need not be among them
				const made = await maker(engines);
				const filter = withFilters("", { reference: [ref] });
				const asking = cluster.ask(made, (engine) =>
					engine.get<Image[]>(`/images/json${filter}`),
				);
				const rows = await asking.catch(() => undefined);
				return rows?.length ? engines.pool(made) : holder(ref);
			},
		],
		[
			/^GET$/,
			/^\/images\/(.+)\/json$/,
			withContainerConfig(({ ref }) => holder(ref)),
		],
		[/^/, /^\/images\/(.+)\/(?:json|history|get)$/, ({ ref }) => holder(ref)],
	];
}

/** Images are built and pulled on one host, the same for every gateway, so that one build finds what another made. */
async function maker({ cluster }: Engines): Promise<string> {
	const names = await cluster.reachable();
	return names.sort()[0] as string;
}

/** A host that has an image, and what that is called there. */
interface Holder {
	host: string;
	id: string;
	/** The same for copies, whatever their ids. */
	content: string;
	names: string[];
	/** Seconds since 1970. */
	created: number;
}

/**
 * The hosts that have an image, the one that was given its name last before others.
 * @param ref a name, or an id
 * @param all every one is wanted, not any that has what the name means
 * @throws HttpError 503 if that one does not answer: what the others have may be older, or not there at all
 */
async function holders(
	engines: Engines,
	{ records }: Images,
	ref: string,
	all = false,
): Promise<Holder[]> {
	const [answers, record] = await Promise.all([
		engines.cluster.surelyAnswers<ImageInspect>(imagePath(ref)),
		records.get(ref).catch(() => undefined), // without Consul, the engines must do
	]);
	const held = byName(ref, answers, record);
	const isMeant = held.some(({ image }) => isOnRecord(image, record?.value));
	if (record && (all || !isMeant)) refuseUnheard(ref, answers, record);
	return held.map(({ host, image }) => ({
		host,
		id: image.Id,
		content: contentOf(image),
		names: image.RepoTags?.filter(isName) ?? [],
		created: Math.floor(Date.parse(image.Created) / 1000),
	}));
}

/**
 * Refuses what is asked of an image by its name while the host that named it last is silent, or any where none has it.
 * @throws HttpError 503
 */
function refuseUnheard(
	ref: string,
	answers: readonly HostAnswer[],
	{ value }: Entry<ImageRecord>,
): void {
	const isNowhere = whoHas(answers).length === 0;
	const silent = answers
		.filter(({ host, error }) => {
			return isUnheard(error) && (isNowhere || host === value.host);
		})
		.map(({ host }) => host);
	if (silent.length === 0) return;
	const what = isNowhere ? "" : "a newer one ";
	throw new HttpError(
		503,
		`image ${ref} may be ${what}on host ${silent.join(", ")}, which does not answer; try again`,
	);
}

/**
 * Refuses to remove an image by its id that has several names, as an engine does that knows two of them.
 * @throws HttpError 409
 */
function refuseMany(ref: string, query: string, has: Holder[]): void {
	const names = new Set(has.flatMap((each) => each.names));
	if (has.some((each) => each.names.length > 1)) return; // that engine says so
	const byName = names.has(ref) || names.has(`${ref}:latest`);
	const byId = !byName && has.some(({ id }) => hex(id).startsWith(hex(ref)));
	const forced = isTrue(new URLSearchParams(query).get("force"));
	if (!byId || forced || names.size < 2) return;
	throw new HttpError(
		409,
		`conflict: unable to delete ${hex(ref).slice(0, 12)} (must be forced) - image is referenced in multiple repositories: ${[...names].join(", ")}`,
	);
}

function hex(id: string): string {
	return id.replace(/^sha256:/, "");
}

/** Whether an engine has something against a removal; that the image is gone already is nothing. */
function isRefusal(error: unknown): boolean {
	return (
		error instanceof HttpError && error.status < 500 && error.status !== 404
	);
}

/** The name that a query of `/commit` or `/images/{name}/tag` gives, if it does. */
function namesIn(query: string): string[] {
	const asked = new URLSearchParams(query);
	const [repo, tag] = [asked.get("repo"), asked.get("tag")];
	if (!repo) return [];
	return [tag ? `${repo}:${tag}` : repo];
}

interface Image {
	Id: string;
	Created: number;
	RepoTags: string[] | null;
	RepoDigests: string[] | null;
	/** How many use it, on its host; -1 from an engine that does not say (before API 1.51). */
	Containers?: number;
}

/** What an image is called that has no name. */
const UNTAGGED = "<none>:<none>";

/** Whether it is a name, and not what stands there for none: `<none>:<none>` or `<none>@<none>`. */
function isName(name: string): boolean {
	return !name.startsWith("<none>");
}

function isNamed({ RepoTags, RepoDigests }: Image): boolean {
	return [RepoTags, RepoDigests].some((names) => names?.some(isName));
}

function union(a: string[] | null, b: string[] | null): string[] | null {
	return a && b ? [...new Set([...a, ...b])] : (a ?? b);
}
