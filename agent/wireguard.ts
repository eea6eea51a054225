import { spawn } from "node:child_process";
import {
	createPrivateKey,
	createPublicKey,
	generateKeyPairSync,
} from "node:crypto";
import { once } from "node:events";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf } from "../pipeline/errors.ts";
import type { HostRecord, KnownHost } from "../pipeline/state/hosts.ts";
import type { HostsKeptOut } from "../pipeline/state/moves.ts";
import { command, ip, type Link } from "./commands.ts";
import type { Underlay } from "./overlay.ts";

const DEVICE = "arpawg";
const PORT = 51820;
/** Bytes that VXLAN over IPv6 adds to a packet. */
const VXLAN = 70;
/** Bytes that VXLAN within WireGuard adds to a packet. */
export const OVERHEAD = VXLAN + 80;
/** Addresses within: `fd61:7270:616e::` ("arpan") and the host's own IPv4 address, so that nobody has to give them out. */
const PREFIX = "fd61:7270:616e::";

/** This host's keys: the private one stays in a file that only root reads, the public one is in its record. */
export interface Keys {
	file: string;
	public: string;
}

/**
 * Reads this host's key, making it where there is none.
 * @param folder of the state that arpanet keeps on disk
 */
export function wireguardKeys(folder: string): Keys {
	const file = join(folder, "wireguard.key");
	let key: string;
	try {
		key = readFileSync(file, "utf8").trim();
	} catch (error) {
		if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
		key = newKey();
		mkdirSync(folder, { recursive: true, mode: 0o700 });
		writeFileSync(`${file}.new`, `${key}\n`, { mode: 0o600 });
		renameSync(`${file}.new`, file);
	}
	return { file, public: publicKey(key) };
}

/** The tunnel's end here, as `ip -j address` tells of it. */
interface Device extends Link {
	addr_info: { local?: string }[];
}

/** The hosts' network with every packet between them encrypted; a host that does not encrypt is sent nothing. */
export class WireGuard implements Underlay {
	readonly address: string;
	readonly #keys: Keys;
	readonly #mtu: number;
	/** Whether the device has its key and port. */
	#keyed = false;

	/** @param mtu bytes of a packet between two hosts */
	constructor(keys: Keys, host: HostRecord, mtu: number) {
		this.#keys = keys;
		// a network from before encryption sends more than fits: WireGuard's packets can go in pieces, VXLAN's over IPv6 cannot
		this.#mtu = mtu + VXLAN;
		this.address = within(host);
	}

	addressOf(host: KnownHost): string | undefined {
		return host.wireguard ? within(host) : undefined;
	}

