import test, { type ExecutionContext } from "ava";
import { compose1, compose2 } from "../lab/clients.ts";
import { Stage } from "./stage.ts";

// The other tests run on the Docker of this machine, 20.10. What is here differs from 26 on.

let stage: Stage;

test.before(async () => {
	stage = await Stage.start({ docker: "trixie" });
});
test.afterEach.always((t) => {
	if (!t.passed) t.log(stage?.complaints());
});
test.after.always(async () => {
	await stage?.stop();
});

const wheel = (spokes: number) => `
web: {image: busybox, command: sleep 999, stop_signal: KILL, links: [pricing]}
pricing: {image: busybox, command: sleep 999, stop_signal: KILL, environment: [SPOKES=${spokes}], volumes: [/data]}
`;

/** DNS, from outside and from inside web, answers with exactly the copies of pricing. */
async function exact(t: ExecutionContext, project: string, copies: number) {
	const running = await stage.running(project, "pricing");
	t.is(running.length, copies);
	t.deepEqual(await stage.dns(`pricing.${project}`), running);
	const [web] = await stage.containers(project, "web");
	t.deepEqual(await stage.dnsInside(web?.Id ?? "", "pricing"), running);
}

test.serial(
	"docker-compose 1.29 makes a changed service anew, which it cannot do at this engine itself",
	async (t) => {
		const { ApiVersion = "" } =
			(await stage.engine.get<Record<string, string>>("/version")) ?? {};
		t.true(Number(ApiVersion.split(".")[1]) >= 45, ApiVersion);
		const up = async (spokes: number, ...args: string[]) => {
			const file = await stage.file("wheel.yml", wheel(spokes));
			const command = ["-f", file, "-p", "wheel", "up", "-d", ...args];
			const { code, stderr } = await compose1(stage.arpanet, command);
			t.is(code, 0, stderr);
			const [container] = await stage.containers("wheel", "pricing");
			t.true(container?.Config.Env?.includes(`SPOKES=${spokes}`));
			return container?.Id;
		};
		const first = await up(1);
		await exact(t, "wheel", 1);
		t.not(await up(2), first);
		await exact(t, "wheel", 1);
		await up(2, "--scale", "pricing=3");
		await exact(t, "wheel", 3);
	},
);

test.serial(
	"Compose v2 and its network do the same beside it, each for itself",
	async (t) => {
		const up = async (spokes: number, ...args: string[]) => {
			const services = wheel(spokes).replace(/^/gm, "  ");
			const file = await stage.file("compose.yaml", `services:\n${services}`);
			const command = ["-f", file, "-p", "cart", ...args];
			const { code, stderr } = await compose2(stage.arpanet, command);
			t.is(code, 0, stderr);
		};
		await up(1, "up", "-d");
		await exact(t, "cart", 1);
		await up(2, "up", "-d", "--scale", "pricing=2");
		await exact(t, "cart", 2);
		await exact(t, "wheel", 3);
		await up(2, "down", "-v");
		t.deepEqual(await stage.traces("cart"), []);
	},
);
