import test from "ava";
import { judge, witnesses } from "./checker/judge.ts";
import type { Container, Network, Picture } from "./checker/look.ts";

/** A network of two hosts with a container on each, and all that is on record of it. */
function whole(): Picture {
	const scope = "abc";
	const subnet = "10.32.0.0/24";
	const keys = new Map<string, unknown>([
		[`arpanet/networks/${scope}`, { scope, subnet, vni: 1, implicit: true }],
		["arpanet/subnets/10.32.0.0-24", scope],
	]);
	const containers: Container[] = [];
	const networks: Network[] = [];
	for (const i of [1, 2]) {
		const host = `h${i}`;
		const [bridge, address] = [`10.32.0.${i}`, `10.32.0.10${i}`];
		const name = `${scope}_web_${i}`;
		containers.push({
			...{ host, id: `c${i}`, name, running: true, deployment: scope },
			...{ service: "web", address, actual: [address] },
		});
		networks.push({
			...{ host, id: `n${i}`, name: "abc_default", scope, subnet },
			gateway: bridge,
		});
		keys.set(`arpanet/containers/${name}`, {});
		keys.set(`arpanet/leases/${scope}/${address}`, { host, container: name });
		keys.set(`arpanet/leases/${scope}/${bridge}`, { host });
		keys.set(`arpanet/gateways/${scope}/${host}`, bridge);
		keys.set(`arpanet/network-ids/${scope}/${host}`, {
			...{ name: "abc_default", id: `n${i}` },
			...(i === 1 ? { home: true } : {}),
		});
	}
	const addresses = containers.map(({ address }) => address);
	const answers = new Map([1, 2].map((i) => [`h${i}`, addresses]));
	return {
		...{ containers, networks, keys },
		names: new Map([["web.abc", answers]]),
		catalog: new Map([["web.abc", addresses]]),
	};
}

test("a picture in which all is right has nothing wrong", (t) => {
	const picture = whole();
	t.deepEqual(judge(picture), []);
	t.deepEqual(witnesses(picture.containers, picture), []);
});

const sees = test.macro({
	exec(t, breaks: (picture: Picture) => unknown, says: string) {
		const { containers } = whole();
		const picture = whole();
		breaks(picture);
		const found = [...judge(picture), ...witnesses(containers, picture)];
		t.true(found.includes(says), found.join("\n"));
	},
	title: (title = "") => `the checker sees: ${title}`,
});

test(
	"two networks overlap",
	sees,
	({ networks }) => {
		const of = { ...(networks[0] as Network), scope: "xyz", name: "xyz_back" };
		networks.push({ ...of, subnet: "10.32.0.128/25", gateway: "10.32.0.129" });
	},
	"1: abc and xyz overlap",
);
test(
	"an alias of which a start does not hear",
	sees,
	({ keys }) => {
		keys.set("arpanet/aliases/abc/cache/10.32.0.101", { service: "web" });
	},
	"3: arpanet/aliases/abc/cache/10.32.0.101 is there, and nothing says that abc has aliases",
);
test(
	"a network has two subnets",
	sees,
	({ networks: [one] }) => {
		(one as Network).subnet = "10.33.0.0/24";
	},
	"1: abc is 10.33.0.0/24 and 10.32.0.0/24",
);
test(
	"two bridges have one address",
	sees,
	({ networks: [, two], keys }) => {
		(two as Network).gateway = "10.32.0.1";
		keys.set("arpanet/gateways/abc/h2", "10.32.0.1");
	},
	"1: the bridges of abc_default on h1 and abc_default on h2 both have abc 10.32.0.1",
);
test(
	"a bridge's address is not the one on record",
	sees,
	({ keys }) => keys.set("arpanet/gateways/abc/h2", "10.32.0.9"),
	"2: the bridge of abc on h2 is 10.32.0.2, on record is 10.32.0.9",
);
test(
	"a bridge's lease is lost",
	sees,
	({ keys }) => keys.delete("arpanet/leases/abc/10.32.0.2"),
	"2: the bridge of abc on h2 is 10.32.0.2, whose lease is undefined",
);
test(
	"a bridge's lease is a container's",
	sees,
	({ keys }) =>
		keys.set("arpanet/leases/abc/10.32.0.2", {
			...{ host: "h2", container: "abc_web_2" },
		}),
	'2: the bridge of abc on h2 is 10.32.0.2, whose lease is {"host":"h2","container":"abc_web_2"}',
);
test(
	"a lease is of no bridge",
	sees,
	({ keys }) => keys.set("arpanet/leases/abc/10.32.0.9", { host: "h2" }),
	"2: arpanet/leases/abc/10.32.0.9 is of a bridge of h2 that is not there",
);
test(
	"a host's place in a network where it has no bridge",
	sees,
	({ keys }) => keys.set("arpanet/gateways/abc/h3", "10.32.0.3"),
	"2: arpanet/gateways/abc/h3 is of a bridge that is not there",
);
test(
	"a container's lease is of another host",
	sees,
	({ keys }) =>
		keys.set("arpanet/leases/abc/10.32.0.102", {
			...{ host: "h1", container: "abc_web_2" },
		}),
	"2: abc_web_2 is on h2, its lease is of h1",
);
test(
	"a network that was made for containers has none",
	sees,
	({ keys }) => {
		keys.delete("arpanet/leases/abc/10.32.0.101");
		keys.delete("arpanet/leases/abc/10.32.0.102");
	},
	"2: abc is on record, and no container is in it",
);
test(
	"a container is there whose create was refused",
	sees,
	({ containers }) => {
		const one = containers[0] as Container;
		containers.push({ ...one, name: "refused_web_h1", deployment: "refused" });
	},
	"5: refused_web_h1 on h1 is there, and was refused",
);
test(
	"what a refused create has written is there",
	sees,
	({ keys }) => keys.set("arpanet/names/refused_web_h1", { id: "c9" }),
	"5: arpanet/names/refused_web_h1 is there, and was refused",
);
test(
	"an engine's id of a network is not the one on record",
	sees,
	({ networks: [, two] }) => {
		(two as Network).id = "n9";
	},
	"6: the bridge of abc on h2 is n9, on record is n2",
);
test(
	"a network has no id for clients",
	sees,
	({ keys }) => keys.set("arpanet/network-ids/abc/h1", { id: "n1" }),
	"6: abc has 0 ids for clients",
);
test(
	"a witness is gone",
	sees,
	({ containers }) => containers.shift(),
	"7: abc_web_1 (h1) had 10.32.0.101, and is gone",
);
test(
	"a witness does not run",
	sees,
	({ containers: [one] }) =>
		Object.assign(one as Container, { running: false, actual: [] }),
	"7: abc_web_1 (h1) had 10.32.0.101, and is stopped, with ",
);
