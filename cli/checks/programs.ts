import type { Config } from "../../pipeline/config.ts";
import { findProgram } from "../files.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

/** Debian's package of each program that the agent runs. */
const PACKAGES = {
	ip: "iproute2",
	bridge: "iproute2",
	"iptables-save": "iptables",
	"iptables-restore": "iptables",
};
const PACKAGES_TO_ENCRYPT = { wg: "wireguard-tools", ip6tables: "iptables" };

/**
 * The programs that the agent runs are on PATH. What root finds there another does not always.
 * @param find the path of a program, if there is one
 */
export function checkPrograms(
	{ arpanet }: Config,
	find: (name: string) => string | undefined = findProgram,
	isRoot: boolean = process.getuid?.() === 0,
): Finding[] {
	if (!isRoot) {
		return [
			warn(
				"host: the agent makes networks and firewall rules, for which it has to be root, and you are not",
				"run arpanet as root",
			),
		];
	}
	const wanted = {
		...PACKAGES,
		...(arpanet.encrypt ? PACKAGES_TO_ENCRYPT : {}),
	};
	const missing = Object.entries(wanted).filter(([name]) => !find(name));
	if (missing.length === 0) {
		return [ok(`host: has ${Object.keys(wanted).join(", ")}`)];
	}
	const names = missing.map(([name]) => name).join(", ");
	const packages = new Set(missing.map(([, each]) => each));
	return [
		fail(
			`host: ${names} not found on PATH`,
			`apt-get install ${[...packages].join(" ")}`,
		),
	];
}
