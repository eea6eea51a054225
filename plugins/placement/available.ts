import { type PartMaker, SOFT } from "./part.ts";

/** A host that is lost, drained, without its engine, or closed to the others gets nothing new; one that does not answer here only what can go nowhere else. */
export const available: PartMaker = (_, services) => ({
	place: ({ onlyHost }) => ({
		filter({ name, state, drained, engine }) {
			const here = services.host.name;
			if (!state) return "it is lost";
			if (name === here && state.address !== services.host.address) {
				return `another host, at ${state.address}, has its name`;
			}
			if (state.stopping && name !== here) return "its arpanet is stopping";
			// alone, its own engine says so itself
			if (state.engineless && !services.cluster.alone) {
				return "its engine does not answer (start dockerd there)";
			}
			if (drained) return `it is drained (arpanet host undrain ${name})`;
			if (name === here || name === onlyHost || engine) return undefined;
			return "others cannot reach its engine (host.engine in its powerstrip.yml)";
		},
		// the others may hear it, and it may only have much to do
		score: ({ name }) => (services.cluster.isSilent(name) ? SOFT : 0),
	}),
});
