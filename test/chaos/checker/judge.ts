import type { Container, Network, Picture } from "./look.ts";

/** An invariant of the design, by its number, that does not hold, and what is wrong. */
export type Violation = string;

/** The deployment of creates that must be refused. */
export const REFUSED = "refused";

/**
 * What a picture shows to be wrong. Packets are not in a picture; see packets.ts.
 * @param hosts how many there are: every name must be right on all of them
 */
export function judge(picture: Picture): Violation[] {
	return [
		...addresses(picture),
		...subnets(picture),
		...bridges(picture),
		...records(picture),
		...unused(picture),
		...orphans(picture),
		...marks(picture),
		...registrations(picture),
		...strangers(picture),
		...doubles(picture),
		...refused(picture),
	];
}

/** 1: no two live containers hold the same address, and each has the one that it was given. */
function addresses({ containers }: Picture): Violation[] {
	const running = containers.filter((each) => each.running && each.address);
	return [
		...twice(
			running,
			({ deployment, address }) => `${deployment} ${address}`,
		).map(([key, names]) => `1: ${names} both have ${key}`),
		...running
			.filter(({ address, actual }) => !actual.includes(address))
			.map((each) => `1: ${each.name} has ${each.actual}, not ${each.address}`),
	];
}

/** 1: no two networks overlap, and a network is the same on every host. */
function subnets({ networks }: Picture): Violation[] {
	const found: Violation[] = [];
	for (const [i, a] of networks.entries()) {
		for (const b of networks.slice(i + 1)) {
			if (a.scope === b.scope && a.subnet !== b.subnet) {
				found.push(`1: ${a.scope} is ${a.subnet} and ${b.subnet}`);
			}
			if (a.scope !== b.scope && overlap(a.subnet, b.subnet)) {
				found.push(`1: ${a.scope} and ${b.scope} overlap`);
			}
		}
	}
	return found;
}

/** A lease as Consul has it. One that names no container is of its host's bridge. */
interface Lease {
	host?: string;
	container?: string;
}

/** The leases on record, each with its network and address. */
function leases({ keys }: Picture) {
	return [...keys]
		.filter(([key]) => key.startsWith("arpanet/leases/"))
		.map(([key, value]) => {
			const [, , scope = "", address = ""] = key.split("/");
			return { key, scope, address, ...(value as Lease | null) };
		});
}

/** The ids that clients know a network by: of however many hosts that have it, one is its home. */
export function homes(keys: Picture["keys"], scope: string): string[] {
	return [...keys].flatMap(([key, value]) => {
		if (!key.startsWith(`arpanet/network-ids/${scope}/`)) return [];
		const { id, home } = value as { id: string; home?: true };
		return home ? [id] : [];
	});
}

/**
 * 1, 2, 6: each host's bridge in a network has an address and an id of its own, as on record, and the lease of that address;
 * what is on record of a bridge has that bridge.
 */
function bridges(picture: Picture): Violation[] {
	const { networks, keys } = picture;
	const found = twice(networks, (each) => `${each.scope} ${each.gateway}`).map(
		([key, all]) => `1: the bridges of ${all} both have ${key}`,
	);
	for (const { scope, host, gateway, id } of networks) {
		const bridge = `the bridge of ${scope} on ${host}`;
		const known = keys.get(`arpanet/gateways/${scope}/${host}`);
		if (known !== gateway) {
			found.push(`2: ${bridge} is ${gateway}, on record is ${known}`);
		}
		const lease = keys.get(`arpanet/leases/${scope}/${gateway}`) as Lease;
		if (lease?.host !== host || lease.container) {
			const its = JSON.stringify(lease);
			found.push(`2: ${bridge} is ${gateway}, whose lease is ${its}`);
		}
		const named = keys.get(`arpanet/network-ids/${scope}/${host}`);
		if (idIn(named) !== id) {
			found.push(`6: ${bridge} is ${id}, on record is ${idIn(named)}`);
		}
	}
	for (const scope of new Set(networks.map((each) => each.scope))) {
		const { length } = homes(keys, scope);
		if (length !== 1) found.push(`6: ${scope} has ${length} ids for clients`);
	}
	const there = new Set(networks.map(({ scope, host }) => `${scope}/${host}`));
	for (const key of keys.keys()) {
		const [, bridge] =
			/^arpanet\/(?:gateways|network-ids)\/(.+)/.exec(key) ?? [];
		if (!bridge || there.has(bridge)) continue;
		found.push(`2: ${key} is of a bridge that is not there`);
	}
	for (const { key, scope, address, host, container } of leases(picture)) {
		if (container) continue;
		const has = (each: Network) =>
			each.scope === scope && each.host === host && each.gateway === address;
		if (networks.some(has)) continue;
		found.push(`2: ${key} is of a bridge of ${host} that is not there`);
	}
	return found;
}

