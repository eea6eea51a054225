import type { Entry, Store } from "./store.ts";
import { View } from "./view.ts";

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

/** The records of local volumes by the volumes' names, as a view that Consul keeps fresh. */
export class Volumes extends View<
	VolumeRecord,
	ReadonlyMap<string, Entry<VolumeRecord>>
> {
	constructor(store: Store) {
		super(store, VOLUMES, byName);
	}
}

function byName(
	entries: Entry<VolumeRecord>[],
): Map<string, Entry<VolumeRecord>> {
	return new Map(entries.map((each) => [each.key.slice(VOLUMES.length), each]));
}
