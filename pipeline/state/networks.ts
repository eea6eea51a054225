import { createHash } from "node:crypto";
import { setTimeout } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { ContainerSummary, NetworkCreate } from "../docker.ts";
import { HttpError } from "../errors.ts";
import { unmark } from "./aliases.ts";
import { Bridges } from "./bridges.ts";
import { isForeignService } from "./catalog.ts";
import { GATEWAYS, LEASES, type Lease } from "./leases.ts";
import { type IsNamed, NetworkIds } from "./network-ids.ts";
import {
	Conflict,
	commitOverflow,
	ignoreConflict,
	type Operation,
	replacing,
	unchanged,
} from "./operations.ts";
import type { Entry, Store } from "./store.ts";
import { choose, claim, type Pool } from "./subnets.ts";

/** Networks of deployments, by scope. */
export const NETWORKS = "arpanet/networks/";
/** Subnets that were granted, each with the scope of its network. */
export const SUBNETS = "arpanet/subnets/";
/** Docker's option for a network's MTU. */
export const MTU = "com.docker.network.driver.mtu";
/** Every grant of a subnet writes this key: two grants at once cannot both succeed. */
const SERIAL = "arpanet/subnets-serial";

/** A label in DNS has no more characters. */
const MAX_LABEL = 63;

/** One network of a deployment, under `arpanet/networks/<scope>`. */
export interface NetworkRecord {
	/** Its names in DNS end in `<scope>.service.consul`: `abc` for the default network, `abc-back` for another. */
	scope: string;
	deployment: string;
	/** Docker's name of it: `abc_default`. */
	name: string;
	/** Where it was made, and where it stays as long as it is: the id that its Docker gave it is the one that clients see. */
	host: string;
	/** Made by a user for whatever deployment joins it. */
	shared?: true;
	/** What the user asked for beside its addresses, for the hosts that it is still to come to. */
	body?: Pick<NetworkCreate, "Internal" | "Attachable" | "Options" | "Labels">;
	/** Its MTU was set by arpanet, not by the user. */
	fitted?: boolean;
	/** The user asked for this very subnet, and may ask for addresses in it. */
	asked?: true;
	/** Addresses are leased from this part of the subnet alone, unless one is asked for. */
	range?: string;
	/** Addresses that are someone else's: never leased. */
	reserved?: string[];
	/** `10.32.1.0/24` */
	subnet: string;
	/** Number of its VXLAN: unlike any other network's. */
	vni: number;
	/** Made because a container needed it, not by the client: goes with its last container. */
	implicit: boolean;
	/** How often a host took its bridge down while it stayed: who relies on what was there begins again. */
	withdrawn?: number;
	/** Set while it is being given back: no lease may be added. */
	retiring?: true;
}

/** How a network that is not there yet gets its subnet. */
interface Granting extends Pool {
	/** How many addresses are asked for. */
	size: number;
	/** Gives ranges that the hosts themselves use; asked for a new subnet only, since it is not cheap. */
	avoid?: () => Promise<string[]>;
	/** Its user makes it: is told of a network that was there already, and may refuse it. */
	found?: (network: NetworkRecord) => Promise<void>;
}

/** A network to be made. */
export interface WantedNetwork extends Omit<NetworkRecord, "subnet" | "vni"> {
	/** The very one that the user asked for. */
	subnet?: string;
	/** Address of the bridge on the host where it is made, if the user asked for one; the first of the subnet without. */
	gateway?: string;
	/** Docker has it still; whether the user asked for its subnet is not known any more. */
	restored?: true;
}

/** The networks of all deployments and the subnets they were granted. */
export class Networks {
	readonly #store: Store;
	/** Networks that were read or made before. Every commit checks the index of what it relies on. */
	readonly #known = new Map<string, Entry<NetworkRecord>>();
	/** What the engines call them. */
	readonly ids: NetworkIds;
	/** Where the hosts have them. */
	readonly bridges: Bridges;

	constructor(store: Store, isNamed: IsNamed) {
		this.#store = store;
		this.ids = new NetworkIds(store, isNamed);
		this.bridges = new Bridges(store, this.ids);
	}

	/** A network by scope; from memory where it is known. */
	async get(scope: string): Promise<Entry<NetworkRecord> | undefined> {
		return this.#known.get(scope) ?? (await this.#read(scope));
	}

