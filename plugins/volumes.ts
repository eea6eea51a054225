import { readdir } from "node:fs/promises";
import { inTime } from "../pipeline/deadline.ts";
import {
	type ContainerCreate,
	filtered,
	mountsOf,
	type VolumeCreate,
	type VolumeInspect,
} from "../pipeline/docker.ts";
import { HttpError, pastErrors } from "../pipeline/errors.ts";
import { formerSlots } from "../pipeline/lifecycle/former.ts";
import { inParallel } from "../pipeline/parallel.ts";
import {
	type CreateContext,
	definePlugin,
	type Facts,
	type Services,
} from "../pipeline/plugin.ts";
import {
	ignoreConflict,
	keyIn,
	type Operation,
	replacing,
	unchanged,
} from "../pipeline/state/operations.ts";
import { Ripening } from "../pipeline/state/ripening.ts";
import type { Entry } from "../pipeline/state/store.ts";
import { addTo } from "../pipeline/state/use.ts";
import {
	isVolume,
	type VolumeRecord,
	volumeKey,
} from "../pipeline/state/volumes.ts";
import { COPY } from "./placement/part.ts";

/** Docker's name of a volume for which nobody asked by name. */
const ANONYMOUS = /^[0-9a-f]{64}$/;
/** Kinds of file system that are the same from every host. */
const NETWORKED = /^(nfs|cifs|smb|9p|ceph|gluster)/;
/** Volumes that other hosts are asked for at once. */
const AT_ONCE = 8;
/** An engine that takes longer to say whether it has a volume is asked in vain. */
const PATIENCE_MS = 2_000;

/** A volume that a create asks for, and what is known of it. */
interface Wanted {
	name: string;
	record: Entry<VolumeRecord> | undefined;
	/** Hosts on one of which the container must run; any without it. */
	homes?: string[];
	/** Where it was made and nothing has used it, or would be made by an engine alone. */
	near?: string;
	/** How it is made on a host that lacks it. */
	spec?: VolumeCreate;
}

/**
 * volumes: a local volume is on one host, and the containers that use it run there. It belongs to the host of its
 * first container, and a new one draws that to the host that was asked, as far as nothing else forbids it: another container that shares
 * the volume may mount folders of that host. One that was only made (`docker volume create`, or Compose before any container) goes along while it
 * is empty.
 *
 *     plugins:
 *       - volumes
 */