/** 2: a container has its lease and its record, a network its record, its grant and a VNI of its own. */
function records({ containers, networks, keys }: Picture): Violation[] {
	const found: Violation[] = [];
	for (const { name, host, deployment, address } of containers) {
		if (!address) continue;
		const lease = keys.get(`arpanet/leases/${deployment}/${address}`);
		const { container, host: at } = (lease ?? {}) as Lease;
		if (container !== name) {
			found.push(`2: ${name} lives, its lease is ${container}`);
		} else if (at !== host) {
			found.push(`2: ${name} is on ${host}, its lease is of ${at}`);
		}
		if (!keys.has(`arpanet/containers/${name}`)) {
			found.push(`2: ${name} lives and is not on record`);
		}
	}
	for (const { scope, host } of networks) {
		if (keys.has(`arpanet/networks/${scope}`)) continue;
		found.push(`2: ${scope} is on ${host}, and is not on record`);
	}
	const vnis = new Map<number, string>();
	for (const [key, value] of keys) {
		if (!key.startsWith("arpanet/networks/")) continue;
		const { subnet, scope, vni } = value as Record<"subnet" | "scope", string> &
			Record<"vni", number>;
		const grant = `arpanet/subnets/${subnet.replace("/", "-")}`;
		if (keys.get(grant) !== scope) found.push(`2: ${scope} has no ${grant}`);
		const other = vnis.get(vni);
		if (other) found.push(`2: ${other} and ${scope} both have VNI ${vni}`);
		vnis.set(vni, scope);
	}
	return found;
}

/** 2: a network that was made because a container needed it goes with the last one. */
function unused(picture: Picture): Violation[] {
	const used = new Set(
		leases(picture).flatMap(({ scope, container }) =>
			container ? [scope] : [],
		),
	);
	return [...picture.keys].flatMap(([key, value]) => {
		if (!key.startsWith("arpanet/networks/")) return [];
		const { scope, implicit } = value as { scope: string; implicit: boolean };
		if (!implicit || used.has(scope)) return [];
		return [`2: ${scope} is on record, and no container is in it`];
	});
}

type Owner = (path: string[], value: unknown) => string | undefined;

const first: Owner = ([owner]) => owner;
const last: Owner = (path) => path.at(-1);
const holder: Owner = (_, value) =>
	(value as { container?: string } | null)?.container;

function idIn(value: unknown): string | undefined {
	return (value as { id?: string } | null)?.id;
}

/** Whose a key under `arpanet/` is, by its kind: what it is an owner of that is named there, and where its name stands. */
const OWNERS: Record<string, [what: string, owner: Owner]> = {
	...{ containers: ["container", first], reasons: ["container", first] },
	// one that is being given; of foreign containers the checker knows nothing
	names: ["container", (path, value) => (idIn(value) ? undefined : path[0])],
	...{ slots: ["container", holder], copies: ["container", holder] },
	...{ ports: ["container", holder], exclusive: ["container", holder] },
	leases: ["container", holder],
	bodies: ["container", first],
	...{ removing: ["id", first], leaving: ["id", first] },
	...{ moves: ["request", first], tagging: ["request", last] },
	superseded: ["request", last],
	guests: ["address", last],
	// one that ends in "/" says that its deployment may have some
	aliases: ["address", (path) => path.at(-1) || undefined],
	exposed: ["address", last],
	...{ gateways: ["network", first], "network-ids": ["network", first] },
	...{ networks: ["bridge", first] },
	subnets: ["network", (_, value) => String(value)],
};

/** Kinds that belong to no container and no network. */
const LASTING = ["hosts", "beats", "leader", "format", "repairs"];
LASTING.push("subnets-serial", "images", "volumes", "counts");

/** 2: nothing outlives the container, the network or the request that it is of. */
function orphans({ containers, networks, keys }: Picture): Violation[] {
	const there: Record<string, Set<string>> = {
		container: new Set(containers.map(({ name }) => name)),
		id: new Set(containers.map(({ id }) => id)),
		address: new Set(
			containers.flatMap(({ address, actual }) => [address, ...actual]),
		),
		network: new Set(
			[...keys.keys()].map(
				(key) => /^arpanet\/networks\/(.+)/.exec(key)?.[1] ?? "",
			),
		),
		bridge: new Set(networks.map(({ scope }) => scope)),
		request: new Set(), // none is under way when this is judged
	};
	return [...keys].flatMap(([key, value]) => {
		const [, kind = "", ...path] = key.split("/");
		if (LASTING.includes(kind)) return [];
		const [what, ownerOf] = OWNERS[kind] ?? [];
		if (!ownerOf) return [`2: ${key} is of no kind that there is`];
		const owner = ownerOf?.(path, value);
		// the lease of a host's bridge names no container
		if (what === undefined || owner === undefined) return [];
		if (there[what]?.has(owner)) return [];
		return [`2: ${key} belongs to ${owner}, which is not there`];
	});
}

