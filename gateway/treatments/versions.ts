import { setTimeout as sleep } from "node:timers/promises";
import type { Engines } from "../engines.ts";
import type { EnginePool } from "../upstream.ts";
import { isCompose1, NEWEST_FOR_COMPOSE_1 } from "./compose1.ts";
import type { OwnAnswer, Route, TreatedRequest } from "./treatment.ts";

/** For so long an engine is taken to speak what it spoke: it changes when Docker is updated there. */
const KNOWN_MS = 60_000;
/** A client that begins waits no longer to hear what other engines speak. */
const PATIENCE_MS = 500;

/**
 * `/_ping` and `/version`, by which a client and the gateway agree on an API version: the newest that all hosts' engines speak, and
 * that the client can do with. Where that is this host's own, its engine answers to the byte.
 */
export function versions(engines: Engines): Route[] {
	const { cluster, local } = engines;
	/** By the engine's URL. */
	const spoken = new Map<string, { version: string; at: number }>();

	async function spokenBy(host: string): Promise<string | undefined> {
		const { url } = await cluster.engine(host);
		const known = spoken.get(url);
		if (known && performance.now() - known.at < KNOWN_MS) return known.version;
		const asked = cluster
			.ask(host, (engine) => engine.get<{ ApiVersion: string }>("/version"))
			.then((told) => {
				if (!told) return undefined;
				spoken.set(url, { version: told.ApiVersion, at: performance.now() });
				return told.ApiVersion;
			})
			.catch(() => undefined);
		const late = sleep(PATIENCE_MS, undefined, { ref: false });
		return (await Promise.race([asked, late])) ?? known?.version;
	}

	async function agreed({
		path,
		query,
		userAgent,
	}: TreatedRequest): Promise<EnginePool | OwnAnswer> {
		const limit = isCompose1(userAgent) ? NEWEST_FOR_COMPOSE_1 : undefined;
		const names = engines.localOnly
			? [cluster.self]
			: await cluster.reachable();
		const [own, ...others] = await Promise.all(names.map(spokenBy));
		const oldest = others.reduce(older, older(own, limit));
		if (!own || !oldest || oldest === own) return local;
		const engine = await cluster.engine();
		const { status, headers, text } = await engine.answer(path + query);
		if (status !== 200) return local;
		const body = path.endsWith("/version")
			? JSON.stringify({ ...JSON.parse(text), ApiVersion: oldest })
			: text;
		return {
			status,
			bytes: Buffer.from(body),
			headers: headers.map((each, i) =>
				headers[i - 1] === "Api-Version" ? oldest : each,
			),
		};
	}

	return [
		[/^(?:GET|HEAD)$/, /^\/_ping$/, agreed],
		[/^GET$/, /^\/version$/, agreed],
	];
}

/** Of `1.41` and `1.9` the second; of one that is not known the other. */
function older(
	a: string | undefined,
	b: string | undefined,
): string | undefined {
	const minor = (version?: string) =>
		Number(version?.split(".")[1] ?? Infinity);
	return minor(b) < minor(a) ? b : a;
}
