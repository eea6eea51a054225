import type { Entry, Store } from "./store.ts";

/** Where stands which host has a local volume. */
export const VOLUMES = "arpanet/volumes/";

/** Where a local volume is, under `arpanet/volumes/<name>`. It stays when its containers go, as the volume does. */
export interface VolumeRecord {
	host: string;
	/** Made by `volume create`, empty when last looked at, and used by no container yet: it may still go where the first one does. */
	unclaimed?: true;
	/** The host where it was made and that is to remove it if it is empty: the first container went elsewhere. */
	left?: string;
}

/** Key of a volume's record. */
export function volumeKey(name: string): string {
	return VOLUMES + name;
}

/** Whether a key is that of a volume's record. */
export function isVolume(key: string): boolean {
	return key.startsWith(VOLUMES);
}

/** The records of local volumes, as a view that Consul keeps fresh. */
export class Volumes {
	readonly #store: Store;
	#known: Map<string, Entry<VolumeRecord>> | undefined;
	#stop: (() => void) | undefined;

	constructor(store: Store) {
		this.#store = store;
	}

	/** Begins to follow what Consul says. */
	follow(): void {
		this.#stop ??= this.#store.watch<VolumeRecord>(VOLUMES, (entries) => {
			this.#known = byName(entries);
		});
	}

	/** All records by the volumes' names. */
	async all(): Promise<ReadonlyMap<string, Entry<VolumeRecord>>> {
		return this.#known ?? (await this.refresh());
	}

	/** Reads all records now. */
	async refresh(): Promise<ReadonlyMap<string, Entry<VolumeRecord>>> {
		const known = byName(await this.#store.list<VolumeRecord>(VOLUMES));
		if (this.#stop) this.#known = known; // followed: kept fresh
		return known;
	}

	/** Ends the watch. */
	close(): void {
		this.#stop?.();
	}
}

function byName(
	entries: Entry<VolumeRecord>[],
): Map<string, Entry<VolumeRecord>> {
	return new Map(entries.map((each) => [each.key.slice(VOLUMES.length), each]));
}
