import type { Store } from "./store.ts";

/**
 * Opens a session of Consul's: the keys that it locks are deleted when it ends. There is no lock-delay, which protects from late writes by
 * waiting.
 * @param name for people
 * @param ttl seconds; Consul ends it between one and two times this after its last word
 * @param checks of Consul's agent whose failure ends it, too; without, its serfHealth
 * @returns its id
 */
export async function openSession(
	store: Store,
	name: string,
	ttl: number,
	checks?: string[],
): Promise<string> {
	const options = {
		name,
		ttl: `${ttl}s`,
		behavior: "delete",
		lockdelay: "0s",
		...(checks ? { checks } : {}),
	};
	const { ID } = (await store.ask(() =>
		store.consul.session.create(options as never),
	)) as { ID: string };
	return ID;
}

/** Gives a session its time once more. @throws Refusal 404 for one that has ended */
export async function renewSession(store: Store, id: string): Promise<void> {
	await store.ask(() => store.consul.session.renew(id));
}

/** Ends a session, and with it what it has locked; one that has ended already is success. */
export async function endSession(store: Store, id: string): Promise<void> {
	await store.ask(() => store.consul.session.destroy(id));
}
