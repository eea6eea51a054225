import type { Store } from "./store.ts";

/** Where containers stand that are in networks of other deployments than their own. */
export const GUESTS = "arpanet/guests/";

/** What stands under `arpanet/guests/<scope>/<address>`. */
interface Stay {
	/** The container's own. */
	deployment: string;
}

/** A container's address in a network that is not of its deployment. */
export interface Guest extends Stay {
	scope: string;
	address: string;
}

/** Key of a guest. */
export function guestKey(scope: string, address: string): string {
	return `${GUESTS}${scope}/${address}`;
}

/** All guests in the cluster. */
export async function guestsOf(store: Store): Promise<Guest[]> {
	return (await store.list<Stay>(GUESTS)).map(({ key, value }) => {
		const [scope = "", address = ""] = key.slice(GUESTS.length).split("/");
		return { scope, address, ...value };
	});
}