export default definePlugin({
	name: "volumes",
	after: ["placement"],
	setup(_, services) {
		const { cluster, volumes, store, host, log } = services;
		/** What `place` has found out for the `create` of the same facts: the volumes, and by host those of them that draw the container there. */
		const looked = new WeakMap<
			Facts,
			{ wanted: Wanted[]; draws: Map<string, Set<string>> }
		>();
		const gone = new Ripening<VolumeRecord>();

		return {
			async place(context) {
				const names = namedVolumes(context.body);
				const isOwner = hasOwnVolumes(context.body);
				if ((names.length === 0 && !isOwner) || cluster.alone) return undefined;

				await learn(context);
				const wanted = await Promise.all(names.map(look));
				const draws = new Map<string, Set<string>>();
				// what a container uses that takes another's place is where that was, or its host is lost
				if (!(await isMadeAnew(context))) {
					for (const { near, name } of wanted) {
						if (near) addTo(draws, near, name);
					}
					if (isOwner) addTo(draws, host.name, "those without a name");
				}
				looked.set(context.facts, { wanted, draws });
				return {
					filter({ name: candidate }) {
						const other = wanted.find(
							({ homes }) => homes && !homes.includes(candidate),
						);
						return (
							other && `volume ${other.name} is on ${other.homes?.join(", ")}`
						);
					},
					score: ({ name: candidate }) =>
						draws.has(candidate) ? -COPY / 2 : 0,
				};
			},

			async create({ facts, commit, explain }) {
				const target = facts.host;
				const { wanted = [], draws } = looked.get(facts) ?? {};
				if (!target) return;
				const drawing = draws?.get(target);
				if (drawing) {
					const why = `${[...drawing].join(", ")}: new, so ${target} was preferred`;
					explain("volumes", why);
				}
				for (const each of wanted) {
					const { name, record } = each;
					const made = record?.value.host;
					if (each.spec && made !== target) await make(target, each.spec);
					const isClaimed = record && !record.value.unclaimed;
					if (isClaimed) commit(unchanged(record));
					else if (!each.spec || record) {
						const value: VolumeRecord = {
							host: target,
							...(made && made !== target ? { left: made } : {}),
						};
						commit(replacing(volumeKey(name), record, value));
					}
				}
			},

			/** Written before Docker has the volume, so that the sweep does not take it for one that is in use. */
			async volumeCreate({ body: { Name, Driver, DriverOpts } }) {
				if (!Name || (Driver && Driver !== "local") || cluster.alone) return;
				if (NETWORKED.test(String(DriverOpts?.type ?? ""))) return;
				const record = (await volumes.refresh()).get(Name);
				const lost = record && !(await isReachable(record.value.host));
				if (lost || (await holdersOf(Name, services)).length > 0) return;
				const value: VolumeRecord = {
					host: host.name,
					...(isFolder(DriverOpts) ? {} : { unclaimed: true as const }),
				};
				await settle(replacing(volumeKey(Name), record, value));
			},

			async volumeRemoved({ name }) {
				const record = await store.get<VolumeRecord>(volumeKey(name));
				if (!record || !(await isReachable(record.value.host))) return; // it was another of that name
				if ((await holdersOf(name, services)).length > 0) return; // made anew
				const { key, index } = record;
				await settle({ verb: "delete", key, index });
			},

			async sweep() {
				const engine = services.engine;
				const answer = await engine.get<{ Volumes: VolumeInspect[] | null }>(
					"/volumes",
				);
				const all = (answer?.Volumes ?? []).filter(isLocal);
				const own = new Map(all.map((each) => [each.Name, each]));
				const records = await volumes.get();
				for (const [name, record] of records) {
					const { left, unclaimed, ...value } = record.value;
					const volume = own.get(name);
					await pastErrors(log, record.key, async () => {
						if (left === host.name) {
							if (volume) await discard(volume, value.host);
							await settle(replacing(volumeKey(name), record, value));
						} else if (unclaimed && volume && (await isFilled(volume))) {
							const isElsewhere = value.host !== host.name;
							const own: VolumeRecord = isElsewhere
								? { host: host.name, left: value.host }
								: value;
							await settle(replacing(volumeKey(name), record, own));
						}
					});
				}
				const missing = [...records].filter(
					([name, { value }]) => value.host === host.name && !own.has(name),
				);
				for (const { key, index } of gone.ripe(
					missing.map(([, each]) => each),
				)) {
					await settle({ verb: "delete", key, index });
				}
				const unknown = [...own.keys()].filter(
					(name) => !ANONYMOUS.test(name) && !records.has(name),
				);
				await inParallel(unknown, AT_ONCE, async (name) => {
					if (await isSpare(name)) return;
					const value: VolumeRecord = { host: host.name };
					await settle(replacing(volumeKey(name), undefined, value));
				});
			},
		};

		/** Whether a container takes another's place. */
		async function isMadeAnew({
			recordName,
			facts,
		}: CreateContext): Promise<boolean> {
			const own = { container: recordName, ...facts };
			return (
				services.slots.of(own).length > 0 ||
				(await formerSlots(own, services)).length > 0
			);
		}

		/** Another create has claimed or moved what this one wanted. */
		async function learn({ conflicts }: CreateContext): Promise<void> {
			const last = keyIn(conflicts.at(-1));
			if (last && isVolume(last)) await volumes.refresh();
		}

		async function look(name: string): Promise<Wanted> {
			const record = (await volumes.get()).get(name);
			if (record && !record.value.unclaimed) {
				return { name, record, homes: [record.value.host] };
			}
			// an unclaimed volume is where its record says; any other is looked for here first, as all hosts have a networked one
			const at = record?.value.host ?? host.name;
			const near = await holdersOf(name, services, (each) => each === at);
			const made = near.filter(({ volume }) => record || !isLocal(volume));
			const holders =
				made.length > 0
					? made
					: [
							...near,
							...(await holdersOf(name, services, (each) => each !== at)),
						];
			const [first] = holders;
			// where a create that is not committed yet, or `plan`, put it
			const asked = services.slots.hostOfVolume(name);
			if (!first) {
				// it may have it all the same
				const isAway =
					record && (await cluster.hosts.get(at)).state?.engineless;
				const home = isAway ? at : asked;
				return { name, record, ...(home ? { homes: [home] } : { near: at }) };
			}
			const { Driver, Options, Labels } = first.volume;
			const spec: VolumeCreate = {
				Name: name,
				Driver,
				DriverOpts: Options ?? {},
				Labels: Labels ?? {},
			};
			if (!isLocal(first.volume)) return { name, record: undefined, spec };
			if (record && isFolder(Options)) {
				return { name, record, homes: [first.host] };
			}
			if (record) {
				// whether one elsewhere is filled, that host's sweep finds out
				const filled =
					first.host === host.name && (await isFilled(first.volume));
				if (filled) return { name, record, homes: [host.name] };
				if (asked) return { name, record, spec, homes: [asked] };
				return { name, record, spec, near: first.host };
			}
			return { name, record, homes: holders.map((each) => each.host) };
		}

		/** Makes a volume as it is elsewhere; one that is there already is success. */
		async function make(target: string, spec: VolumeCreate): Promise<void> {
			await (await cluster.engine(target)).createVolume(spec);
		}

		/** Removes a volume that is left behind, if nothing is in it and nobody uses it. */
		async function discard(
			{ Name, Mountpoint }: VolumeInspect,
			used: string,
		): Promise<void> {
			const kept = (why: unknown) =>
				services.log.error(
					{ volume: Name, used, why },
					"containers of this name's volume run elsewhere; the one here is kept: move its data there, or remove it at this host's own engine",
				);
			const there = await contents(Mountpoint);
			if (there !== 0) {
				kept(there ? "it is not empty" : `${Mountpoint} cannot be read`);
				return;
			}
			try {
				await services.engine.remove(`/volumes/${encodeURIComponent(Name)}`);
			} catch (error) {
				const inUse = error instanceof HttpError && error.status === 409;
				if (!inUse) throw error;
				kept(error.message);
			}
		}

		/** Whether a volume here, of which nothing is on record, is used by nobody, and another host has one of that name. */
		async function isSpare(name: string): Promise<boolean> {
			const asking = holdersOf(name, services, (each) => each !== host.name);
			const others = await asking.catch(() => undefined);
			if (!others) return true; // for now: a host did not answer
			if (others.length === 0) return false;
			const users = await services.engine.get<unknown[]>(
				filtered("/containers/json?all=1", { volume: [name] }),
			);
			return users?.length === 0;
		}

		/** Writes unless another has just done so. */
		async function settle(operation: Operation): Promise<void> {
			await ignoreConflict(store.commit([operation]));
		}

		async function isReachable(name: string): Promise<boolean> {
			return (await cluster.reachable()).includes(name);
		}
	},
});

