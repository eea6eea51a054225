import test from "ava";
import fc from "fast-check";
import { Netmask } from "netmask";
import type { HttpError } from "../../pipeline/errors.ts";
import { toAddress, toNumber } from "../../pipeline/state/leases.ts";
import { choose } from "../../pipeline/state/subnets.ts";

const chooses = test.macro({
	exec: (t, size: number, pool: string, used: string[], expected: string) =>
		t.is(choose(size, pool, used), expected),
	title: (_, size: number, pool: string, used: string[], expected: string) =>
		`${size} in ${pool} beside ${used.join(", ") || "nothing"}: ${expected}`,
});

test(chooses, 254, "10.32.0.0/12", [], "10.32.0.0/24");
test(chooses, 255, "10.32.0.0/12", [], "10.32.0.0/23");
test(chooses, 1, "10.32.0.0/12", [], "10.32.0.0/30");
test(chooses, 2, "10.32.0.0/12", [], "10.32.0.0/30");
test(chooses, 3, "10.32.0.0/12", [], "10.32.0.0/29");
test(chooses, 65_534, "10.32.0.0/12", [], "10.32.0.0/16");
test(chooses, 254, "10.32.0.0/12", ["10.32.0.0/24"], "10.32.1.0/24");
test(chooses, 254, "10.32.0.0/12", ["10.32.1.0/24"], "10.32.0.0/24");
test(chooses, 254, "10.32.0.0/12", ["10.32.0.8/29"], "10.32.1.0/24");
test(chooses, 510, "10.32.0.0/12", ["10.32.0.0/24"], "10.32.2.0/23");
test(
	chooses,
	254,
	"10.0.0.0/8",
	["10.0.0.0/9", "172.17.0.0/16"],
	"10.128.0.0/24",
);
test(
	chooses,
	254,
	"10.32.0.0/12",
	["10.32.0.0/16", "10.32.5.0/24"],
	"10.33.0.0/24",
);
test(chooses, 14, "10.32.1.0/28", [], "10.32.1.0/28");

const block = (pool: Netmask) =>
	fc
		.tuple(
			fc.integer({ min: 12, max: 30 }),
			fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
		)
		.map(([bits, where]) => {
			const at = toNumber(pool.base) + Math.floor(where * pool.size);
			return new Netmask(`${toAddress(at)}/${bits}`).toString();
		});

test("whatever sizes and reserved ranges: never overlapping, in the pool, aligned, big enough", (t) => {
	const pool = new Netmask("10.32.0.0/14");
	const property = fc.property(
		fc.array(block(pool), { maxLength: 8 }),
		fc.array(fc.integer({ min: 1, max: 5_000 }), {
			minLength: 1,
			maxLength: 40,
		}),
		(reserved, sizes) => {
			const granted: string[] = [];
			for (const size of sizes) {
				let subnet: string;
				try {
					subnet = choose(size, `${pool}`, [...granted, ...reserved]);
				} catch (error) {
					return (error as HttpError).status === 503;
				}
				const found = new Netmask(subnet);
				const all = [...granted, ...reserved].map((each) => new Netmask(each));
				const good =
					found.toString() === subnet && // its base is no other block's address
					pool.contains(found.base) &&
					pool.contains(found.broadcast ?? "") &&
					found.size - 2 >= size &&
					!all.some(
						(other) => other.contains(found.base) || found.contains(other.base),
					);
				if (!good) return false;
				granted.push(subnet);
			}
			return true;
		},
	);
	t.notThrows(() => fc.assert(property, { numRuns: 300 }));
});

test("as long as a subnet of that size fits, one is found", (t) => {
	const pool = "10.32.0.0/20";
	const property = fc.property(
		fc.shuffledSubarray([...Array(16).keys()], { minLength: 0, maxLength: 15 }),
		(taken) => {
			const used = taken.map((i) => `10.32.${i}.0/24`);
			const lowest = [...Array(16).keys()].find((i) => !taken.includes(i));
			return choose(254, pool, used) === `10.32.${lowest}.0/24`;
		},
	);
	t.notThrows(() => fc.assert(property));
});

test("a pool that is full says how many are in use", (t) => {
	const error = t.throws<HttpError>(() =>
		choose(254, "10.32.0.0/23", ["10.32.0.0/24", "10.32.1.0/25"]),
	);
	t.is(error.status, 503);
	t.is(
		error.message,
		'dhcp: no free subnet for 254 addresses in 10.32.0.0/23 (2 in use); widen "pool", or remove deployments',
	);
});

test("an address is a number and back", (t) => {
	fc.assert(
		fc.property(
			fc.ipV4(),
			(address) => toAddress(toNumber(address)) === address,
		),
	);
	t.is(toNumber("255.255.255.255"), 2 ** 32 - 1);
});
