import test from "ava";
import fc from "fast-check";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { Use, withoutAddress } from "../../pipeline/state/use.ts";
import {
	expressions,
	holds,
	moveToLabels,
	parse,
} from "../../plugins/placement/expressions.ts";
import { fixedPorts } from "../../plugins/placement/ports.ts";
import { reserved } from "../../plugins/placement/resources.ts";

const key = fc.stringMatching(/^[a-z_][a-z0-9_.-]+$/);
const operator = fc.constantFrom("==", "!=");
const word = fc.stringMatching(/^[a-zA-Z0-9_.:-]+$/);

test("whatever is written as an expression comes out of it again", (t) => {
	fc.assert(
		fc.property(key, operator, fc.boolean(), word, (k, op, soft, value) => {
			const text = `${k}${op}${soft ? "~" : ""}${value}`;
			t.like(parse("constraint", text), { key: k, operator: op, soft, text });
		}),
	);
});

test("a word meets itself alone; == and != never hold both, nor neither", (t) => {
	fc.assert(
		fc.property(key, word, fc.array(word), (k, value, values) => {
			const is = parse("constraint", `${k}==${value}`);
			const isNot = parse("constraint", `${k}!=${value}`);
			t.is(holds(is, values), values.includes(value));
			t.is(holds(isNot, values), !values.includes(value));
		}),
	);
});

test("a glob meets what begins and ends as it does", (t) => {
	fc.assert(
		fc.property(word, word, word, (head, middle, tail) => {
			const { matches } = parse("affinity", `container==${head}*${tail}`);
			t.true(matches([head + middle + tail]));
			t.true(matches([head + tail]));
			t.is(
				matches([middle]),
				middle.length >= head.length + tail.length &&
					middle.startsWith(head) &&
					middle.endsWith(tail),
			);
		}),
	);
});

test("no text makes reading an expression fail but with an error for the user", (t) => {
	fc.assert(
		fc.property(fc.string(), (text) => {
			try {
				parse("constraint", text).matches(["h1", ""]);
			} catch (error) {
				t.is((error as { status?: number }).status, 400, `${error}`);
			}
		}),
	);
	t.pass();
});

for (const [text, value, met] of [
	["node==h1", "h1", true],
	["node==h1", "h10", false],
	["node!=h1", "h2", true],
	["disk==", "", undefined],
	["node=h1", "h1", undefined],
	["1x==y", "y", undefined],
	["node==/[/", "x", undefined],
	["zone==eu-*", "eu-1", true],
	["zone==*u-*", "eu-1", true],
	["zone==e.-1", "eu-1", false],
	["zone==/e.-1/", "eu-1", true],
	["zone==/^u/", "eu-1", false],
	["zone==/(?i)EU/", "eu-1", true],
	["zone!=/eu/", "eu-1", false],
	["zone==~eu-1", "us-1", false],
] as const) {
	const says = met === undefined ? "is refused" : met ? "is met" : "is not met";
	test(`${text} ${says} by "${value}"`, (t) => {
		const look = () => holds(parse("constraint", text), [value]);
		if (met === undefined) t.throws(look, { message: /constraint "/ });
		else t.is(look(), met);
	});
}

test("expressions come from the environment, from labels, and from Swarm's label, each once", (t) => {
	const body: ContainerCreate = {
		Env: ["A=b", "constraint:node==h1", "affinity:image==x"],
		Labels: {
			"constraint:disk": "=ssd",
			"com.docker.swarm.constraints": '["node==h1","zone!=eu"]',
		},
	};
	const texts = () => expressions("constraint", body).map(({ text }) => text);
	t.deepEqual(texts().sort(), ["disk==ssd", "node==h1", "zone!=eu"]);
	moveToLabels(body);
	t.deepEqual(body.Env, ["A=b"]);
	t.deepEqual(texts().sort(), ["disk==ssd", "node==h1", "zone!=eu"]);
	t.is(body.Labels?.["com.docker.swarm.affinities"], '["image==x"]');
});

for (const label of ["no json", "{}", "[1]", '"node==h1"']) {
	test(`Swarm's label with ${label} says what it should be`, (t) => {
		const Labels = { "com.docker.swarm.constraints": label };
		t.throws(() => expressions("constraint", { Labels }), {
			message: /is a JSON list such as/,
		});
	});
}

test("what a body says of ports and resources is read, whatever is in it", (t) => {
	fc.assert(
		fc.property(
			fc.object({
				key: fc.constantFrom("PortBindings", "Memory", "80/tcp", "HostPort"),
			}),
			(HostConfig) => {
				t.true(Array.isArray(fixedPorts({ HostConfig })));
				const { cpus, memory } = reserved({ HostConfig });
				t.true(cpus >= 0 && memory >= 0);
			},
		),
	);
});

for (const [bindings, expected] of [
	[{ "80/tcp": [{ HostPort: "8080" }] }, ["8080/tcp"]],
	[{ "80": [{ HostPort: "8080", HostIp: "0.0.0.0" }] }, ["8080/tcp"]],
	[{ "53/udp": [{ HostPort: "53", HostIp: "10.0.0.1" }] }, ["10.0.0.1:53/udp"]],
	[
		{
			"80/tcp": [
				{ HostPort: "8000-8010" },
				{ HostPort: "" },
				{ HostPort: "0" },
			],
		},
		[],
	],
	[{ "80/tcp": null }, []],
] as const) {
	test(`${JSON.stringify(bindings)} asks for ${expected.join() || "no fixed port"}`, (t) => {
		const HostConfig = { PortBindings: bindings };
		t.deepEqual(fixedPorts({ HostConfig }), [...expected]);
	});
}

test("the use of a host is what its containers are, in whatever order they come and go", (t) => {
	const placed = fc.record({
		container: fc.string(),
		deployment: fc.constantFrom("abc", "xyz"),
		service: fc.option(fc.constantFrom("web", "db"), { nil: undefined }),
		copy: fc.integer({ min: 1, max: 5 }),
		cpus: fc.integer({ min: 0, max: 4 }),
		memory: fc.integer({ min: 0, max: 9 }),
		ports: fc.subarray(["80/tcp", "10.0.0.1:80/tcp", "53/udp"]),
	});
	fc.assert(
		fc.property(fc.array(placed), fc.array(fc.nat()), (all, leaving) => {
			const containers = all.map(({ service, ...rest }) => ({
				...rest,
				...(service ? { service } : {}),
			}));
			const use = new Use();
			for (const each of containers) use.add(each);
			const gone = new Set(
				leaving
					.map((i) => containers[i % containers.length])
					.filter((each) => each !== undefined),
			);
			const without = use.without(gone);
			for (const each of gone) use.remove(each);
			const left = containers.filter((each) => !gone.has(each));
			for (const seen of [use, without]) {
				t.is(seen.count, left.length);
				t.is(
					seen.memory,
					left.reduce((sum, { memory }) => sum + memory, 0),
				);
				t.is(
					seen.copies("abc", "web"),
					left.filter(
						({ deployment, service }) =>
							deployment === "abc" && service === "web",
					).length,
				);
				const onPort = left.filter(({ ports }) =>
					ports.some((port) => withoutAddress(port) === "80/tcp"),
				);
				t.deepEqual(new Set(seen.askFor("80/tcp")), new Set(onPort));
				const free = seen.freeCopy({
					container: "",
					deployment: "abc",
					service: "web",
				});
				t.false(
					left.some(
						({ deployment, service, copy }) =>
							deployment === "abc" && service === "web" && copy === free,
					),
				);
			}
		}),
	);
});
