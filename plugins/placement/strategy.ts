import type { Candidate } from "../../pipeline/plugin.ts";
import { COPY, type PartMaker } from "./part.ts";

/**
 * Which of the possible hosts is best. `spread`: copies of one service avoid each other, then the host with the fewest
 * containers; how busy it is decides between equals. `binpack`: where most is reserved and it fits still, then the one
 * with the most containers. `random`: any.
 */
export const strategy: PartMaker = ({ strategy, load }) => ({
	place({ facts: { deployment, service } }) {
		const scores = {
			spread: (host: Candidate) =>
				COPY * host.use.copies(deployment, service) +
				host.use.count +
				load * busy(host),
			binpack: (host: Candidate) =>
				-(COPY * reservedShare(host) + host.use.count),
			random: () => Math.random(),
		};
		return { score: scores[strategy] };
	},
});

/** How busy a host is, by what its agent measures and by what is reserved there: 0 to just under 1. */
function busy(host: Candidate): number {
	const { load = 0, memory = 0, network = 0 } = host.state ?? {};
	const most = Math.max(load, memory, network, reservedShare(host));
	return Math.min(most, 0.99); // a container is more than any load
}

function reservedShare({ use, cpus, memory }: Candidate): number {
	return Math.max(use.cpus / cpus, use.memory / memory);
}
