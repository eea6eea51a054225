import { readFileSync } from "node:fs";
import type { Config } from "../../pipeline/config.ts";
import { type Finding, fail } from "./finding.ts";

/** What a new network device begins with; writing `conf/all` sets it, too. */
const DISABLED = "/proc/sys/net/ipv6/conf/default/disable_ipv6";

/**
 * With `encrypt`, the hosts have IPv6 addresses within the tunnel, so the kernel must not keep a device from that.
 * @param file says 1 where it does, and is not there in a kernel without IPv6
 */
export function checkIpv6(
	{ arpanet }: Config,
	file: string = DISABLED,
): Finding[] {
	if (!arpanet.encrypt) return [];
	const remedy = remedyOf(file);
	return remedy ? [fail("host: encrypt needs IPv6, which is off", remedy)] : [];
}

function remedyOf(file: string): string | undefined {
	try {
		return readFileSync(file, "utf8").trim() === "0"
			? undefined
			: "sysctl -w net.ipv6.conf.all.disable_ipv6=0, and the same in /etc/sysctl.d";
	} catch {
		return "start the kernel without ipv6.disable=1";
	}
}