	async look(
		others: KnownHost[],
		keptOut: HostsKeptOut,
	): Promise<string | undefined> {
		const show = ip("address", "show", "dev", DEVICE);
		const [device] = (await show.catch(() => [])) as Device[];
		if (!device) {
			this.#keyed = false;
			await makeDevice();
		}
		if (!this.#keyed) await this.#setKey();
		if (!device || !this.#isRight(device)) await this.#setAddress();
		const out = new Set([...keptOut.values()].flatMap((hosts) => [...hosts]));
		await this.#setPeers(others.filter(({ name }) => !out.has(name)));
		const wrong: string[] = [];
		await this.#guard().catch((error) => wrong.push(messageOf(error)));
		const plain = others.filter(({ wireguard }) => !wireguard);
		if (plain.length > 0) {
			const names = plain.map(({ name }) => name).join(", ");
			wrong.push(
				`encrypt: ${names} does not encrypt, and is sent nothing; set encrypt: true there, too`,
			);
		}
		return wrong.join("; ") || undefined;
	}

	/** Once: wireguard-go opens its sockets anew each time that it is told the port. */
	async #setKey(): Promise<void> {
		await command(
			...(["wg", "set", DEVICE] as const),
			...["listen-port", String(PORT), "private-key", this.#keys.file],
		);
		this.#keyed = true;
	}

	/** The kernel drops the address when somebody sets the device down, or turns IPv6 off. */
	#isRight({ mtu, flags, addr_info }: Device): boolean {
		const addressed = addr_info.some(({ local }) => local === this.address);
		return addressed && mtu === this.#mtu && flags.includes("UP");
	}

	async #setAddress(): Promise<void> {
		await command(
			...(["ip", "-6", "address", "replace"] as const),
			...[`${this.address}/64`, "dev", DEVICE, "nodad"],
		);
		await ip("link", "set", DEVICE, "mtu", String(this.#mtu), "up");
	}

	/** A container with IPv6 must not speak to this host as though it were the overlay: that comes by the tunnel alone. */
	async #guard(): Promise<void> {
		const rule = [
			...["INPUT", "-d", this.address, "!", "-i", DEVICE],
			...["-p", "udp", "--dport", "4789", "-j", "DROP"],
		];
		const ip6tables = (verb: string) =>
			command("ip6tables", "-w", "5", verb, ...rule);
		await ip6tables("-C").catch(() => ip6tables("-I"));
	}

	/** Peers as the other hosts' records say; what a host that came back elsewhere was, goes. */
	async #setPeers(others: KnownHost[]): Promise<void> {
		const [allowed, endpoints] = await Promise.all([
			command("wg", "show", DEVICE, "allowed-ips"),
			command("wg", "show", DEVICE, "endpoints"),
		]);
		const present = new Map(
			rows(allowed).map(([key = "", address]) => [key, { address, at: "" }]),
		);
		for (const [key = "", at = ""] of rows(endpoints)) {
			const peer = present.get(key);
			if (peer) peer.at = at;
		}
		for (const other of others) {
			const { wireguard: key, address } = other;
			if (!key) continue;
			const wanted = {
				address: `${within(other)}/128`,
				at: `${address}:${PORT}`,
			};
			const known = present.get(key);
			present.delete(key);
			if (known?.address === wanted.address && known.at === wanted.at) continue;
			await command(
				...(["wg", "set", DEVICE, "peer", key] as const),
				...["endpoint", wanted.at, "allowed-ips", wanted.address],
			);
		}
		for (const gone of present.keys()) {
			await command("wg", "set", DEVICE, "peer", gone, "remove");
		}
	}
}

/** A host's address within the tunnel, as the kernel writes it: `fd61:7270:616e::ad5:1` for 10.213.0.1. */
function within({ address }: { address: string }): string {
	const url = new URL(`http://[${PREFIX}${address}]`);
	return url.hostname.slice(1, -1);
}

function rows(text: string): string[][] {
	return text
		.split("\n")
		.filter(Boolean)
		.map((line) => line.split("\t"));
}

/** By the kernel; where it does not know WireGuard, by wireguard-go, which goes on by itself. */
async function makeDevice(): Promise<void> {
	try {
		await command("ip", "link", "add", DEVICE, "type", "wireguard");
		return;
	} catch (error) {
		if (!/unknown device type|not supported/i.test(messageOf(error)))
			throw error;
	}
	const daemon = spawn("wireguard-go", [DEVICE], {
		detached: true,
		stdio: "ignore",
		env: { ...process.env, LOG_LEVEL: "silent" },
	});
	const [code] = await once(daemon, "exit").catch((error) => [
		messageOf(error),
	]);
	if (code === 0) return;
	throw new Error(
		`encrypt: neither the kernel nor wireguard-go makes a WireGuard device (${code}); apt-get install wireguard-tools, and wireguard-go for a kernel without WireGuard`,
	);
}

/** 32 random bytes as WireGuard takes them, in base64. */
function newKey(): string {
	const { privateKey } = generateKeyPairSync("x25519");
	const { d = "" } = privateKey.export({ format: "jwk" });
	return Buffer.from(d, "base64url").toString("base64");
}

/** What stands before the 32 bytes of an X25519 key in PKCS #8: RFC 8410. */
const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");

function publicKey(key: string): string {
	const der = Buffer.concat([PKCS8, Buffer.from(key, "base64")]);
	const secret = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
	const { x = "" } = createPublicKey(secret).export({ format: "jwk" });
	return Buffer.from(x, "base64url").toString("base64");
}
