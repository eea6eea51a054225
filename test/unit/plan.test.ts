import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { plan } from "../../cli/plan.ts";
import { parseConfig } from "../../pipeline/config.ts";
import { startConsul } from "./consul.ts";

test("what is to be left alone is planned for no host but the gateway's", async (t) => {
	const consul = await startConsul();
	t.teardown(() => consul.stop());
	const folder = await mkdtemp(join(tmpdir(), "arpanet-plan-"));
	t.teardown(() => rm(folder, { recursive: true }));
	const file = join(folder, "fig.yml");
	await writeFile(
		file,
		"web: {image: w, labels: {arpanet.enabled: 'false'}, environment: ['constraint:node==h2']}",
	);
	const config = parseConfig("endpoints: {}\nadapters: {}\n", "ps.yml");
	config.arpanet.consul.address = consul.address;
	config.arpanet.host.name = "h1";
	const { text, failed } = await plan(config, file, { project: "abc" });
	t.regex(text, /^abc_web_1 +h1 +\(none of arpanet's: /m);
	t.false(failed);
});
