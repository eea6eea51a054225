import { networkInterfaces } from "node:os";
import type { Config } from "../../pipeline/config.ts";
import { parseEngineUrl } from "../../pipeline/engine.ts";
import { HttpError, messageOf } from "../../pipeline/errors.ts";
import {
	type HostRecord,
	type KnownHost,
	remedyOfTwins,
} from "../../pipeline/state/hosts.ts";
import type { Tls } from "../../pipeline/tls.ts";
import { ask } from "../ask.ts";
import { hostOf, openCluster } from "../boot.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";
import { handshakeRemedy } from "./tls.ts";

/** The other hosts live, and their engines let this host in. None of it matters to a host that is alone. */
export async function checkHosts(config: Config): Promise<Finding[]> {
	const { cluster, close } = openCluster(config);
	try {
		const [own, ...others] = await cluster.all();
		const wrong = checkSelf(hostOf(config), await cluster.hosts.list());
		if (others.length === 0) return wrong;
		const found = others.map((host) => checkHost(host, cluster.tls));
		if (own && !own.engine) {
			found.push(
				Promise.resolve(
					warn(
						"host: the others cannot reach this host's engine",
						"set arpanet.host.engine, such as tcp://10.0.0.1:2377",
					),
				),
			);
		}
		const versions = await checkVersions(config, others, cluster.tls);
		const encryption = checkEncryption(config, others);
		return [
			...wrong,
			...(await Promise.all(found)),
			...versions,
			...encryption,
		];
	} catch (error) {
		if (error instanceof HttpError) return []; // that Consul does not answer another line says
		throw error;
	} finally {
		await close();
	}
}

/**
 * This host is who it says it is.
 * @param all what is known of the hosts in Consul, this one among them once it was announced
 */
export function checkSelf(
	{ name, address }: Pick<HostRecord, "name" | "address">,
	all: KnownHost[],
): Finding[] {
	const own = Object.values(networkInterfaces()).flat();
	const isAlone = all.every((each) => each.name === name);
	if (!isAlone && !own.some((each) => each?.address === address)) {
		return [
			fail(
				`host: ${address} is no address of this machine`,
				"set arpanet.host.address to the one at which the others reach it",
			),
		];
	}
	const known = all.find((each) => each.name === name)?.state?.address;
	if (known && known !== address) {
		return [
			fail(
				`host: one at ${known} is announced as ${name}, and this one is at ${address}`,
				`give each its own arpanet.host.name; if the address of this one has changed, restart arpanet, and make its containers anew, which ask for names at ${known}`,
			),
		];
	}
	const twin = all.find(
		(each) => each.name !== name && each.address === address,
	);
	if (!twin) return [];
	return [
		fail(
			`host: ${address} is host ${twin.name}'s address, too`,
			remedyOfTwins(twin.name),
		),
	];
}

/** There is a version of the API that all hosts' engines take; those that do not answer other lines are about. */
export async function checkVersions(
	{ arpanet }: Config,
	others: KnownHost[],
	tls: Tls | undefined,
): Promise<Finding[]> {
	const engines = [
		{ name: arpanet.host.name, address: parseEngineUrl(arpanet.engine) },
		...others.flatMap(({ name, engine, state }) =>
			engine && state ? [{ name, address: parseEngineUrl(engine, tls) }] : [],
		),
	];
	const told = await Promise.all(
		engines.map(async ({ name, address }) => {
			const answer = await ask(address, "/version", ANSWER_MS).catch(() => {});
			if (answer?.status !== 200) return [];
			const told = JSON.parse(answer.text) as Record<string, string>;
			const { ApiVersion = "", MinAPIVersion = "1.12" } = told;
			return [
				{ name, newest: minorOf(ApiVersion), oldest: minorOf(MinAPIVersion) },
			];
		}),
	);
	const all = told.flat();
	const old = all.toSorted((a, b) => a.newest - b.newest)[0];
	const young = all.toSorted((a, b) => b.oldest - a.oldest)[0];
	if (!old || !young || young.oldest <= old.newest) return [];
	return [
		fail(
			`hosts: ${young.name}'s Docker takes API 1.${young.oldest} and later, ${old.name}'s speaks 1.${old.newest} at most: no client can use both`,
			`update Docker on ${old.name}; until then "min-api-version": "1.${old.newest}" in /etc/docker/daemon.json on ${young.name}`,
		),
	];
}

/** Either all hosts encrypt what goes between their containers, or none does. */
export function checkEncryption(
	{ arpanet }: Config,
	others: KnownHost[],
): Finding[] {
	const names = others
		.filter(
			({ state, wireguard }) =>
				state && (wireguard !== undefined) !== arpanet.encrypt,
		)
		.map(({ name }) => name)
		.join(", ");
	if (!names) return [];
	const [they, we, where] = arpanet.encrypt
		? ["does not encrypt", "does", "there"]
		: ["encrypts", "does not", "here"];
	return [
		fail(
			`hosts: ${names} ${they} and this one ${we}, so no packet of a container gets from one to the other`,
			`set arpanet.encrypt: true ${where}, too`,
		),
	];
}

/** `1.41`: 41 */
function minorOf(version: string): number {
	return Number(version.split(".")[1]);
}

async function checkHost(
	{ name, state, engine }: KnownHost,
	tls: Tls | undefined,
): Promise<Finding> {
	if (!state) {
		return warn(
			`host ${name}: is lost`,
			`start arpanet there, or forget it: arpanet host rm ${name}`,
		);
	}
	if (!engine) {
		return warn(
			`host ${name}: nobody else can reach its engine`,
			"set arpanet.host.engine there",
		);
	}
	try {
		const address = parseEngineUrl(engine, tls);
		const { status, text } = await ask(address, "/_ping", ANSWER_MS);
		if (status === 200) {
			return ok(`host ${name}: its engine answers at ${engine}`);
		}
		return fail(
			`host ${name}: its engine port at ${engine} lets us not in (${text.trim()})`,
			"give all hosts certificates of one authority: arpanet certs",
		);
	} catch (error) {
		return fail(
			`host ${name}: its engine at ${engine} does not answer (${messageOf(error)})`,
			handshakeRemedy(error, "arpanet.tls") ??
				"look at arpanet's log there, and at the firewall between",
		);
	}
}
