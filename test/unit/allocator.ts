/**
 * One of several processes that allocate from the same subnet:
 *
 *     node allocator.js CONSUL SCOPE COUNT NAME
 *
 * creates COUNT containers at once, gives every third back, and prints who holds what as JSON.
 */
import { Allocator } from "./dhcp.ts";

const [consul = "", scope = "", count = "", name = ""] = process.argv.slice(2);
const allocator = new Allocator(consul);
const held: Record<string, string> = {};
await Promise.all(
	Array.from({ length: Number(count) }, async (_, i) => {
		const container = `${scope}-${name}${i}`;
		const { address } = await allocator.create(scope, container);
		if (i % 3 === 0) await allocator.remove(container);
		else held[address] = container;
	}),
);
allocator.close();
process.stdout.write(JSON.stringify(held));
