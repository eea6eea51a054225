import type { JSONSchemaType } from "ajv";
import type { Logger } from "pino";
import type { Cluster } from "./cluster.ts";
import type {
	ContainerCreate,
	ContainerInspect,
	ContainerSummary,
	NetworkConnect,
	NetworkCreate,
	VolumeCreate,
} from "./docker.ts";
import type { Engine } from "./engine.ts";
import type { Locator } from "./locator.ts";
import type { HookHeaders } from "./protocol.ts";
import type { ContainerRecord, Containers } from "./state/containers.ts";
import type { HostRecord, KnownHost } from "./state/hosts.ts";
import type { NetworkRecord, Networks } from "./state/networks.ts";
import type { Operation } from "./state/operations.ts";
import type { Slots } from "./state/slots.ts";
import type { Entry, Store } from "./state/store.ts";
import type { Use } from "./state/use.ts";
import type { Volumes } from "./state/volumes.ts";

/**
 * What the plugins know of a container. A plugin adds its own to this interface
 *
 *     declare module "arpanet2" { interface Facts { colour?: string } }
 *
 * sets it in `create`, and finds it again in every later hook: facts are kept as labels
 * (`arpanet.colour`) on the container and in Consul, never in memory. Let them be text: every one but `index` and `slot` comes
 * back from its label as a string.
 */
export interface Facts {
	/** Id of the deployment: `abc`. */
	deployment?: string;
	/** Service of which the container is a copy; none for a one-off (`docker-compose run`). */
	service?: string;
	/** Set where the service is the container's own name, for want of another: in DNS it is what the container is called now. */
	serviceFrom?: "name";
	/** The client's number of the copy, from 1; `copy` in Consul counts the copies on one host, `slot` all containers of one. */
	index?: number;
	/**
	 * Set where others of the service may have the same number: it is but the end of the container's name, or Compose's for what is
	 * another deployment or service there.
	 */
	indexFrom?: "name" | "compose";
	/** Host whose engine runs the container; routing goes by it. */
	host?: string;
	/** Its place there: no two containers of a host have the same. */
	slot?: number;
	/** Scope of the network that `address` is leased in; see NetworkRecord. */
	network?: string;
	/** Tells it from another container that had its name and address before. */
	made?: string;
	/** Leased IPv4 address. */
	address?: string;
	/** Further names in DNS that it asked for when it was made, as links writes them: `cache:redis,pantry:db:10.32.1.7`. */
	aliases?: string;
	/** When its host is lost it is started elsewhere; none without. */
	reschedule?: "on-host-failure";
}

/** What a plugin is given at setup: the outside world. */
export interface Services {
	store: Store;
	networks: Networks;
	containers: Containers;
	/** Which containers are on which hosts. */
	slots: Slots;
	/** Which local volume is on which host. */
	volumes: Volumes;
	/** All hosts and their engines. */
	cluster: Cluster;
	/** Where containers are. */
	locator: Locator;
	/** The engine of this host. */
	engine: Engine;
	/** This host, as powerstrip.yml or the machine names it. */
	host: HostRecord;
	log: Logger;
}

/** A hook that may write to Consul: all that is handed in is written together, or not at all. */
interface Committing {
	/** One more operation for the commit. */
	commit(operation: Operation): void;
	/**
	 * Creates a key that belongs to the container from now on and is deleted with it; what an earlier create of the same
	 * name left under it is written over. In `adopt` the commit fails if the key is there.
	 * @param known in `adopt`: what was read under the key, if anything; it must be this container's, and is replaced
	 */
	hold(key: string, value: unknown, known?: { index: number }): void;
}

/** A network of the deployment that the container joins, and its address there. */
export interface Attachment {
	network: Entry<NetworkRecord>;
	address: string;
}

export interface CreateContext extends Committing {
	/** Name that the client asked for; Docker makes one up if there is none. */
	name: string | undefined;
	/** The create body, to be amended in place. */
	body: ContainerCreate;
	facts: Facts;
	/** Set by placement: each host, and why it is not possible or how good it is. */
	verdicts: Verdict[];
	/**
	 * Says why this plugin decided as it did, for whoever asks later (`arpanet explain`): it goes on record with the
	 * container. What is said last counts.
	 */
	explain(plugin: string, why: string): void;
	/** Set by dhcp; the container's own network stands first. */
	networks: Attachment[];
	headers: HookHeaders;
	/** Host named in the adapter's URL: under a stock powerstrip the only one that can be chosen. */
	onlyHost: string | undefined;
	/** Name under which the container goes on record. */
	recordName: string;
	/** What an earlier create of the same name, of which no container came, left on record. */
	previous: ContainerRecord | undefined;
	/** The record of the container that this one replaces, where both want the same: what it holds can be held. */
	replaced: ContainerRecord | undefined;
	/** The lost host whose copy this one stands in for: it has `previous`, all of which this one may hold. */
	lostHost?: string;
	/** Operations of earlier tries that failed because another was faster: do not try them again. */
	conflicts: readonly Operation[];
}

export interface CreatedContext {
	id: string;
	/** Name asked for, if any. */
	name: string | undefined;
	facts: Facts;
}

/** A container as the engine shows it now. */
export interface ContainerContext {
	container: ContainerInspect;
	facts: Facts;
	/**
	 * In `started` alone, what Docker has just answered: a start; or a stop, restart or pause, so that what the container is now it
	 * remains. Nothing where an event told, or a look.
	 */
	after?: "start" | "stop";
}

export interface StopContext extends ContainerContext {
	/** Seconds for which the container may still run although it is about to stop. */
	grace: number;
}

export interface AdoptContext extends ContainerContext, Committing {
	/** Name under which the container goes on record. */
	recordName: string;
}

