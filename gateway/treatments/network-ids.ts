import type { Engines } from "../engines.ts";
import { EnginePool } from "../upstream.ts";
import { withNetworkNames } from "./query.ts";
import type { Treatment } from "./treatment.ts";

/**
 * A list in which networks have the ids that clients see, whatever an engine calls them; the filter `network` takes
 * these ids, too. With one host there is nothing to translate.
 */
export function withNetworkIds(
	engines: Engines,
	treatment: Treatment,
): Treatment {
	const { networkIds } = engines;
	return async (request) => {
		if (engines.localOnly) return treatment(request);
		const query = await withNetworkNames(request.query, networkIds);
		const answer = await treatment({ ...request, query });
		if (answer instanceof EnginePool) return answer;
		if ("bytes" in answer) {
			const text = await networkIds.shown(answer.bytes.toString());
			return { ...answer, bytes: Buffer.from(text) };
		}
		if (!("body" in answer)) return answer;
		return { ...answer, body: await networkIds.shownIn(answer.body) };
	};
}
