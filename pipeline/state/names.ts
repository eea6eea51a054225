import { Containers } from "./containers.ts";
import type { Store } from "./store.ts";

/** Where names of containers stand that are on no record. */
export const NAMES = "arpanet/names/";

/** Who has a name of which no record tells, under `arpanet/names/<name>`. */
export interface NameHolder {
	host: string;
	/** Full id of the container; none while it is being given to one. */
	id?: string;
	/** Milliseconds since 1970 at which it began to be given, to tell it from another time; none once a container has it. */
	at?: number;
}

/** The host of the container that has a name, as Consul knows; undefined if it knows of none. */
export async function hostNamed(
	name: string,
	store: Store,
): Promise<string | undefined> {
	const [record, other] = await Promise.all([
		new Containers(store).get(name),
		store.get<NameHolder>(NAMES + name),
	]);
	return record?.value.facts.host ?? other?.value.host;
}
