import { HttpError } from "../pipeline/errors.ts";
import { isDnsLabel, lowerCase } from "../pipeline/facts.ts";
import { definePlugin, type Facts } from "../pipeline/plugin.ts";
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
			const asked = body.Labels?.[LABEL];
			const exposed = exposedBy({ ...facts, expose: asked });
			if (!exposed) return; // keeps to itself
			facts.expose = asked; // the label may later be the image's, whose maker decides nothing here
			for (const { network, address } of context.networks) {
				context.hold(exposedKey(network.value.scope, address), exposed);
			}
		},
		connect(context) {
			const { body, facts, network } = context;
			const exposed = exposedBy(facts);
			const address = body.EndpointConfig?.IPAMConfig?.IPv4Address;
			if (!exposed || !address) return; // keeps to itself
			context.hold(exposedKey(network.value.scope, address), exposed);
		},
		async adopt(context) {
			const { container, facts } = context;
			const exposed = exposedBy(facts);
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
function exposedBy({
	deployment,
	service,
	expose: label,
}: Facts): Exposed | undefined {
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
