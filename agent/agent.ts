import { setMaxListeners } from "node:events";
import { isUnheard } from "../pipeline/answers.ts";
import { asTold, type EngineEvent } from "../pipeline/docker.ts";
import { messageOf } from "../pipeline/errors.ts";
import { readLabels } from "../pipeline/facts.ts";
import type { ContainerLifecycle } from "../pipeline/lifecycle/container.ts";
import { contextOf } from "../pipeline/lifecycle/holder.ts";
import type { NetworkLifecycle } from "../pipeline/lifecycle/network.ts";
import type { Reconcile } from "../pipeline/lifecycle/reconcile.ts";
import { SupersededCopies } from "../pipeline/lifecycle/superseded.ts";
import { inParallel } from "../pipeline/parallel.ts";
import type { Services } from "../pipeline/plugin.ts";
import { EXPOSED } from "../pipeline/state/exposed.ts";
import { GUESTS } from "../pipeline/state/guests.ts";
import type { FencedStore } from "../pipeline/state/leader.ts";
import { GATEWAYS } from "../pipeline/state/leases.ts";
import { isSuperseded, SUPERSEDED } from "../pipeline/state/moves.ts";
import { NETWORKS } from "../pipeline/state/networks.ts";
import { Alarm } from "./alarm.ts";
import { announce } from "./announce.ts";
import { guard } from "./guard.ts";
import { type LeaderParts, leaderDuties } from "./leader/leader.ts";
import { Leadership } from "./leader/leadership.ts";
import { overlay, type Underlay } from "./overlay.ts";
import { pause, repeat } from "./repeat.ts";
import { tell } from "./tell.ts";

/** A lease whose container is gone goes back within a minute: two looks must fit in. */
const SWEEP_MS = 10_000;
/** How soon to look again after Consul or the engine did not answer. */
const RETRY_MS = 1_000;
/** How soon it is noticed that a look is due. */
const TICK_MS = 200;
/** Containers whose state is told at once, when that of all is: an engine and Consul have others to answer. */
const AT_ONCE = 16;
/** How long a new container is left alone before its record is looked at. */
const ADOPT_MS = 500;

/** Events of a container that starts are gathered for this long and handled once; mostly a hook has done it all. */
const GATHER_MS = 100;

/** How long an engine is given to start what it has connected. */
const CONNECT_MS = 2_000;

/** Changes after which a container may not answer any more. */
const STATE = /^(die|pause|unpause|oom|health_status|update)/;

/** What the overlay and the firewall follow. */
const WATCHED = [NETWORKS, GATEWAYS, EXPOSED, GUESTS];

/** What an agent works with. */
interface AgentParts {
	services: Services;
	containers: ContainerLifecycle;
	networks: NetworkLifecycle;
	reconcile: Reconcile;
	/** The same over the store that is written to while this agent leads. */
	leader: LeaderParts & { store: FencedStore };
	/** What carries containers' packets to other hosts. */
	underlay: Underlay;
}

/**
 * What must happen on each host without anybody asking: the engine's events reach Consul (crash,
 * restart policy, `--rm`, health), and now and then all that lives here is compared with
 * what is on record. Both only say again what hooks have said, or would have.
 */
export class Agent {
	readonly #parts: AgentParts;
	readonly #services: Services;
	readonly #abort = new AbortController();
	/** Work under way for each container or network: one thing after the other. */
	readonly #queues = new Map<string, Promise<void>>();
	/** Containers that will be looked at in a moment. */
	readonly #gathering = new Set<string>();
	/** Those that were connected to a network and have not been started since. */
	readonly #connected = new Set<string>();
	#running: Promise<unknown> | undefined;
	#watches: (() => void)[] = [];
	/** The next look is due at once, and tells the state of every container. */
	#mustLook = true;
	/** The next look is due at once. */
	#isDue = false;
	/** Containers with which something has failed: the next look tells their state again, and of none but them. */
	#failed = new Set<string>();
	readonly #superseded: SupersededCopies;
	/** Networks, or who is in them, have changed. */
	readonly #alarms = { overlay: new Alarm(), guard: new Alarm() };
	/** What the other hosts know only from here has changed. */
	readonly #told = { names: new Alarm(), images: new Alarm() };

	constructor(parts: AgentParts) {
		this.#parts = parts;
		this.#services = parts.services;
		this.#superseded = new SupersededCopies(parts.services);
	}

