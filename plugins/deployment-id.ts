import {
	type ContainerCreate,
	keyAndValue,
	type NetworkCreate,
	networksAsked,
} from "../pipeline/docker.ts";
import { HttpError } from "../pipeline/errors.ts";
import { isDnsLabel } from "../pipeline/facts.ts";
import { definePlugin, type Facts, type Services } from "../pipeline/plugin.ts";
import { isAlias } from "../pipeline/state/aliases.ts";
import { scopeOf } from "../pipeline/state/networks.ts";

/** fig's names: `abc_web_1`; Compose v2's `abc-web-1` is read from labels. */
const FIG_NAME = /^([a-zA-Z0-9]+)_([a-zA-Z0-9]+)_(\d+)$/;
/** A copy's name, and its number. */
const COPY = /^(.+)[_-](\d+)$/;

/**
 * deployment-id: which deployment, service and copy a container is. The id is the first found of
 *
 *     label arpanet.deployment, env ARPANET_DEPLOYMENT
 *     label com.docker.compose.project
 *     fig's name <id>_<service>_<n>
 *     HTTP header X-Arpanet-Deployment
 *     the deployment whose network it asks to join
 *
 *     plugins:
 *       - deployment-id
 *
 * With one host a container or a network without an id passes through untouched. With several, such a container is placed,
 * and otherwise left alone; a bridge that a user makes (`docker network create x`) spans them all as network of a deployment `shared-x`, which
 * containers of any other may join too.
 */
export default definePlugin({
	name: "deployment-id",
	setup: (_, services) => ({
		async create({ body, name, recordName, facts, headers }) {
			const labels = body.Labels ?? {};
			const env = Object.fromEntries((body.Env ?? []).map(keyAndValue));
			const fig = FIG_NAME.exec(name ?? "");
			const id =
				labels["arpanet.deployment"] ??
				env.ARPANET_DEPLOYMENT ??
				labels["com.docker.compose.project"] ??
				fig?.[1]?.toLowerCase() ??
				headers["x-arpanet-deployment"] ??
				(await joined(body, services));
			if (id === undefined) return; // not ours

			facts.deployment = checked(id);
			if (labels["com.docker.compose.oneoff"] === "True") return;

			facts.service =
				labels["arpanet.service"] ??
				labels["com.docker.compose.service"] ??
				fig?.[2];
			mustBeService(facts.service);
			// Docker makes a name up for one without: until that is known it is told from others by its record's
			const own = name ?? recordName.slice(1);
			if (facts.service === undefined && isAlias(own)) {
				facts.service = own;
				facts.serviceFrom = "name";
			}
			const given = labels["com.docker.compose.container-number"];
			const number =
				given ??
				(fig && fig[2] === facts.service ? fig[3] : numberIn(name, facts));
			if (!/^\d{1,9}$/.test(number ?? "")) return;
			facts.index = Number(number);
			const isComposes =
				labels["com.docker.compose.project"] === facts.deployment &&
				labels["com.docker.compose.service"] === facts.service;
			if (given === undefined) facts.indexFrom = "name";
			else if (!isComposes) facts.indexFrom = "compose";
		},
		networkCreate({ body, facts, headers }) {
			const labels = body.Labels ?? {};
			const id =
				labels["arpanet.deployment"] ??
				labels["com.docker.compose.project"] ??
				headers["x-arpanet-deployment"];
			if (id === undefined) {
				if (services.cluster.alone || !isBridge(body)) return; // not ours

				facts.deployment = scopeOf("shared", body.Name);
				facts.composeNetwork = "default";
				facts.shared = true;
				return;
			}
			facts.deployment = checked(id);
			facts.composeNetwork = labels["com.docker.compose.network"] ?? body.Name;
		},
	}),
});

/** The deployment of the first network that a container asks for by name, if it is one's. */
async function joined(
	body: ContainerCreate,
	{ networks }: Services,
): Promise<string | undefined> {
	for (const name of networksAsked(body)) {
		const network = await networks.find(name);
		if (network) return network.value.deployment;
	}
	return undefined;
}

/** Whether a network is an ordinary bridge, which can be woven over hosts by its IPv4; any other driver has its own ways. */
function isBridge({
	Driver,
	EnableIPv4,
	IPAM,
	Scope,
	Ingress,
	ConfigOnly,
	ConfigFrom,
}: NetworkCreate): boolean {
	const ordinary = !Driver || Driver === "bridge";
	const ownAddresses = !IPAM?.Driver || IPAM.Driver === "default";
	return (
		ordinary &&
		ownAddresses &&
		EnableIPv4 !== false &&
		Scope !== "swarm" &&
		!Ingress &&
		!ConfigOnly &&
		!(ConfigFrom as { Network?: string } | null | undefined)?.Network
	);
}

/** What Compose takes as the name of a service; others come by the label. @throws HttpError 400 */
function mustBeService(name: string | undefined): void {
	if (name === undefined || /^[a-zA-Z0-9._-]+$/.test(name)) return;
	throw new HttpError(
		400,
		`deployment-id: "${name}" is no name of a service; use letters, digits, ".", "_" and "-"`,
	);
}

/** The id becomes a part of a DNS name. */
function checked(id: string): string {
	if (isDnsLabel(id)) return id;
	throw new HttpError(
		400,
		`deployment-id: "${id}" is no DNS label; use 1 to 63 of a-z, 0-9 and "-", such as docker-compose -p ${suggestion(id)}`,
	);
}

function suggestion(id: string): string {
	const label = id
		.toLowerCase()
		.replaceAll(/[^a-z0-9]+/g, "-")
		.slice(0, 63)
		.replaceAll(/^-+|-+$/g, "");
	return label || "abc";
}

/** The number of a copy that is named after its service: others of the service may have the same (`blue-1`, `green-1`). */
function numberIn(
	name: string | undefined,
	{ deployment, service }: Facts,
): string | undefined {
	const [, stem = "", number] = COPY.exec(name ?? "") ?? [];
	const own = [service, `${deployment}_${service}`, `${deployment}-${service}`];
	return own.includes(stem) ? number : undefined;
}
