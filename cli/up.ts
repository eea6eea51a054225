import { setTimeout } from "node:timers/promises";
import type { Logger } from "pino";
import type { Config } from "../pipeline/config.ts";
import { messageOf } from "../pipeline/errors.ts";
import { boot, hostOf } from "./boot.ts";
import { checkTls } from "./checks/tls.ts";
import { ensureConsul, type OwnConsul } from "./consul.ts";
import {
	mustAllBeSafe,
	type Role,
	type RoleName,
	runAdapter,
	runAgent,
	runGateway,
} from "./roles.ts";

interface Running extends Role {
	/** For the log. */
	name: string;
}

/** Time for everything together to end by itself: the gateway answers what it was asked. */
const STOP_MS = 25_000;
const DAY_MS = 24 * 3600 * 1000;

/**
 * Runs roles in this process until SIGINT, SIGTERM or SIGHUP, then stops them in reverse: list what serves clients last.
 * @param embedded start a Consul where there is none to wait for
 * @throws Error naming what cannot start and the remedy; what had started is stopped again
 */
export async function runRoles(
	roles: readonly RoleName[],
	config: Config,
	log: Logger,
	embedded: boolean,
): Promise<void> {
	const stop = onSignal(log);
	mustAllBeSafe(roles, config);
	const booted = await boot(config, log);
	const running: Running[] = [{ name: "connections", stop: booted.close }];
	void watchCertificates(config, log, stop);
	let consul: OwnConsul | undefined;
	try {
		if (embedded) {
			const { address } = hostOf(config);
			consul = await ensureConsul(config, address, log, stop);
		}
		await booted.format.begin();
		booted.services.cluster.hosts.follow();
		booted.services.volumes.follow();
		booted.services.networks.ids.follow();
		if (roles.includes("adapter") || roles.includes("agent"))
			booted.services.slots.follow();
		for (const role of roles) {
			stop.throwIfAborted();
			const run = async () => {
				if (role === "adapter") return runAdapter(config, log, booted);
				if (role === "agent") return runAgent(config, log, booted);
				const isLocal = roles.includes("adapter");
				return runGateway(config, log, booted, isLocal);
			};
			running.push({ name: role, ...(await run()) });
		}
		if (!stop.aborted) {
			await new Promise((resolve) => stop.addEventListener("abort", resolve));
		}
	} catch (error) {
		if (!stop.aborted) throw error;
	} finally {
		await stopAll(running, log);
		await consul?.stop();
	}
}

function onSignal(log: Logger): AbortSignal {
	const abort = new AbortController();
	// SIGHUP: its terminal was closed
	for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
		process.on(signal, () => {
			if (!abort.signal.aborted) log.info({ signal }, "stopping");
			abort.abort();
		});
	}
	return abort.signal;
}

/** Certificates end one day: says in the log what `arpanet check` says of them, now and once a day. */
async function watchCertificates(
	config: Config,
	log: Logger,
	signal: AbortSignal,
): Promise<void> {
	const rest = { signal, ref: false };
	while (!signal.aborted) {
		try {
			for (const { level, what, remedy } of checkTls(config)) {
				if (level !== "ok") log.warn({ remedy }, what);
			}
		} catch (error) {
			log.warn({ err: messageOf(error) }, "certificates cannot be read");
		}
		await setTimeout(DAY_MS, undefined, rest).catch(() => {});
	}
}

/** Stops in reverse and past errors; who does not end in time is left behind. */
async function stopAll(running: Running[], log: Logger): Promise<void> {
	const done = new AbortController();
	const late = setTimeout(STOP_MS, "late", { signal: done.signal });
	late.catch(() => {}); // all have stopped
	for (const { name, stop } of running.toReversed()) {
		try {
			const what = await Promise.race([stop(), late]);
			if (what) log.warn({ role: name }, "does not stop in time; leaving it");
		} catch (err) {
			log.error({ role: name, err }, "did not stop well");
		}
	}
	done.abort();
}