export interface RemovedContext {
	/** Full id, where it is known: a create that failed has none. */
	id: string | undefined;
	facts: Facts;
	/** Keys that go with it; none of a create that was never committed. */
	holds: readonly string[];
}

export interface NetworkCreateContext {
	body: NetworkCreate;
	/** Deployment and Compose's name of the network, and whether others may join it; deployment-id sets them. */
	facts: { deployment?: string; composeNetwork?: string; shared?: true };
	headers: HookHeaders;
}

export interface NetworkContext {
	network: NetworkRecord;
}

export interface VolumeCreateContext {
	readonly body: VolumeCreate;
}

export interface VolumeRemovedContext {
	name: string;
}

/** Of a container that is none of arpanet's, which has an address leased all the same, `facts` has the host alone. */
export interface ConnectContext extends ContainerContext, Committing {
	network: Entry<NetworkRecord>;
	body: NetworkConnect;
	/** Name under which the container is on record; of one that is none of arpanet's its own. */
	recordName: string;
	/** Keys that the container holds already. */
	holds: readonly string[];
	/** The record of the container that this one replaces, where both want the same: what it holds can be held. */
	replaced: ContainerRecord | undefined;
	/** As in `create`. */
	conflicts: readonly Operation[];
}

type Result = void | Promise<void>;

/**
 * The moments at which a plugin is called. Tense carries timing: `create` asks before Docker
 * acts, `created` tells after. Acquiring hooks run in list order; releasing ones
 * (`stop`, `stopped`, `removed`, `networkRemoved`, `volumeRemoved`) and `sweep` in reverse, and go on past errors.
 * Every hook may be called again for the same thing and must then change nothing.
 */
export interface Hooks {
	/** Amend the body, set facts, acquire. A throw ends the create: `removed` runs for this plugin and those before it. */
	create?(context: CreateContext): Result;
	/** Docker created the container. Not told if the gateway died meanwhile: what matters is put right in `sweep`. */
	created?(context: CreatedContext): Result;
	/** A client asks Docker to start the container; not called before a restart, by whomever. */
	start?(context: ContainerContext): Result;
	/** The container runs (or its health changed while it runs). */
	started?(context: ContainerContext): Result;
	/** A client asks Docker to stop, restart or pause the container, to kill it for good, or to remove it while it runs. */
	stop?(context: StopContext): Result;
	/** The container exists and does not run, or is paused. */
	stopped?(context: ContainerContext): Result;
	/** The container is gone, or never came to be: give back. What is gone already is success. */
	removed?(context: RemovedContext): Result;
	/** A living container is not on record, or Consul has lost its lease or slot: write down again what it holds. */
	adopt?(context: AdoptContext): Result;
	/** Docker is about to be asked for a network; without `facts.deployment` it is none of ours. A throw refuses it. */
	networkCreate?(context: NetworkCreateContext): Result;
	/** Docker created the network. As with `created`, not certain to be told. */
	networkCreated?(context: NetworkContext): Result;
	/** Its home's Docker does not have the network any more: take down what was made for it. Stopped containers may hold leases in it, and it may be made anew. */
	networkRemoved?(context: NetworkContext): Result;
	/** A container is about to be connected to a further network of a deployment. */
	connect?(context: ConnectContext): Result;
	/** Docker is about to be asked for a volume; it may have it already. A throw refuses nothing. */
	volumeCreate?(context: VolumeCreateContext): Result;
	/** Docker has removed a volume. */
	volumeRemoved?(context: VolumeRemovedContext): Result;
	/** Called every now and then on each host with its containers, those that do not run as well: give back what belongs to none, put right what drifted. */
	sweep?(context: { containers: ContainerSummary[] }): Result;
	/**
	 * What this plugin has to say of where a container runs: nothing, or how it judges each host. Whatever must be
	 * asked of others is asked here, once for each choice; the judge itself answers from what it has.
	 */
	place?(
		context: CreateContext,
	): Judge | undefined | Promise<Judge | undefined>;
}

/** A host that a container could be placed on. */
export interface Candidate extends KnownHost {
	/** What the containers there take of it, without the one that this one replaces. */
	use: Use;
}

/** Filters hosts out with a reason, and scores those that are left. */
export interface Judge {
	/** Why the container cannot run on this host; undefined if it can. */
	filter?(host: Candidate): string | undefined;
	/** The lower, the better the host. One container more on a host is 1. */
	score?(host: Candidate): number;
}

/** What placement found of a host. */
export interface Verdict {
	host: string;
	/** Why the container cannot run there. */
	refused?: string;
	/** Of a host that is not refused: the lowest is chosen. */
	score?: number;
}

export interface Plugin<Config = unknown> {
	name: string;
	/** Plugins that must stand before this one in the list; checked at boot, never re-sorted. */
	after?: string[];
	/** JSON schema of the configuration. Defaults are applied; with `additionalProperties: false` unknown keys are refused. */
	schema?: JSONSchemaType<Config> | Record<string, unknown>;
	/**
	 * Called when arpanet starts, in an agent twice: what its leader's duties write goes another way.
	 * @param config what powerstrip.yml says, checked against `schema`
	 * @param services the outside world
	 * @param all all plugins in the list, complete once every setup has run
	 * @returns the hooks, and no promise of them: wait for what is not there yet when it is needed
	 */
	setup(config: Config, services: Services, all: readonly Loaded[]): Hooks;
}

/** A plugin that is set up. */
export interface Loaded {
	name: string;
	hooks: Hooks;
}

/** Gives a plugin its types; it is the same object that comes out. */
export function definePlugin<Config = Record<string, never>>(
	plugin: Plugin<Config>,
): Plugin<Config> {
	return plugin;
}
