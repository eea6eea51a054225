import { join } from "node:path";
import test from "ava";
import { arpanetProgram, startArpanet } from "../lab/arpanet.ts";
import { docker } from "../lab/clients.ts";
import { loadImages } from "../lab/images.ts";
import { startLab } from "../lab/lab.ts";
import { installSample, samples } from "./command.ts";

test("ps shows what runs, where, and by which name; the sample plugins took part", async (t) => {
	const lab = await startLab();
	t.teardown(() => lab.stop());
	const [host] = lab.hosts;
	if (!host) return t.fail();
	await loadImages(host, ["busybox"]);
	await installSample(host.dataDir);
	const arpanet = await startArpanet(host, {
		configure: ({ arpanet: { plugins } }) => {
			plugins.splice(
				1,
				0,
				{ [join(samples, "team-label.js")]: { team: "shop" } },
				{ "arpanet-plugin-quiet-hosts": { prefer: [host.name] } },
			);
		},
	});
	const ps = async (...args: string[]) => {
		const { code, stdout, stderr } = await host.exec("node", [
			arpanetProgram,
			...["ps", "-c", arpanet.config, ...args],
		]);
		t.is(code, 0, stderr);
		return stdout;
	};
	const run = async (...args: string[]) => {
		const { code, stdout, stderr } = await docker(arpanet, [
			"run",
			"-d",
			...args,
		]);
		t.is(code, 0, stderr);
		return stdout.trim();
	};

	t.regex(
		await ps(),
		/^No deployments\. .*\n {2}DOCKER_HOST=tcp:\S+ docker-compose /,
	);

	const id = await run("--name=abc_pricing_1", "busybox", "sleep", "999");
	await run("--name=abc_web_2", "busybox", "sleep", "999");
	await docker(arpanet, ["stop", "-t", "0", "abc_web_2"]);

	const { stdout: environment } = await docker(arpanet, [
		...["exec", id, "env"],
	]);
	t.regex(environment, /^TEAM=shop$/m);
	const label = await docker(arpanet, [
		...["inspect", "-f", '{{index .Config.Labels "arpanet.team"}}', id],
	]);
	t.is(label.stdout, "shop\n");

	const shown = (await ps()).split("\n");
	t.regex(shown[0] ?? "", /^abc {2}\(abc_default 10\.32\.\d+\.0\/24\)$/);
	t.regex(
		shown[1] ?? "",
		/^ {2}SERVICE +COPY +CONTAINER +HOST +ADDRESS +STATE +DNS +NAME$/,
	);
	t.regex(
		shown[2] ?? "",
		/^ {2}pricing +1 +abc_pricing_1 +h1 +10\.32\.\d+\.\d+ +Up .* +passing +pricing\.abc\.service\.consul$/,
	);
	t.regex(
		shown[3] ?? "",
		/^ {2}web +2 +abc_web_2 +h1 +10\.32\.\d+\.\d+ +Exited .* +- +web\.abc\.service\.consul$/,
	);
	t.is(shown[1]?.indexOf("NAME"), shown[2]?.indexOf("pricing.abc"));

	const [deployment] = JSON.parse(await ps("--json"));
	t.is(deployment.deployment, "abc");
	t.is(deployment.copies[0].container, "abc_pricing_1");
	t.is(deployment.copies[0].addresses[0].dns, "passing");

	await host.stopEngine();
	const without = await ps();
	t.regex(without, /abc_pricing_1 .* unknown /);
	t.regex(without, /\(no states: engine \S+ does not answer/);
});
