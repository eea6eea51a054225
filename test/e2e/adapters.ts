import { request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type Arpanet, startArpanet } from "../lab/arpanet.ts";
import type { Host } from "../lab/lab.ts";

/** Some adapters and as many gateways on a host, each a process of its own. */
export interface Apart {
	/** For `DOCKER_HOST`, each with another adapter before Docker and the next one after. */
	gateways: string[];
	adapters: Arpanet[];
	/** Where an adapter listens: `http://10.213.0.1:2380`. */
	urls: string[];
	/** Starts an adapter anew in the place of one that was killed. */
	restart(adapter: number): Promise<void>;
	stop(): Promise<void>;
}

/** Starts `count` adapters on ports from 2380, `count` gateways on ports from 2400. */
export async function startApart(host: Host, count: number): Promise<Apart> {
	const urls = range(count).map((i) => `http://${host.address}:${2380 + i}`);
	const startAdapter = (i: number) =>
		startArpanet(host, {
			role: "adapter",
			name: `adapter${i}`,
			configure: ({ arpanet }) => {
				arpanet.adapter.listen = `tcp://${host.address}:${2380 + i}`;
			},
		});
	const adapters = await Promise.all(range(count).map(startAdapter));
	const gateways = await Promise.all(
		range(count).map((i) =>
			startArpanet(host, {
				role: "gateway",
				name: `gateway${i}`,
				configure: (config) => {
					config.adapters = {
						"arpanet-pre": `${urls[i]}/pre-hook`,
						"arpanet-post": `${urls[(i + 1) % count]}/post-hook`,
					};
					config.arpanet.gateway.listen = [`tcp://${host.address}:${2400 + i}`];
				},
			}),
		),
	);
	return {
		adapters,
		urls,
		gateways: gateways.map(({ docker }) => docker),
		restart: async (i) => {
			adapters[i] = await startAdapter(i);
		},
		stop: async () => {
			await Promise.all(
				[...gateways, ...adapters].map((each) => each.stop("SIGKILL")),
			);
		},
	};
}

export interface Answer {
	status: number;
	/** Parsed where it is JSON, else the text. */
	// biome-ignore lint/suspicious/noExplicitAny: whatever Docker's API answers
	body: any;
}

/** How the error of a request ends that nobody answers. */
export const LATE = "no answer";

/**
 * One request of Docker's API.
 * @param docker a `DOCKER_HOST`
 * @param patience milliseconds without a byte
 * @throws when no answer comes
 */
export function api(
	docker: string,
	method: string,
	path: string,
	body?: unknown,
	patience = 60_000,
): Promise<Answer> {
	const { hostname, port, pathname } = new URL(docker);
	const to = docker.startsWith("unix:")
		? { socketPath: pathname }
		: { host: hostname, port };
	return new Promise((resolve, reject) => {
		const asked = request(
			{
				...to,
				method,
				path,
				agent: false,
				headers:
					body === undefined ? {} : { "content-type": "application/json" },
			},
			(response) => {
				let text = "";
				response.setEncoding("utf8");
				response.on("error", reject);
				response.on("data", (chunk) => {
					text += chunk;
				});
				response.on("end", () =>
					resolve({ status: response.statusCode ?? 0, body: parsed(text) }),
				);
			},
		);
		asked.setTimeout(patience, () =>
			asked.destroy(new Error(`${method} ${path}: ${LATE}`)),
		);
		asked.on("error", reject);
		asked.end(body === undefined ? undefined : JSON.stringify(body));
	});
}

/** Asks until an answer comes that is no failure of a proxy or adapter, as a client would that retries. */
export async function insist(
	targets: () => string,
	method: string,
	path: string,
	body?: unknown,
): Promise<Answer> {
	for (let tries = 0; ; tries++) {
		const answer = await api(targets(), method, path, body).catch(
			() => undefined,
		);
		if (answer && ![500, 502, 503, 504].includes(answer.status)) return answer;
		if (tries === 300)
			throw new Error(`${method} ${path}: ${JSON.stringify(answer)}`);
		await sleep(100);
	}
}

function parsed(text: string): unknown {
	try {
		return JSON.parse(text);
	} catch {
		return text;
	}
}

export function range(count: number): number[] {
	return [...Array(count).keys()];
}

/** Keys of a host's Consul that begin so. */
export async function consulKeys(
	host: Host,
	prefix: string,
): Promise<string[]> {
	const answer = await fetch(`${host.consul}/v1/kv/${prefix}?keys`);
	return answer.status === 404 ? [] : ((await answer.json()) as string[]);
}
