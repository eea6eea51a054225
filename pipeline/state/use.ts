/** A container as placement counts it. */
export interface Placed {
	/** Name under which it is on record. */
	container: string;
	/** The name that it had before it was renamed. */
	was?: string;
	deployment?: string;
	service?: string;
	/** The client's number of the copy, which its successor has as well. */
	index?: number;
	/** Its number among the copies of the service on that host. */
	copy?: number;
	/** Processors that it reserves. */
	cpus?: number;
	/** Bytes that it reserves. */
	memory?: number;
	/** Volumes that it uses by their names. */
	volumes?: string[];
	/** Ports of the host that it asks for: `80/tcp`, or `10.0.0.1:80/tcp` on one address alone. */
	ports?: string[];
}

/** What the containers of one host take of it, stopped ones too. */
export class Use {
	readonly containers = new Set<Placed>();
	/** Sum of the processors reserved. */
	cpus = 0;
	/** Sum of the bytes reserved. */
	memory = 0;
	readonly #copies = new Map<string, Set<Placed>>();
	readonly #ports = new Map<string, Set<Placed>>();

	/** How many containers there are. */
	get count(): number {
		return this.containers.size;
	}

	/** How many copies of a service are there. */
	copies(deployment: string | undefined, service: string | undefined): number {
		return this.#copiesOf(deployment, service).size;
	}

	/** The lowest number that no copy of a service has there. */
	freeCopy({ deployment, service }: Placed): number {
		const taken = new Set<number | undefined>();
		for (const { copy } of this.#copiesOf(deployment, service)) taken.add(copy);
		let number = 1;
		while (taken.has(number)) number++;
		return number;
	}

	/** The containers that ask for a port (`80/tcp`), on whatever address. */
	askFor(port: string): ReadonlySet<Placed> {
		return this.#ports.get(port) ?? NOBODY;
	}

	add(placed: Placed): void {
		this.containers.add(placed);
		this.#count(placed, 1);
		const { deployment, service } = placed;
		if (service) addTo(this.#copies, `${deployment} ${service}`, placed);
		for (const port of placed.ports ?? []) {
			addTo(this.#ports, withoutAddress(port), placed);
		}
	}

	remove(placed: Placed): void {
		if (!this.containers.delete(placed)) return;
		this.#count(placed, -1);
		const { deployment, service } = placed;
		removeFrom(this.#copies, `${deployment} ${service}`, placed);
		for (const port of placed.ports ?? []) {
			removeFrom(this.#ports, withoutAddress(port), placed);
		}
	}

	/** The use of the host as if some of its containers were gone. */
	without(gone: ReadonlySet<Placed>): Use {
		const rest = new Use();
		for (const placed of this.containers) {
			if (!gone.has(placed)) rest.add(placed);
		}
		return rest;
	}

	#count({ cpus = 0, memory = 0 }: Placed, by: number): void {
		this.cpus += by * cpus;
		this.memory += by * memory;
	}

	#copiesOf(
		deployment: string | undefined,
		service: string | undefined,
	): ReadonlySet<Placed> {
		return this.#copies.get(`${deployment} ${service}`) ?? NOBODY;
	}
}

/** Adds a value to the set under a key. */
export function addTo<T>(
	sets: Map<string, Set<T>>,
	key: string,
	value: T,
): void {
	sets.set(key, (sets.get(key) ?? new Set()).add(value));
}

/** Takes a value from the set under a key, and the set with its last one. */
export function removeFrom<T>(
	sets: Map<string, Set<T>>,
	key: string,
	value: T,
): void {
	const set = sets.get(key);
	set?.delete(value);
	if (set?.size === 0) sets.delete(key);
}

const NOBODY: ReadonlySet<Placed> = new Set();

/** `80/tcp` of `10.0.0.1:80/tcp` */
export function withoutAddress(port: string): string {
	return port.slice(port.lastIndexOf(":") + 1);
}
