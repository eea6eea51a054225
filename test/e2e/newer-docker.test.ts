import test, { type ExecutionContext } from "ava";
import { compose1, compose2 } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { eventually, Stage } from "./stage.ts";

// The other tests run on the Docker of this machine, 20.10. What is here differs from 26 on.

const wheel = (spokes: number) => `
web: {image: busybox, command: sleep 999, stop_signal: KILL, links: [pricing]}
pricing: {image: busybox, command: sleep 999, stop_signal: KILL, environment: [SPOKES=${spokes}], volumes: [/data]}
`;

async function start(t: ExecutionContext, engineConfig = {}): Promise<Stage> {
	const stage = await Stage.start({ docker: "trixie", engineConfig });
	t.teardown(async () => {
		if (!t.passed) t.log(stage.complaints());
		await stage.stop();
	});
	const version = await stage.engine.get<Record<string, string>>("/version");
	t.regex(version?.ApiVersion ?? "", /^1\.(4[5-9]|[5-9]\d)$/);
	return stage;
}

/** docker-compose 1.29's `up` of a file that has changed, or of one that is new. */
async function up(
	stage: Stage,
	target: Stage["arpanet"] | Host,
	project: string,
	spokes: number,
	...args: string[]
) {
	const file = await stage.file(`${project}.yml`, wheel(spokes));
	return compose1(target, ["-f", file, "-p", project, "up", "-d", ...args]);
}

/** DNS, from outside and from inside web, answers with exactly the copies of pricing. */
async function exact(
	t: ExecutionContext,
	stage: Stage,
	project: string,
	copies: number,
) {
	const running = await stage.running(project, "pricing");
	t.is(running.length, copies);
	t.deepEqual(await stage.dns(`pricing.${project}`), running);
	const [web] = await stage.containers(project, "web");
	t.deepEqual(await stage.dnsInside(web?.Id ?? "", "pricing"), running);
}

for (const [store, engineConfig] of [
	["overlay2", {}],
	["containerd", { features: { "containerd-snapshotter": true } }],
] as const) {
	test.serial(
		`docker-compose 1.29 makes a changed service anew, which it cannot do at this engine itself: image store ${store}`,
		async (t) => {
			const stage = await start(t, engineConfig);
			const first = await up(stage, stage.host, "alone", 1);
			t.is(first.code, 0, first.stderr);
			const second = await up(stage, stage.host, "alone", 2);
			t.regex(second.stderr, /ContainerConfig|NoneType/);

			const spin = async (spokes: number, ...args: string[]) => {
				const spun = await up(stage, stage.arpanet, "wheel", spokes, ...args);
				t.is(spun.code, 0, spun.stderr);
				const [container] = await stage.containers("wheel", "pricing");
				t.true(container?.Config.Env?.includes(`SPOKES=${spokes}`));
				return container?.Id;
			};
			const before = await spin(1);
			await exact(t, stage, "wheel", 1);
			t.not(await spin(2), before);
			await exact(t, stage, "wheel", 1);
			await spin(2, "--scale", "pricing=3");
			await exact(t, stage, "wheel", 3);
			if (store === "overlay2") await beside(t, stage);
		},
	);
}

test.serial(
	"what ends with its engine leaves DNS, though the engine answers no more by then",
	async (t) => {
		const stage = await start(t);
		const { code, stderr } = await up(stage, stage.arpanet, "halt", 1);
		t.is(code, 0, stderr);
		await exact(t, stage, "halt", 1);
		await stage.host.stopEngine();
		const left = await eventually(
			() => stage.dns("pricing.halt"),
			(found) => found.length === 0,
		);
		t.deepEqual(left, []);
	},
);

/** Compose v2 and its network do the same, each project for itself. */
async function beside(t: ExecutionContext, stage: Stage): Promise<void> {
	const cart = async (spokes: number, ...args: string[]) => {
		const services = wheel(spokes).replace(/^/gm, "  ");
		const file = await stage.file("compose.yaml", `services:\n${services}`);
		const command = ["-f", file, "-p", "cart", ...args];
		const { code, stderr } = await compose2(stage.arpanet, command);
		t.is(code, 0, stderr);
	};
	await cart(1, "up", "-d");
	await exact(t, stage, "cart", 1);
	await cart(2, "up", "-d", "--scale", "pricing=2");
	await exact(t, stage, "cart", 2);
	await exact(t, stage, "wheel", 3);
	await cart(2, "down", "-v");
	t.deepEqual(await stage.traces("cart"), []);
}
