import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { plan } from "../../cli/plan.ts";
import { parseConfig } from "../../pipeline/config.ts";
import { hostKeys } from "../../pipeline/state/hosts.ts";
import { slotKey } from "../../pipeline/state/slots.ts";
import { Store } from "../../pipeline/state/store.ts";
import { startConsul } from "./consul.ts";

/** Plans a file as host h1 does, over a Consul of its own. @param entries what is in that */
async function planned(
	t: ExecutionContext,
	text: string,
	entries: Record<string, object> = {},
) {
	const consul = await startConsul();
	t.teardown(() => consul.stop());
	const store = new Store({ address: consul.address });
	t.teardown(() => store.close());
	const folder = await mkdtemp(join(tmpdir(), "arpanet-plan-"));
	t.teardown(() => rm(folder, { recursive: true }));
	const file = join(folder, "fig.yml");
	await writeFile(file, text);
	for (const [key, value] of Object.entries(entries)) {
		await store.commit([{ verb: "create", key, value }]);
	}
	const config = parseConfig("endpoints: {}\nadapters: {}\n", "ps.yml");
	config.arpanet.consul.address = consul.address;
	config.arpanet.host.name = "h1";
	config.arpanet.host.address = "10.213.0.1";
	return plan(config, file, { project: "abc" });
}

const HOSTS = ["h1", "h2"].flatMap((name, i): [string, object][] => {
	const address = `10.213.0.${i + 1}`;
	const engine = "tcp://127.0.0.1:1";
	const { record, alive } = hostKeys(name);
	return [
		[record, { name, address, engine, cpus: 2, memory: 2 ** 30 }],
		[alive, { load: 0, address }],
	];
});

test("what is to be left alone is planned for no host but the gateway's", async (t) => {
	const { text, failed } = await planned(
		t,
		"web: {image: w, labels: {arpanet.enabled: 'false'}, environment: ['constraint:node==h2']}",
	);
	t.regex(text, /^abc_web_1 +h1 +\(none of arpanet's: /m);
	t.false(failed);
});

test("what shares something with a container that the other Compose has made goes where that is", async (t) => {
	const { text, failed } = await planned(
		t,
		[
			"services:",
			"  my-db: {image: d}",
			"  near: {image: n, network_mode: 'service:my-db'}",
			"  reader: {image: r, volumes_from: ['my-db:ro']}",
		].join("\n"),
		{
			...Object.fromEntries(HOSTS),
			[slotKey("h2", 1)]: { container: "abc_my-db_1" },
		},
	);
	t.regex(text, /^abc_my-db_1 +h2 +\(is there already\)$/m);
	t.regex(text, /^abc-near-1 +h2 +h1: abc_my-db_1, whose namespace /m);
	t.regex(text, /^abc-reader-1 +h2 +h1: abc_my-db_1, whose volumes /m);
	t.false(failed);
});

test("what has a volume without a name is planned for the host that is asked, as it would be made there", async (t) => {
	const { text } = await planned(
		t,
		[
			"services:",
			"  web: {image: w, volumes: [{type: tmpfs, target: /tmp}]}",
			"  x-short: {image: d, volumes: [/data]}",
			"  y-long: {image: d, volumes: [{type: volume, target: /data}]}",
		].join("\n"),
		{
			...Object.fromEntries(HOSTS),
			...{ [slotKey("h1", 1)]: { container: "a" } },
			...{ [slotKey("h1", 2)]: { container: "b" } },
		},
	);
	t.regex(text, /^abc-web-1 +h2 /m);
	t.regex(text, /^abc-x-short-1 +h1 /m);
	t.regex(text, /^abc-y-long-1 +h1 /m);
});
