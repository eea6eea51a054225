import type { Store } from "./store.ts";

/** Where services that are open to others stand. */
export const EXPOSED = "arpanet/exposed/";

/** What stands under `arpanet/exposed/<scope>/<address>`. */
export interface Exposed {
	service: string;
	/** Deployments that may come in. */
	to: "all" | string[];
}

/** An address that other deployments may reach, and the name by which they find it. */
export interface Exposure extends Exposed {
	scope: string;
	address: string;
}

/** Key of an exposure. */
export function exposedKey(scope: string, address: string): string {
	return `${EXPOSED}${scope}/${address}`;
}

/** All that is exposed in the cluster. */
export async function exposures(store: Store): Promise<Exposure[]> {
	return (await store.list<Exposed>(EXPOSED)).map(({ key, value }) => {
		const [scope = "", address = ""] = key.slice(EXPOSED.length).split("/");
		return { scope, address, ...value };
	});
}