/** Whether a container gets new volumes without a name, as one does for others' `volumes_from`; what an image alone asks for is not seen. */
function hasOwnVolumes(body: ContainerCreate): boolean {
	const mounts = mountsOf(body);
	const mounted = mounts.map(({ target }) => target);
	return (
		mounts.some(({ type, source }) => type === "volume" && !source) ||
		Object.keys(Object(body.Volumes)).some((path) => !mounted.includes(path))
	);
}

/** The local volumes that a create asks for by name. */
export function namedVolumes(body: ContainerCreate): string[] {
	const names = mountsOf(body)
		.filter(({ type, driver, kind }) => {
			const isLocal = (driver || "local") === "local" && !NETWORKED.test(kind);
			return type === "volume" && isLocal;
		})
		.map(({ source }) => source);
	return [...new Set(names.filter(Boolean))];
}

/** Whether a volume's data are on the one host that has it. */
function isLocal({ Driver, Scope, Options }: VolumeInspect): boolean {
	return (
		Driver === "local" &&
		Scope !== "global" &&
		!NETWORKED.test(Options?.type ?? "")
	);
}

/** Whether a local volume is a folder or a device of the host where it was made (`type: none`, `o: bind`): elsewhere it is another, or none. */
function isFolder(options: Record<string, string> | null | undefined): boolean {
	return String(options?.device ?? "").startsWith("/");
}

/** How many files and folders are in a folder of this host; undefined if that cannot be told. */
async function contents(folder: string): Promise<number | undefined> {
	try {
		return (await readdir(folder)).length;
	} catch {
		return undefined; // the engine is on another machine, or lets root alone look
	}
}

/** Whether something is in a volume of this host, so far as it can be told. */
async function isFilled({ Mountpoint }: VolumeInspect): Promise<boolean> {
	return Boolean(await contents(Mountpoint));
}

/**
 * The hosts whose engines have a volume of that name.
 * @param isAsked which of them are asked; all without it
 * @throws HttpError 503 if one of them does not say
 */
async function holdersOf(
	name: string,
	{ cluster }: Services,
	isAsked: (host: string) => boolean = () => true,
): Promise<{ host: string; volume: VolumeInspect }[]> {
	const all = await cluster.all();
	const engineless = all.filter(({ state }) => state?.engineless); // as one that is lost
	const hosts = (await cluster.reachable())
		.filter((host) => !engineless.some(({ name }) => name === host))
		.filter(isAsked);
	const found = await Promise.all(
		hosts.map(async (host) => {
			const engine = await cluster.engine(host);
			const path = `/volumes/${encodeURIComponent(name)}`;
			const late = `volumes: ${host} does not say whether it has volume ${name}; try again`;
			const volume = await inTime(
				engine.get<VolumeInspect>(path),
				PATIENCE_MS,
				() => new HttpError(503, late),
			);
			return volume && { host, volume };
		}),
	);
	return found.filter((each) => each !== undefined);
}