	/** A network by Docker's name of it; undefined for one that is none of ours. */
	async byName(name: string): Promise<Entry<NetworkRecord> | undefined> {
		for (const entry of this.#known.values()) {
			if (entry.value.name === name) return entry;
		}
		return (await this.list()).find((entry) => entry.value.name === name);
	}

	/** The networks that a container was given an address in, with it: it has that while it is stopped, too. */
	async joinedBy({
		NetworkSettings,
	}: Pick<ContainerSummary, "NetworkSettings">): Promise<
		{ network: Entry<NetworkRecord>; address: string }[]
	> {
		const joined = [];
		for (const [name, { IPAMConfig }] of Object.entries(
			NetworkSettings?.Networks ?? {},
		)) {
			const address = IPAMConfig?.IPv4Address;
			const network = address ? await this.byName(name) : undefined;
			if (network && address) joined.push({ network, address });
		}
		return joined;
	}

	/** All networks, from Consul. */
	async list(): Promise<Entry<NetworkRecord>[]> {
		const entries = await this.#store.list<NetworkRecord>(NETWORKS);
		this.#known.clear();
		for (const entry of entries) this.#known.set(entry.value.scope, entry);
		return entries;
	}

	/** A network by what a client says: Docker's name of it, its id, or the start of that; also by what any one engine calls it. */
	async find(ref: string): Promise<Entry<NetworkRecord> | undefined> {
		const named = await this.byName(ref);
		if (named || !/^[0-9a-f]+$/.test(ref)) return named;
		const known = (await this.ids.find(ref)) ?? this.ids.known(ref);
		return known && this.get(known.scope);
	}

	/**
	 * A host has taken its bridge down: creates that have seen it there lose their commit, and look again.
	 * @returns the network as it is now; undefined if it is gone or being given back
	 */
	async withdrawn(scope: string): Promise<Entry<NetworkRecord> | undefined> {
		for (;;) {
			this.forget(scope);
			const entry = await this.#read(scope);
			if (!entry || entry.value.retiring) return undefined;
			const withdrawn = (entry.value.withdrawn ?? 0) + 1;
			const now = await this.#update(entry, { ...entry.value, withdrawn });
			if (now) return now;
		}
	}

	/**
	 * A network that something is to join: one that is being given back is waited for.
	 * @param entry as it was found @returns undefined if it is gone by then
	 */
	async joinable(
		entry: Entry<NetworkRecord>,
	): Promise<Entry<NetworkRecord> | undefined> {
		const { scope } = entry.value;
		let now: Entry<NetworkRecord> | undefined = entry;
		while (now?.value.retiring) {
			await this.#waitForRetirement(scope);
			now = await this.get(scope);
		}
		return now;
	}

	/** Forgets a network, because what is known of it was seen to be wrong. */
	forget(scope: string): void {
		this.#known.delete(scope);
	}

	/**
	 * The network of that scope, granting it a subnet if it has none yet.
	 * @param wanted the record to make
	 * @throws HttpError 409 if the scope is another deployment's or the subnet is taken, 503 if the pool is exhausted
	 */
	async ensure(
		wanted: WantedNetwork,
		granting: Granting,
	): Promise<Entry<NetworkRecord>> {
		let avoided: Promise<string[]> | undefined;
		const avoid = () => {
			avoided ??= granting.avoid?.() ?? Promise.resolve([]);
			return avoided;
		};
		for (;;) {
			const known = await this.get(wanted.scope);
			const existing = known && (await this.joinable(known));
			if (existing) {
				const entry = same(existing, wanted);
				if (!granting.found) return entry;
				await granting.found(entry.value);
				const updated = await this.#madeAnew(entry, wanted);
				if (updated) return updated;
				this.forget(wanted.scope); // it has changed meanwhile
				continue;
			}
			try {
				return await this.#grant(wanted, { ...granting, avoid });
			} catch (error) {
				if (!(error instanceof Conflict)) throw error;
				this.forget(wanted.scope); // another was faster: look again
			}
		}
	}

