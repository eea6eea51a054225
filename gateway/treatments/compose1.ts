import { ask } from "../question.ts";
import { EnginePool } from "../upstream.ts";
import type { Treatment } from "./treatment.ts";

/**
 * docker-compose 1 was made for API 1.41, but takes the newest that there is, and cannot recreate a container then: it reads an
 * image's `ContainerConfig`, which 1.45 (Docker 26) dropped. This is the newest that has it, and has what it reads of events (1.52 has no `status`).
 */
export const NEWEST_FOR_COMPOSE_1 = "1.44";

const COMPOSE_1 = /^docker-compose\/1\./;
const PATHS = /^\/(?:version|images\/.+\/json)$/;

export function isCompose1(userAgent: string): boolean {
	return COMPOSE_1.test(userAgent);
}

/** Whether what answers a path may have to be put into words for docker-compose 1. @param path without its version */
export function concernsCompose1(path: string): boolean {
	return PATHS.test(path);
}

/** An image's inspection. Engines with the containerd image store have no `ContainerConfig` in any version of the API. */
export function withContainerConfig(inspect: Treatment): Treatment {
	return async (request) => {
		const found = await inspect(request);
		if (!isCompose1(request.userAgent) || !(found instanceof EnginePool)) {
			return found;
		}
		const { path, query } = request;
		const { status, headers, text } = await ask(found, path + query);
		if (status !== 200) return found;
		const image = JSON.parse(text);
		const body = image.ContainerConfig
			? text
			: JSON.stringify({ ...image, ContainerConfig: image.Config });
		return { status, headers, bytes: Buffer.from(body) };
	};
}
