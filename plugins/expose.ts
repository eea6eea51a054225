import { HttpError } from "../pipeline/errors.ts";
import { isDnsLabel, lowerCase } from "../pipeline/facts.ts";
import {
	type AdoptContext,
	type ConnectContext,
	type CreateContext,
	definePlugin,
} from "../pipeline/plugin.ts";
import { type Exposed, exposedKey } from "../pipeline/state/exposed.ts";

const LABEL = "arpanet.expose";

/**
 * expose: a service that others may use. With the label `arpanet.expose=true` containers of any deployment reach its copies,
 * and find them as `pricing.abc.service.consul`; with `arpanet.expose=xyz,ops` those of these deployments. The way
 * back stays closed: what an exposed copy does not answer it cannot begin.
 *
 *     plugins:
 *       - expose
 */
export default definePlugin({
	name: "expose",
	after: ["deployment-id", "dhcp"],
	setup: (_, { store, networks }) => ({
		create(context) {
			const { body, facts } = context;
			const exposed = exposedBy(body.Labels, context);
			if (facts.deployment) {
				// else Docker gives it what its image says, whose maker decides nothing here
				body.Labels = { [LABEL]: "false", ...body.Labels };
			}
			if (!exposed) return; // keeps to itself
			for (const { network, address } of context.networks) {
				context.hold(exposedKey(network.value.scope, address), exposed);
			}
		},
		connect(context) {
			const { body, container, network } = context;
			const exposed = exposedBy(container.Config.Labels, context);
			const address = body.EndpointConfig?.IPAMConfig?.IPv4Address;
			if (!exposed || !address) return; // keeps to itself
			context.hold(exposedKey(network.value.scope, address), exposed);
		},
		async adopt(context) {
			const { container, facts } = context;
			const exposed = exposedBy(container.Config.Labels, context);
			if (!exposed) return; // keeps to itself
			const keys = new Set<string>();
			if (facts.network && facts.address)
				keys.add(exposedKey(facts.network, facts.address));
			for (const { network, address } of await networks.joinedBy(container)) {
				keys.add(exposedKey(network.value.scope, address));
			}
			for (const key of keys) context.hold(key, exposed, await store.get(key));
		},
	}),
});

/** @throws HttpError 400 for a label that names no deployments */
function exposedBy(
	labels: Record<string, string> | null | undefined,
	{ facts }: CreateContext | ConnectContext | AdoptContext,
): Exposed | undefined {
	const label = labels?.[LABEL];
	const { deployment, service } = facts;
	const says = lowerCase(label);
	if (!label || says === "false" || !deployment || !service) return undefined;
	if (says === "true") return { service, to: "all" };
	const to = label.split(",").map((id) => id.trim());
	const wrong = to.find((id) => !isDnsLabel(id));
	if (wrong === undefined) return { service, to };
	throw new HttpError(
		400,
		`expose: "${wrong}" in label ${LABEL}=${label} is no deployment's id; write true, or ids with commas between them`,
	);
}
