import { type ContainerCreate, isDockersOwn } from "../../pipeline/docker.ts";
import type { Services } from "../../pipeline/plugin.ts";
import type { PartMaker } from "./part.ts";

/**
 * A container that uses another's volumes or one of its namespaces runs beside it. So does one that Docker itself
 * links to another; in the networks of a deployment links are names in DNS, and bind nobody.
 */
export const together: PartMaker = (_, services) => ({
	async place({ body, facts, lostHost }) {
		if (services.cluster.alone) return undefined;
		const byDocker = isDockersOwn(body.HostConfig?.NetworkMode ?? "");
		const partners = partnersOf(body, byDocker || !facts.deployment);
		if (partners.length === 0) return undefined;

		const found = await Promise.all(
			partners.map(async (partner) => ({
				...partner,
				host: await hostOf(partner.name, services),
			})),
		);
		return {
			filter({ name }) {
				// of a container that is nowhere the engine says so, unless it may be where nobody can look
				const other = found.find(
					({ host = lostHost }) => host && host !== name,
				);
				if (!other) return undefined;
				const where = other.host ?? `${lostHost}, which is lost`;
				return `${other.name}, ${other.bond}, is on ${where}`;
			},
		};
	},
});

interface Partner {
	name: string;
	bond: string;
}

function partnersOf(
	{ HostConfig }: ContainerCreate,
	linked: boolean,
): Partner[] {
	const { VolumesFrom, NetworkMode, PidMode, IpcMode, Links } =
		HostConfig ?? {};
	return [
		...texts(VolumesFrom).map((each) => ({
			name: each.split(":")[0] as string,
			bond: "whose volumes it uses",
		})),
		...[NetworkMode, PidMode, IpcMode]
			.filter((mode) => typeof mode === "string")
			.filter((mode) => mode.startsWith("container:"))
			.map((mode) => ({
				name: mode.slice("container:".length),
				bond: "whose namespace it shares",
			})),
		...texts(linked ? Links : []).map((each) => ({
			name: each.split(":")[0] as string,
			bond: "to which it links",
		})),
	];
}

function texts(value: unknown): string[] {
	return Array.isArray(value)
		? value.filter((each) => typeof each === "string")
		: [];
}

async function hostOf(
	ref: string,
	{ slots, locator }: Services,
): Promise<string | undefined> {
	const name = ref.replace(/^\//, "");
	return slots.named(name)?.host ?? (await locator.surelyFind(name))?.host;
}
