import { endpointMatcher } from "../../gateway/endpoints.ts";
import { type Config, loadConfig } from "../../pipeline/config.ts";
import { shippedConfig } from "../files.ts";
import { type Finding, warn } from "./finding.ts";

const TYPES = ["pre", "post"] as const;

/** arpanet is asked about all that the file which comes with it has it asked: a copy of an older one lacks what is new. */
export async function checkHooks({
	endpoints,
	adapters,
}: Config): Promise<Finding[]> {
	const shipped = await loadConfig(shippedConfig);
	const hooksOf = endpointMatcher(endpoints);
	const missing: string[] = [];
	for (const endpoint of shipped.endpoints) {
		const { pattern } = endpoint;
		const [method = "", path = ""] = pattern.split(" ");
		const sample = path.replace("*", "/v1.41").replace("*", "x");
		const hooks = hooksOf(method, sample);
		const types = TYPES.filter((type) => {
			const asked = hooks?.[type].some(
				(name) => new URL(adapters[name] ?? "").pathname === `/${type}-hook`,
			);
			return endpoint[type].length > 0 && !asked;
		});
		if (types.length > 0) missing.push(`"${pattern}" (${types.join(", ")})`);
	}
	if (missing.length === 0) return [];
	return [
		warn(
			`endpoints: arpanet is not asked about ${missing.join(", ")}`,
			`copy these lines from ${shippedConfig}`,
		),
	];
}
