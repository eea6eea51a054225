import type { Config } from "../../pipeline/config.ts";
import { parseEngineUrl } from "../../pipeline/engine.ts";
import { messageOf } from "../../pipeline/errors.ts";
import { ask } from "../ask.ts";
import { ANSWER_MS, type Finding, fail, ok, warn } from "./finding.ts";

/** The oldest API with all that arpanet asks of an engine: Docker 1.12. */
const MIN_API = 24;

/** The engine answers, and is new enough. */
export async function checkEngine(config: Config): Promise<Finding[]> {
	const { engine } = config.arpanet;
	try {
		const { text } = await ask(parseEngineUrl(engine), "/version", ANSWER_MS);
		const { Version, ApiVersion } = JSON.parse(text) as {
			Version: string;
			ApiVersion: string;
		};
		const seen = `engine: Docker ${Version} with API ${ApiVersion} answers at ${engine}`;
		const [, minor = 0] = ApiVersion.split(".").map(Number);
		if (minor >= MIN_API) return [ok(seen)];
		return [
			warn(seen, `API 1.${MIN_API} is the oldest known to do; update Docker`),
		];
	} catch (error) {
		return [
			fail(
				`engine: ${engine} does not answer (${messageOf(error)})`,
				"start Docker, or set arpanet.engine",
			),
		];
	}
}
