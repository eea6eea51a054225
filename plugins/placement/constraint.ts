import type { Candidate } from "../../pipeline/plugin.ts";
import { expressions, holds, labelOf } from "./expressions.ts";
import { type PartMaker, SOFT } from "./part.ts";

/** `constraint:disk==ssd`: what a host's name (`node`) or labels must be, or with `~` should be. */
export const constraint: PartMaker = () => ({
	place({ body }) {
		const asked = expressions("constraint", body);
		if (asked.length === 0) return undefined;

		return {
			filter(host) {
				const unmet = asked.find(
					(each) => !each.soft && !holds(each, valuesOf(host, each.key)),
				);
				if (!unmet) return undefined;
				const [value] = valuesOf(host, unmet.key);
				const is = value
					? `${unmet.key} is ${value}`
					: `no ${unmet.key} is set`;
				return `constraint ${unmet.text} is not met (${is})`;
			},
			score: (host) =>
				SOFT *
				asked.filter(
					(each) => each.soft && !holds(each, valuesOf(host, each.key)),
				).length,
		};
	},
});

function valuesOf({ name, labels }: Candidate, key: string): string[] {
	return [key === "node" ? name : labelOf(labels, key)];
}
