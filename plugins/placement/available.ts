import type { PartMaker } from "./part.ts";

/** A host that is lost, drained, or closed to the others gets nothing new. */
export const available: PartMaker = (_, { host: { name: here } }) => ({
	place: ({ onlyHost }) => ({
		filter({ name, state, drained, engine }) {
			if (!state) return "it is lost";
			if (state.stopping && name !== here) return "its arpanet is stopping";
			if (drained) return `it is drained (arpanet host undrain ${name})`;
			if (name === here || name === onlyHost || engine) return undefined;
			return "others cannot reach its engine (host.engine in its powerstrip.yml)";
		},
	}),
});