	/** Begins to watch; returns at once and goes on until `stop`. */
	start(): void {
		const { signal } = this.#abort;
		setMaxListeners(0, signal); // each container that is looked at in a moment waits on it
		this.#watches = WATCHED.map((prefix) =>
			this.#services.store.watch(prefix, () => this.#ring()),
		);
		const own = `${SUPERSEDED}${this.#services.host.name}/`;
		this.#watches.push(
			this.#services.store.watch(SUPERSEDED, (copies) => {
				this.#ring();
				// this host was taken for lost
				if (copies.some(({ key }) => key.startsWith(own)))
					this.#mustLook = true;
			}),
		);
		this.#running = this.#run(signal);
	}

	async #run(signal: AbortSignal): Promise<void> {
		let heard = () => {};
		const isHeard = new Promise<void>((resolve) => {
			heard = resolve;
		});
		const announcing = announce(this.#services, signal, heard);
		// until then another host may have this one's name, and all that stands under it
		await Promise.race([isHeard, announcing]);
		await Promise.all([
			announcing,
			this.#watch(),
			this.#sweep(),
			overlay(
				this.#services,
				this.#parts.underlay,
				this.#alarms.overlay,
				signal,
			),
			guard(this.#services, this.#alarms.guard, signal),
			tell(this.#services, this.#told, signal),
			this.#lead(signal),
		]);
	}

	async stop(): Promise<void> {
		this.#abort.abort();
		for (const stop of this.#watches) stop();
		await this.#running;
		await Promise.all(this.#queues.values());
	}

	/** One agent of the cluster leads: it alone does what no host can do by itself. */
	#lead(signal: AbortSignal): Promise<void> {
		const { leader } = this.#parts;
		const { store, host, log } = this.#services;
		const leadership = new Leadership(store, leader.store, host.name, log);
		return leadership.run(signal, leaderDuties(leader));
	}

	#ring(): void {
		for (const alarm of Object.values(this.#alarms)) alarm.ring();
	}

	async #watch(): Promise<void> {
		const { log } = this.#services;
		const { signal } = this.#abort;
		let complained = false;
		while (!signal.aborted) {
			try {
				const events = this.#services.engine.events(signal, () => {
					complained = false;
					this.#mustLook = true; // what happened before nobody told us
					for (const alarm of Object.values(this.#told)) alarm.ring();
					log.info({ engine: this.#services.engine.url }, "watching events");
				});
				for await (const event of events) this.#handle(event);
			} catch (error) {
				if (signal.aborted) return;
				if (!complained)
					log.warn({ err: messageOf(error) }, "engine's events ended");
				complained = true;
			}
			await pause(RETRY_MS, signal);
		}
	}

	#sweep(): Promise<void> {
		const { signal } = this.#abort;
		const work = async () => {
			const all = this.#mustLook;
			const failed = this.#failed;
			this.#mustLook = false;
			this.#isDue = false;
			this.#failed = new Set();
			try {
				await this.#look(all, failed);
			} catch (error) {
				this.#mustLook = true; // who was away may have missed something
				throw error;
			}
		};
		const rest = async () => {
			await pause(RETRY_MS, signal);
			const next = performance.now() + SWEEP_MS - RETRY_MS;
			const isDue = () =>
				this.#mustLook || this.#isDue || performance.now() >= next;
			while (!isDue() && !signal.aborted) await pause(TICK_MS, signal);
		};
		return repeat(work, {
			signal,
			log: this.#services.log,
			failure: "sweep failed; trying again",
			rest,
		});
	}

	/**
	 * @param all also tell the plugins the state of every container, as after a time in which we saw nothing
	 * @param failed those whose state they are told in any case
	 */
	async #look(all: boolean, failed: ReadonlySet<string>): Promise<void> {
		const { engine } = this.#services;
		if (all) {
			await this.#superseded.mark(await engine.listContainers("arpanet.host"));
		}
		await this.#superseded.settle(); // before any of them is registered
		const listed = await engine.listContainers("arpanet.host");
		const containers = listed.filter(({ Names }) => !Names.some(isSuperseded));
		const told = containers.filter(({ Id }) => all || failed.has(Id));
		await inParallel(told, AT_ONCE, async ({ Id }) => {
			const observing = () => this.#parts.containers.observe(Id);
			// what has failed before may do so for ever, as a container without its layers: it can wait
			await this.#queue(Id, observing, !failed.has(Id));
		});
		await this.#parts.reconcile.sweep(containers);
	}

	#handle(event: EngineEvent): void {
		const { Type, Action, Actor } = event;
		const attributes = Actor.Attributes;
		if (Type === "image") {
			this.#told.images.ring();
			return;
		}
		if (Type === "network") {
			const container = attributes.container ?? "";
			if (/^(create|destroy)$/.test(Action)) this.#ring();
			if (Action === "destroy") {
				void this.#queue(Actor.ID, () =>
					this.#parts.networks.removed(attributes.name ?? "", Actor.ID),
				);
			} else if (Action === "connect" && container) {
				void this.#observeUnlessStarted(container);
			} else if (Action === "disconnect" && container) {
				this.#observeSoon(container);
			}
			return;
		}
		if (!attributes["arpanet.host"]) {
			// none of ours, but its name is taken
			if (/^(create|rename|destroy)$/.test(Action)) this.#told.names.ring();
			return;
		}
		if (Action === "create") {
			void this.#adopt(Actor.ID);
			return;
		}
		if (/^(re)?start$/.test(Action)) {
			void this.#queue(Actor.ID, async () => {
				await this.#superseded.started(Actor.ID, attributes.name ?? "");
			});
			this.#observeSoon(Actor.ID);
			return;
		}
		void this.#queue(Actor.ID, async () => {
			if (Action === "destroy") {
				const facts = readLabels(attributes);
				await this.#parts.containers.removed(
					attributes.name ?? "",
					facts,
					Actor.ID,
				);
			} else if (Action === "rename") {
				await this.#parts.containers.renamed(Actor.ID);
				await this.#parts.containers.observe(Actor.ID);
			} else if (STATE.test(Action)) {
				await this.#observe(event);
			}
		});
	}

	/** An engine that is stopped answers nobody any more while it ends its containers: then the event must do. */
	async #observe(event: EngineEvent): Promise<void> {
		const { containers } = this.#parts;
		try {
			await containers.observe(event.Actor.ID);
		} catch (error) {
			if (event.Action !== "die" || !isUnheard(error)) throw error;
			await containers.ended(asTold(event));
		}
	}

	/**
	 * An engine connects what it starts, and tells of the start when that is done: then one look is enough. Of connects that clients ask for
	 * the post-hooks have told.
	 */
	async #observeUnlessStarted(id: string): Promise<void> {
		if (this.#connected.has(id)) return;
		this.#connected.add(id);
		await pause(CONNECT_MS, this.#abort.signal);
		if (this.#connected.has(id)) this.#observeSoon(id);
	}

	#observeSoon(id: string): void {
		this.#connected.delete(id);
		if (this.#gathering.has(id)) return;
		this.#gathering.add(id);
		void this.#queue(id, async () => {
			await pause(GATHER_MS, this.#abort.signal);
			this.#gathering.delete(id);
			await this.#parts.containers.observe(id);
		});
	}

	/** Completes a new container's record, such as its name; later, since nobody waits for it and its client wants the CPU. */
	async #adopt(id: string): Promise<void> {
		await pause(ADOPT_MS, this.#abort.signal);
		if (this.#abort.signal.aborted) return; // the next agent looks at all
		await this.#queue(id, async () => {
			const context = await contextOf(id, this.#services);
			if (context) await this.#parts.reconcile.adopt(context.container);
			else this.#told.names.ring(); // its image alone called it ours
		});
	}

	/**
	 * Runs work after what is under way for the same key. What fails is put right by the next look.
	 * @param soon that look is due at once
	 */
	#queue(key: string, work: () => Promise<void>, soon = true): Promise<void> {
		const run = async () => {
			try {
				await work();
			} catch (error) {
				this.#failed.add(key);
				if (soon) this.#isDue = true;
				this.#services.log.warn(
					{ key, err: messageOf(error) },
					"a container or network was not handled; looking at it again",
				);
			}
		};
		const done = (this.#queues.get(key) ?? Promise.resolve()).then(run);
		this.#queues.set(key, done);
		void done.finally(() => {
			if (this.#queues.get(key) === done) this.#queues.delete(key);
		});
		return done;
	}
}
