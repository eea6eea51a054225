import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { hostResolvers } from "../../plugins/dns-search.ts";

const reads = test.macro({
	async exec(t, _: string, files: (string | undefined)[], expected: string[]) {
		const folder = await mkdtemp(join(tmpdir(), "arpanet-unit-"));
		t.teardown(() => rm(folder, { recursive: true }));
		const paths = files.map((_, i) => join(folder, `${i}`));
		for (const [i, text] of files.entries()) {
			if (text !== undefined) await writeFile(paths[i] as string, text);
		}
		t.deepEqual(hostResolvers(paths), expected);
	},
	title: (_, what: string) => what,
});

test(
	reads,
	"name servers in their order",
	["nameserver 10.0.0.2\nnameserver 10.0.0.1\n"],
	["10.0.0.2", "10.0.0.1"],
);
test(
	reads,
	"comments, options and odd blanks are passed over",
	[
		"# nameserver 1.1.1.1\nsearch x\n;nameserver 2.2.2.2\nnameserver\t10.0.0.1  \noptions ndots:0",
	],
	["10.0.0.1"],
);
test(
	reads,
	"a stub on loopback is left for the file behind it",
	["nameserver 127.0.0.53\n", "nameserver 192.0.2.1\n"],
	["192.0.2.1"],
);
test(
	reads,
	"beside a real one, one on loopback is left out",
	["nameserver 127.0.0.1\nnameserver 10.0.0.1\n"],
	["10.0.0.1"],
);
test(
	reads,
	"addresses that a container on IPv4 cannot reach are left out",
	["nameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver 10.0.0.1\n"],
	["10.0.0.1"],
);
test(reads, "no file, no name servers", [undefined, undefined], []);
test(reads, "an empty file, no name servers", [""], []);