	/**
	 * A network that its user makes anew while containers still hold addresses in it: what he asks for now is what hosts get that it is still to
	 * come to.
	 * @returns undefined if it has changed meanwhile
	 */
	async #madeAnew(
		entry: Entry<NetworkRecord>,
		wanted: WantedNetwork,
	): Promise<Entry<NetworkRecord> | undefined> {
		const { body: _, fitted: __, ...rest } = entry.value;
		const value: NetworkRecord = {
			...rest,
			...(wanted.body ? { body: wanted.body } : {}),
			...(wanted.fitted ? { fitted: true } : {}),
		};
		if (isDeepStrictEqual(value, entry.value)) return entry;
		return this.#update(entry, value);
	}

	/**
	 * Gives a network back if no container holds a lease in it.
	 * @param removeFromDocker called when it is certain that none will be added
	 * @param vni of the one that is meant, where another may have been granted since it was looked at
	 * @returns whether it is gone
	 */
	async retire(
		scope: string,
		removeFromDocker: (network: NetworkRecord) => Promise<void>,
		vni?: number,
	): Promise<boolean> {
		this.forget(scope);
		let entry = await this.#read(scope);
		if (!entry) return true;
		if (vni !== undefined && entry.value.vni !== vni) return true;
		if (!entry.value.retiring) {
			if ((await this.#containers(scope)).length > 0) return false;
			// From the mark on every new lease fails its check; what got in before is seen by the second look.
			const marked = await this.#update(entry, {
				...entry.value,
				retiring: true,
			});
			if (!marked) return false;
			entry = marked;
		}
		const { retiring: _, ...record } = entry.value;
		try {
			if ((await this.#containers(scope)).length > 0) {
				await this.#update(entry, record);
				return false;
			}
			await removeFromDocker(record);
		} catch (error) {
			await this.#update(entry, record);
			throw error;
		}
		const keys = [
			...(await this.#store.keys(`${LEASES}${scope}/`)),
			...(await this.#store.keys(`${GATEWAYS}${scope}/`)),
			...(await this.ids.list(scope)).map(({ key }) => key),
		];
		const deletions = keys.map((key): Operation => ({ verb: "delete", key }));
		try {
			const rest = await commitOverflow(this.#store, deletions, [
				unchanged(entry),
			]);
			await this.#store.commit([
				// to Consul, deleting what is gone already is success, and its subnet may be another's by now: writing it is not
				{
					verb: "update",
					key: entry.key,
					value: entry.value,
					index: entry.index,
				},
				{ verb: "delete", key: entry.key },
				{ verb: "delete", key: subnetKey(record.subnet) },
				...rest,
			]);
		} catch (error) {
			if (!(error instanceof Conflict)) throw error;
			return false;
		} finally {
			this.forget(scope);
		}
		await this.#unmark(record.deployment).catch(() => {}); // else the leader will
		return true;
	}

	async #unmark(deployment: string): Promise<void> {
		const deletion = await unmark(deployment, this.#store);
		if (deletion) await this.#store.commit([deletion]);
	}

	/** Someone is giving the network back. Who takes longer than this has died over it: go on in his place. */
	async #waitForRetirement(scope: string): Promise<void> {
		for (let i = 0; i < 20; i++) {
			this.forget(scope);
			if (!(await this.get(scope))?.value.retiring) return;
			await setTimeout(100);
		}
		await this.retire(scope, async () => {});
	}

	async #containers(scope: string): Promise<Entry<Lease>[]> {
		const leases = await this.#store.list<Lease>(`${LEASES}${scope}/`);
		return leases.filter((lease) => lease.value.container);
	}

	async #read(scope: string): Promise<Entry<NetworkRecord> | undefined> {
		const entry = await this.#store.get<NetworkRecord>(NETWORKS + scope);
		if (entry) this.#known.set(scope, entry);
		return entry;
	}

	async #update(
		entry: Entry<NetworkRecord>,
		value: NetworkRecord,
	): Promise<Entry<NetworkRecord> | undefined> {
		const { key, index } = entry;
		const writing = this.#store.commit([{ verb: "update", key, value, index }]);
		if (!(await ignoreConflict(writing))) return undefined;
		this.forget(entry.value.scope);
		return this.#read(entry.value.scope);
	}

	/** @throws HttpError 409 if DNS would answer for the network's names with what somebody else has registered */
	async #mustBeNoService({ scope, name }: WantedNetwork): Promise<void> {
		if (!(await isForeignService(this.#store, scope))) return;
		throw new HttpError(
			409,
			`dhcp: Consul has a service ${scope}, which is none of arpanet's: ${scope}.service.consul cannot be network ${name}, too; choose another deployment id or name of the network`,
		);
	}

	/** A network whose record alone was lost keeps the subnet and the bridge that it has. */
	async #grant(
		wanted: WantedNetwork,
		{
			pool,
			reserved,
			size,
			avoid,
		}: Granting & Required<Pick<Granting, "avoid">>,
	): Promise<Entry<NetworkRecord>> {
		const { scope } = wanted;
		const serial = await this.#store.get<number>(SERIAL);
		const granted = await this.#store.list<string>(SUBNETS);
		// the serial may have been lost or be of an old backup
		const known = (await this.list()).map(({ value }) => value);
		mustBeNew(wanted, known);
		const last = known.map(({ vni }) => vni);
		const own = granted.filter(({ value }) => value === scope);
		if (own.length === 0 && !wanted.restored)
			await this.#mustBeNoService(wanted);
		const used = granted
			.filter(({ value }) => value !== scope)
			.map(({ key }) => subnetOf(key));
		const subnet = wanted.subnet
			? claim(wanted.subnet, used)
			: own[0]
				? subnetOf(own[0].key)
				: choose(size, pool, [...used, ...reserved, ...(await avoid())]);
		const { gateway, restored, ...rest } = wanted;
		const vni = Math.max(serial?.value ?? 0, ...last) + 1;
		const asked = wanted.subnet && !restored ? { asked: true as const } : {};
		const record: NetworkRecord = { ...rest, ...asked, subnet, vni };
		const grant = subnetKey(subnet);
		await this.#store.commit([
			replacing(SERIAL, serial, vni),
			replacing(
				grant,
				own.find(({ key }) => key === grant),
				scope,
			),
			{ verb: "create", key: NETWORKS + scope, value: record },
			...(await this.bridges.first(record, gateway)),
		]);
		const entry = await this.#read(wanted.scope);
		if (!entry)
			throw new HttpError(
				503,
				`dhcp: network ${wanted.scope} went while it was made; try again`,
			);
		return entry;
	}
}