/** 3: who finds no mark reads no aliases. */
function marks({ keys }: Picture): Violation[] {
	return [...keys.keys()].flatMap((key) => {
		const [, deployment, alias] =
			/^arpanet\/aliases\/(.+?)\/(.+)/.exec(key) ?? [];
		if (!alias || keys.has(`arpanet/aliases/${deployment}/`)) return [];
		return [
			`3: ${key} is there, and nothing says that ${deployment} has aliases`,
		];
	});
}

/** 3: a name answers with exactly the running copies, on every host. */
function registrations({ containers, names, catalog }: Picture): Violation[] {
	const found: Violation[] = [];
	for (const [service, answers] of names) {
		const wanted = containers
			.filter((each) => `${each.service}.${each.deployment}` === service)
			.filter(({ running }) => running)
			.map(({ address }) => address)
			.sort()
			.join();
		for (const [host, seen] of answers) {
			if (seen.join() === wanted) continue;
			found.push(
				`3: ${service} is ${seen} on ${host}, and should be ${wanted}`,
			);
		}
		const listed = catalog.get(service)?.join() ?? "";
		if (listed !== wanted) {
			found.push(`3: the catalog has ${listed} for ${service}, not ${wanted}`);
		}
	}
	return found;
}

/** 4: no name answers with a container of another deployment. */
function strangers({ containers, names }: Picture): Violation[] {
	const found: Violation[] = [];
	for (const [service, answers] of names) {
		const deployment = service.slice(service.indexOf(".") + 1);
		const others = containers.filter((each) => each.deployment !== deployment);
		for (const seen of answers.values()) {
			for (const { name, address } of others) {
				if (seen.includes(address))
					found.push(`4: ${service} leads to ${name}`);
			}
		}
	}
	return found;
}

/** 5: a name is one container's in the whole cluster. */
function doubles({ containers }: Picture): Violation[] {
	return twice(containers, ({ name }) => name).map(
		([name, all]) => `5: there are two ${name} (${all})`,
	);
}

/** 5: a create that was refused leaves nothing behind. */
function refused({ containers, networks, keys }: Picture): Violation[] {
	return [
		...containers
			.filter(({ deployment }) => deployment === REFUSED)
			.map(({ name, host }) => `${name} on ${host}`),
		...networks
			.filter(({ scope }) => scope === REFUSED)
			.map(({ name, host }) => `${name} on ${host}`),
		...[...keys.keys()].filter((key) => {
			const [, kind = "", ...path] = key.split("/");
			if (LASTING.includes(kind)) return false;
			return path.some((part) => part.split("_")[0] === REFUSED);
		}),
	].map((what) => `5: ${what} is there, and was refused`);
}

/** 7: those that clients and faults leave alone go on, each with the address that it had. */
export function witnesses(
	before: readonly Container[],
	{ containers }: Picture,
): Violation[] {
	return before.flatMap(({ id, name, host, address }) => {
		const now = containers.find((each) => each.id === id);
		if (now?.running && now.actual.includes(address)) return [];
		const what = now
			? `${now.running ? "running" : "stopped"}, with ${now.actual}`
			: "gone";
		return [`7: ${name} (${host}) had ${address}, and is ${what}`];
	});
}

/** Those that share a key with another, by key. */
function twice<Named extends { name: string; host: string }>(
	all: readonly Named[],
	keyOf: (named: Named) => string,
): [string, string][] {
	const groups = new Map<string, Named[]>();
	for (const each of all) {
		const key = keyOf(each);
		groups.set(key, [...(groups.get(key) ?? []), each]);
	}
	return [...groups]
		.filter(([, all]) => all.length > 1)
		.map(([key, all]) => [
			key,
			all.map(({ name, host }) => `${name} on ${host}`).join(" and "),
		]);
}

function overlap(a: string, b: string): boolean {
	const [[fromA, toA], [fromB, toB]] = [range(a), range(b)];
	return fromA <= toB && fromB <= toA;
}

function range(subnet: string): [number, number] {
	const [address = "", bits = "32"] = subnet.split("/");
	const from = address.split(".").reduce((sum, part) => sum * 256 + +part, 0);
	return [from, from + 2 ** (32 - Number(bits)) - 1];
}
