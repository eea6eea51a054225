import { type EventEmitter, once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import test from "ava";
import { docker } from "../lab/clients.ts";
import type { Host } from "../lab/lab.ts";
import { showComplaints } from "./complaints.ts";
import { Members } from "./members.ts";
import { eventually, until } from "./stage.ts";

let members: Members;

test.before(async () => {
	members = await Members.start();
});
showComplaints(() => members?.arpanets ?? [], /"level":[45]0|lead/);
test.after.always(() => members?.stop());

/** Answers each packet with itself. */
const ECHO = `const s = require("dgram").createSocket("udp4");
s.on("message", (m, { port, address }) => s.send(m, port, address));
s.bind(7, () => console.log("ready"));
process.stdin.on("end", () => process.exit()).resume();`;
/** Sends a packet every 20 ms until its input ends, and then says how many came back. */
const PINGS = `const s = require("dgram").createSocket("udp4");
let sent = 0, received = 0; s.on("message", () => received++);
const timer = setInterval(() => { sent++; s.send("x", 7, process.argv[1]); }, 20);
process.stdin.on("end", () => { clearInterval(timer); setTimeout(() => {
console.log(sent + " sent, " + received + " received"); process.exit(); }, 2000); }).resume();`;

/** Runs a script of Node's in the network of a container. */
async function inside(host: Host, name: string, ...script: string[]) {
	const { stdout } = await docker(host, [
		...["inspect", "-f", "{{.State.Pid}}", name],
	]);
	return host.spawn(
		"nsenter",
		["--target", stdout.trim(), "--net", process.execPath, "-e", ...script],
		{ stdio: ["pipe", "pipe", "inherit"] },
	);
}

test.serial(
	"arpanet is started again on one host after the other: what clients do goes on, and no packet is lost",
	async (t) => {
		const [first, , third] = members.hosts;
		const ends = await Promise.all(
			(["ru_a_1", "ru_b_1"] as const).map(async (name, i) => {
				const run = [
					...["run", "-d", "--name", name, "--init", "-e"],
					`constraint:node==${(i === 0 ? first : third).name}`,
					...["busybox", "sleep", "9999"],
				];
				const { code, stderr } = await eventually(
					() => docker(members.gateway(), run), // the host that slept in the last test may not be back yet
					({ code }) => code === 0,
					60,
				);
				t.is(code, 0, stderr);
				const { stdout } = await docker(members.gateway(), ["inspect", name]);
				return JSON.parse(stdout)[0].Config.Labels["arpanet.address"] as string;
			}),
		);
		const to = ends[1] as string;
		await until(
			() => docker(first, ["exec", "ru_a_1", "ping", "-c", "1", to]),
			({ code }) => code === 0,
			30,
		);
		const echo = await inside(third, "ru_b_1", ECHO);
		t.teardown(() => echo.kill());
		await once(echo.stdout as EventEmitter, "data");
		const pings = await inside(first, "ru_a_1", PINGS, to);
		t.teardown(() => pings.kill());
		let counted = "";
		pings.stdout?.on("data", (chunk) => (counted += chunk));

		let over = false;
		t.teardown(() => {
			over = true;
		});
		const wrong: string[] = [];
		let done = 0;
		/** What a stock client does, and does again where nobody listens; anything else must not fail twice for long. */
		const insist = async (host: Host, args: string[]): Promise<void> => {
			const target = `tcp://${host.address}:2375`;
			const end = performance.now() + 60_000;
			for (;;) {
				const { code, stderr } = await docker(target, args);
				if (code === 0) {
					done++;
					return;
				}
				const isAway = stderr === "" || /Cannot connect/i.test(stderr);
				if (!isAway) t.log(`${host.name}: ${args.join(" ")}: ${stderr}`);
				if (performance.now() > end) {
					wrong.push(`${host.name}: ${args.join(" ")}: ${stderr}`);
					return;
				}
				await sleep(200);
			}
		};
		const clients = members.hosts.map(async (host, i) => {
			for (let round = 1; !over; round++) {
				const name = `ru_c${i}_${round}`;
				await insist(host, [
					...["create", "--name", name, "--init"],
					...["busybox", "sleep", "9999"],
				]);
				await insist(host, ["start", name]);
				await insist(host, ["exec", name, "true"]);
				await insist(host, ["stop", "-t", "1", name]);
				await insist(host, ["rm", name]);
			}
		});
		for (const host of members.hosts) {
			// without an init it does not heed the signal: its stop is under way when arpanet is told to
			const slow = await docker(members.gateway(host), [
				...["run", "-d", "--name", `ru_${host.name}_1`],
				...["busybox", "sleep", "9999"],
			]);
			t.is(slow.code, 0, slow.stderr);
			const id = slow.stdout.trim();
			const url = `http://${host.address}:2375/containers/${id}/stop?t=2`;
			const stopping = fetch(url, { method: "POST" });
			await sleep(500);
			t.is(await members.gateway(host).stop(), 0);
			t.is((await stopping).status, 204);
			await members.startAgain(host);
		}
		over = true;
		await Promise.all(clients);
		t.deepEqual(wrong, []);
		t.true(done > 12, `${done}`);
		pings.stdin?.end();
		const text = await eventually(
			async () => counted,
			(said) => said.includes("received"),
		);
		const [, sent, received] = /(\d+) sent, (\d+) received/.exec(text) ?? [];
		t.is(received, sent);
		t.true(Number(sent) > 100, text);
		const all = ["ru_a_1", "ru_b_1", "ru_h1_1", "ru_h2_1", "ru_h3_1"];
		t.is((await docker(members.gateway(), ["rm", "-f", ...all])).code, 0);
	},
);