/** @throws HttpError 409 for a network of another deployment, or another one of the same whose name in DNS would be the same */
function same(
	entry: Entry<NetworkRecord>,
	{ deployment, name, implicit }: WantedNetwork,
): Entry<NetworkRecord> {
	const { value } = entry;
	// a container that asks for none takes what there is, but none that is for all
	const sameName = value.name === name || (implicit && !value.shared);
	if (value.deployment === deployment && sameName) return entry;
	const remedy =
		value.deployment === deployment && !implicit
			? `rename network ${name}`
			: "choose another deployment id";
	throw new HttpError(
		409,
		`dhcp: the name ${value.scope} belongs to network ${value.name} of deployment ${value.deployment}; ${remedy}`,
	);
}

/** A name is one network's in the whole cluster, as in one engine. @throws HttpError 409 */
function mustBeNew(
	{ name, scope }: WantedNetwork,
	known: readonly NetworkRecord[],
): void {
	const other = known.find((each) => each.name === name);
	if (!other || other.scope === scope) return;
	throw new HttpError(
		409,
		`network with name ${name} already exists: it is of deployment ${other.deployment}; remove it (docker network rm ${name}) and the containers that have an address in it, or choose another deployment id or name of the network`,
	);
}

/** `10.32.1.0/24` is kept under `arpanet/subnets/10.32.1.0-24`: a key's slash makes a folder. */
export function subnetKey(subnet: string): string {
	return SUBNETS + subnet.replace("/", "-");
}

function subnetOf(key: string): string {
	return key.slice(SUBNETS.length).replace("-", "/");
}

/** `abc` for the default network of deployment abc, `abc-back` for its network back: a DNS label in any case. */
export function scopeOf(deployment: string, network: string): string {
	if (network === "default") return deployment;
	const label = network.toLowerCase().replaceAll(/[^a-z0-9-]/g, "-");
	const scope = `${deployment}-${label}`.replace(/-+$/, "");
	if (scope.length <= MAX_LABEL) return scope;
	const hash = createHash("sha256").update(scope).digest("hex").slice(0, 8);
	return `${scope.slice(0, MAX_LABEL - hash.length - 1)}-${hash}`;
}
