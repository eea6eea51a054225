import type { Config } from "../../pipeline/config.ts";
import { messageOf } from "../../pipeline/errors.ts";
import {
	bodyOf,
	failedOperations,
	isDenial,
	statusOf,
} from "../../pipeline/state/refusal.ts";
import { Store } from "../../pipeline/state/store.ts";
import { type Finding, fail, ok, warn } from "./finding.ts";

/** What arpanet asks of Consul, as ACL rules, each with an operation that takes the right. */
const RIGHTS = [
	{
		rule: 'key_prefix "arpanet/" { policy = "write" }',
		operation: {
			KV: { Verb: "set", Key: "arpanet/check", Value: "" },
		},
	},
	{
		rule: 'node_prefix "arpanet-" { policy = "write" }',
		operation: {
			Node: {
				Verb: "set",
				Node: { Node: "arpanet-check", Address: "127.0.0.1" },
			},
		},
	},
	{
		rule: 'service_prefix "" { policy = "write" }',
		operation: {
			Service: {
				Verb: "set",
				Node: "arpanet-check",
				Service: { ID: "arpanet-check", Service: "arpanet-check" },
			},
		},
		/** Who names them in the policy one by one knows why. */
		instead:
			"or to each network and service that you mean to run: abc, pricing.abc",
	},
] as const;

/** Never true, so that a transaction with it writes nothing; whether the rest was allowed Consul looks at before. */
const NEVER = {
	KV: { Verb: "check-index", Key: "arpanet/check/never", Index: 1 },
};

/**
 * The token is one that Consul knows, and has every right that arpanet needs, but for that of `agent_prefix`, which
 * cannot be tried without doing it. Writes nothing.
 */
export async function checkRights(config: Config): Promise<Finding[]> {
	const store = new Store(config.arpanet.consul);
	try {
		const denied = await deniedOperations(store);
		if (denied === undefined) {
			return [
				fail(
					"consul: does not know arpanet's token (ACL not found)",
					"set arpanet.consul.token or tokenFile to the SecretID of one that it has",
				),
			];
		}
		const found = RIGHTS.flatMap((right, i): Finding[] => {
			if (!denied.has(i + 1)) return [];
			const what = `consul: the token lacks ${right.rule}`;
			return "instead" in right
				? [warn(what, `add it to the token's policy, ${right.instead}`)]
				: [fail(what, "add it to the token's policy")];
		});
		if (await isSessionDenied(store)) {
			found.push(
				fail(
					'consul: the token lacks session_prefix "" { policy = "write" }',
					"add it to the token's policy",
				),
			);
		}
		const members = (await store.consul.agent.members()) as unknown[];
		if (members.length === 0) {
			found.push(
				warn(
					'consul: the token lacks node_prefix "" { policy = "read" }, so that only its own sign of life tells of a lost host',
					"add it to the token's policy",
				),
			);
		}
		return found.length > 0
			? found
			: [ok("consul: lets arpanet do all that it needs")];
	} catch (error) {
		return [
			fail(
				`consul: does not say what arpanet may do (${messageOf(error)})`,
				"see its log",
			),
		];
	} finally {
		store.close();
	}
}

/** Positions of what is not allowed, after NEVER; undefined for a token that Consul does not know. */
async function deniedOperations(
	store: Store,
): Promise<Set<number> | undefined> {
	const operations = [NEVER, ...RIGHTS.map(({ operation }) => operation)];
	try {
		await store.consul.transaction.create(operations as never);
		return new Set();
	} catch (error) {
		if (statusOf(error) === 403) return undefined;
		const failed = failedOperations(error);
		if (!failed) throw error;
		const denied = [...failed].filter(([, what]) => isDenial(what));
		return new Set(denied.map(([position]) => position));
	}
}

/** Asks for a session that there cannot be: whether it is allowed Consul looks at first. */
async function isSessionDenied(store: Store): Promise<boolean> {
	try {
		await store.consul.session.create({ behavior: "check" as never });
		return false;
	} catch (error) {
		return statusOf(error) === 403 || isDenial(bodyOf(error));
	}
}
