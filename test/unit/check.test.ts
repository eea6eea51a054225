import test from "ava";
import { checkPrograms } from "../../cli/checks/programs.ts";
import { parseConfig } from "../../pipeline/config.ts";

const CONFIG = parseConfig("endpoints: {}\nadapters: {}\n", "ps.yml");
const ENCRYPTED = parseConfig(
	"endpoints: {}\nadapters: {}\narpanet: {encrypt: true}\n",
	"ps.yml",
);

const all = (name: string) => `/usr/sbin/${name}`;
const bare = (name: string) => (name === "ip" ? "/usr/sbin/ip" : undefined);
const plain = (name: string) => (name === "wg" ? undefined : all(name));

for (const [config, find, isRoot, level, text] of [
	[CONFIG, all, true, "ok", /^host: has ip, /],
	[CONFIG, all, false, "warn", /has to be root,/],
	[CONFIG, bare, true, "fail", /bridge, iptables-save, iptables-restore not/],
	[ENCRYPTED, plain, true, "fail", /^host: wg not found.*wireguard-tools$/],
] as const) {
	test(`programs of a host${config === ENCRYPTED ? " that encrypts" : ""}: ${level}, ${text}`, (t) => {
		const [finding] = checkPrograms(config, find, isRoot);
		t.is(finding?.level, level);
		t.regex(`${finding?.what}; ${finding?.remedy}`, text);
	});
}
