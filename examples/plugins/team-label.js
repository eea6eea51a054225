// @ts-check
/**
 * team-label: every container of a deployment says which team it belongs to, in its environment
 * and as a label, so that logs and bills can be sorted by team.
 *
 *     arpanet:
 *       plugins:
 *         - deployment-id
 *         - ./team-label.js: {team: shop, known: [shop, search]}    # a path from powerstrip.yml
 *         - placement
 *         …
 *
 * This file is the tutorial as well: read it from top to bottom, copy it, change it, and see
 * what it does with
 *
 *     echo '{"Image": "busybox"}' | arpanet try - --name abc_web_1
 */

/**
 * What powerstrip.yml says, after `schema` has checked it and put the defaults in.
 * @typedef {{team: string, known: string[]}} Config
 */

/** @type {import("arpanet2").Plugin<Config>} */
export default {
	// 1. The name, as it stands in messages. The file is found by its path.
	name: "team-label",

	// 2. What must stand before it in the list: here, because we read `facts.deployment`.
	//    It is checked when arpanet starts. The list itself is never re-sorted.
	after: ["deployment-id"],

	// 3. The configuration, as a JSON schema. Defaults are applied; with `additionalProperties: false`
	//    a misspelt key is refused, with file and line.
	schema: {
		type: "object",
		additionalProperties: false,
		properties: {
			team: { type: "string", default: "nobody" },
			known: { type: "array", items: { type: "string" }, default: [] },
		},
	},

	// 4. `setup` runs when arpanet starts, and gives the hooks. Keep nothing in variables that
	//    a later hook needs: it may be called in another process, on another machine.
	setup: ({ team, known }) => ({
		// 5. `create` is asked before Docker acts. `body` is the one that the client sent; amend it.
		create({ body, facts }) {
			if (!facts.deployment) return; // a plain `docker run`: not ours to label

			// 6. The user may say it himself, in his fig.yml.
			const own = body.Labels?.team ?? team;

			// 7. A throw refuses the create. With a `status` the message is for whoever typed
			//    `docker run`; say what is wrong and what to do. Without one it is a fault of ours: 500.
			if (known.length > 0 && !known.includes(own)) {
				const message = `team-label: there is no team ${own}; label the service with one of ${known.join(", ")}`;
				throw Object.assign(new Error(message), { status: 400 });
			}
			body.Labels = { ...body.Labels, team: own };
			body.Env = [...(body.Env ?? []), `TEAM=${own}`];

			// 8. What a later hook must know is a fact. It becomes the label `arpanet.team` and is there
			//    again, as `facts.team`, in `started`, `stopped`, `removed`, …
			Object.assign(facts, { team: own });
		},
	}),
};
