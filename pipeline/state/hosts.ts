import { HttpError } from "../errors.ts";
import type { Entry, Store } from "./store.ts";
import { View } from "./view.ts";

const PREFIX = "arpanet/hosts/";

/** A host whose arpanet was stopped is waited for so long: it may only be started again. */
const RETURN_MS = 8_000;

/** A host of the cluster, under `arpanet/hosts/<name>/record`: stays when the host is lost. */
export interface HostRecord {
	/** `node1`: a DNS label, one of a kind in the cluster. */
	name: string;
	/** IPv4 address at which the other hosts, and containers, reach it. */
	address: string;
	/** Where the other hosts reach its engine: `tcp://10.0.0.1:2377`; none for a host that only drives itself. */
	engine?: string;
	cpus: number;
	/** Bytes. */
	memory: number;
	/** Bytes that a packet between a container here and one on another host may have; more goes in pieces. */
	mtu?: number;
	/** Public key of its WireGuard, if it encrypts what it sends to others. */
	wireguard?: string;
	/** What constraints go by: `{disk: "ssd"}`. */
	labels?: Record<string, string>;
	/** No new containers, on request. */
	drained?: boolean;
	/** Gone for good, on request: the leader gives back what is left of it, this record last. */
	removed?: true;
}

/** The last sign of life of a host, under `arpanet/beats/<name>`: written every few seconds, goes with its session. */
export interface Beat {
	/** Unlike the one before, so that it is seen to be written. */
	at: string;
}

/** Where hosts give signs of life: apart from what others watch, who would else be woken by each. */
export const BEATS = "arpanet/beats/";

/** What a host says of itself while it lives, under `arpanet/hosts/<name>/alive`; goes with its session. */
export interface HostState {
	/** Busy share of its processors, 0 to 1. */
	load: number;
	/** Share of its memory that is in use. */
	memory?: number;
	/** Share of what its network can carry. */
	network?: number;
	/** Tells two hosts of one name from one that was started again. */
	address: string;
	/** Its Docker is not there, or hangs: nothing can be made on it. */
	engineless?: true;
	/** Its arpanet was told to stop, perhaps to start again at once: it gets nothing new, and is waited for. */
	stopping?: true;
}

/** A host and whether it lives. */
export interface KnownHost extends HostRecord {
	/** Undefined for a host that is lost. */
	state: HostState | undefined;
	/** Consul's ModifyIndex of its record; undefined while nobody has announced it. */
	modifyIndex?: number;
}

/** Keys of a host. */
export function hostKeys(name: string): {
	record: string;
	alive: string;
	beat: string;
} {
	return {
		record: `${PREFIX}${name}/record`,
		alive: `${PREFIX}${name}/alive`,
		beat: BEATS + name,
	};
}

/** Whether a key is that of a host's record. */
export function isHostRecord(key: string): boolean {
	return key.startsWith(PREFIX) && key.endsWith("/record");
}

/** What to do where a host has the address of another. @param other its name */
export function remedyOfTwins(other: string): string {
	return `set arpanet.host.address on one of them; if ${other} was this host's name, set arpanet.host.name back to it; if it is gone for good: arpanet host rm ${other}`;
}

/** The hosts of the cluster, as a view that Consul keeps fresh. */
export class Hosts {
	readonly #self: HostRecord;
	readonly #view: View<unknown, ReadonlyMap<string, KnownHost>>;
	/** Since when, by a monotonic clock, hosts have been seen to stop. */
	readonly #stopping = new Map<string, number>();

	/** @param self this host, known before any agent has announced it */
	constructor(store: Store, self: HostRecord) {
		this.#self = self;
		this.#view = new View(store, PREFIX, (entries) => {
			const known = gather(entries);
			this.#seeStopping(known);
			return known;
		});
	}

	/** Begins to follow what Consul says. */
	follow(): void {
		this.#view.follow();
	}

	/** All hosts, lost ones too, by name. */
	async list(): Promise<KnownHost[]> {
		return [...(await this.#view.get()).values()];
	}

	/** Whether a host's arpanet was told to stop a moment ago: if it refuses connections, it may take them again at once. */
	isStopping(name: string): boolean {
		const since = this.#stopping.get(name);
		return since !== undefined && performance.now() - since < RETURN_MS;
	}

	/** How many hosts are known so far; 0 before anything was read. */
	get count(): number {
		return this.#view.known?.size ?? 0;
	}

	/**
	 * Whether Consul has told of no host yet, though `host.engine` says that there are others: it was not read, has lost everything, or leaves
	 * out what the token may not read.
	 */
	get isUntold(): boolean {
		return this.count === 0 && this.#self.engine !== undefined;
	}

	/** The smallest MTU of all hosts, in bytes: such a packet gets from any to any other; undefined while no host says. */
	get mtu(): number | undefined {
		const known = [...(this.#view.known?.values() ?? [])].map(({ mtu }) => mtu);
		const said = known.filter((mtu) => mtu !== undefined);
		return said.length > 0 ? Math.min(...said) : undefined;
	}

	/** Reads the hosts now: a view may be a moment behind what an operator has just said. */
	async refresh(): Promise<void> {
		await this.#view.refresh();
	}

	/** @throws HttpError 502 for a host that nobody has announced */
	async get(name: string): Promise<KnownHost> {
		if (name === this.#self.name) {
			const state = { load: 0, address: this.#self.address };
			return { ...this.#self, state, ...this.#announced(name) };
		}
		const known = await this.#view.get();
		const host = known.get(name);
		if (host) return host;
		// under a stock powerstrip no agent need announce anybody: then the adapter's URL says who this is
		if (known.size === 0)
			return {
				...this.#self,
				name,
				state: { load: 0, address: this.#self.address },
			};
		throw new HttpError(
			502,
			`host ${name} is not known; start arpanet there, or look at arpanet hosts`,
		);
	}

	/** What only its record in Consul says of this host. */
	#announced(name: string): Partial<KnownHost> {
		const { drained, state, labels, modifyIndex } =
			this.#view.known?.get(name) ?? {};
		return {
			...(labels && { labels }),
			...(drained && { drained }),
			...(state && { state }),
			...(modifyIndex !== undefined && { modifyIndex }),
		};
	}

	/** Ends the watch. */
	close(): void {
		this.#view.close();
	}

	#seeStopping(known: ReadonlyMap<string, KnownHost>): void {
		for (const { name, state } of known.values()) {
			if (!state?.stopping) this.#stopping.delete(name);
			else if (!this.#stopping.has(name)) {
				this.#stopping.set(name, performance.now());
			}
		}
	}
}

function gather(entries: Entry<unknown>[]): Map<string, KnownHost> {
	const values = new Map(entries.map(({ key, value }) => [key, value]));
	const known = new Map<string, KnownHost>();
	for (const { key, value, index } of entries) {
		if (!key.endsWith("/record")) continue;
		const record = value as HostRecord;
		const state = values.get(hostKeys(record.name).alive) as
			| HostState
			| undefined;
		known.set(record.name, { ...record, state, modifyIndex: index });
	}
	return known;
}
