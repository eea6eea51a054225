// @ts-check
/**
 * quiet-hosts: keeps containers off hosts that are being looked after, and prefers the hosts
 * that are named first. An npm package: install it beside powerstrip.yml and list its name.
 *
 *     npm install arpanet-plugin-quiet-hosts
 *
 *     arpanet:
 *       plugins:
 *         - deployment-id
 *         - placement
 *         - arpanet-plugin-quiet-hosts: {avoid: [node3], prefer: [node1, node2]}
 *         …
 */

/** @typedef {{avoid: string[], prefer: string[]}} Config */

const names = { type: "array", items: { type: "string" }, default: [] };

/** @type {import("arpanet2").Plugin<Config>} */
export default {
	name: "quiet-hosts",
	schema: {
		type: "object",
		additionalProperties: false,
		properties: { avoid: names, prefer: names },
	},
	setup: ({ avoid, prefer }) => ({
		// placement asks every plugin in the list, before and after it, once for each container
		place: () => ({
			/** The reason is what the user reads if no host is left. */
			filter: ({ name }) =>
				avoid.includes(name) ? "is being looked after" : undefined,

			/** The lower, the better: hosts in the order in which they are named, the others last. */
			score({ name }) {
				const place = prefer.indexOf(name);
				return place === -1 ? prefer.length : place;
			},
		}),
	}),
};
