import type { Plugin } from "../pipeline/plugin.ts";
import consulRegister from "./consul-register.ts";
import deploymentId from "./deployment-id.ts";
import dhcp from "./dhcp.ts";
import dnsSearch from "./dns-search.ts";
import expose from "./expose.ts";
import links from "./links.ts";
import network from "./network.ts";
import placement from "./placement.ts";
import volumes from "./volumes.ts";

/** The plugins that come with arpanet, by the name under which powerstrip.yml lists them. */
export const builtins: Record<string, Plugin> = Object.fromEntries(
	[
		deploymentId,
		placement,
		volumes,
		dhcp,
		links,
		expose,
		network,
		dnsSearch,
		consulRegister,
	].map((plugin) => [plugin.name, plugin as Plugin]),
);
