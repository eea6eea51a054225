import test, { type ExecutionContext } from "ava";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

// What people do with docker-compose, as the creates that its two clients make of it.

const PLUGINS = [
	"deployment-id",
	"placement",
	"volumes",
	"dhcp",
	"links",
	"expose",
];

async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	const engines: Record<string, EngineDouble> = {
		...{
			h1: new EngineDouble(),
			h2: new EngineDouble(),
			h3: new EngineDouble(),
		},
	};
	const h1 = new Allocator(consul.address, {
		host: "h1",
		engines,
		plugins: PLUGINS,
	});
	t.teardown(async () => {
		h1.close();
		await consul.stop();
		await Promise.all(Object.values(engines).map((each) => each.clean()));
	});
	await h1.announce(Object.keys(engines));
	await h1.follow();
	const make = async (
		name: string,
		service: string,
		more: ContainerCreate = {},
	) => {
		const { body } = await h1.create("abc", name, {
			...more,
			Labels: {
				"com.docker.compose.project": "abc",
				"com.docker.compose.service": service,
				"com.docker.compose.container-number": /\d+$/.exec(name)?.[0] ?? "",
				...more.Labels,
			},
		});
		const host = body.Labels?.["arpanet.host"] ?? "";
		const id = engines[host]?.create(name, body) ?? "";
		return { host, id, body };
	};
	return { h1, engines, make };
}

test("what shares a namespace goes on beside it when both are made anew, and its volume with it", async (t) => {
	const { h1, engines, make } = await stage(t);
	const vpn = await make("abc-vpn-1", "vpn");
	const app = await make("abc-app-1", "app", {
		HostConfig: {
			NetworkMode: "container:abc-vpn-1",
			Binds: ["abc_data:/data"],
		},
	});
	await engines[app.host]?.engine.createVolume({ Name: "abc_data" });
	await h1.services.volumes.refresh();
	t.is(app.host, vpn.host);
	const anew = await make("0123456789ab_abc-vpn-1", "vpn");
	t.is(anew.host, vpn.host);
	const other = await make("abcdef012345_abc-app-1", "app", {
		HostConfig: {
			NetworkMode: "container:0123456789ab_abc-vpn-1",
			Binds: ["abc_data:/data"],
		},
	});
	t.is(other.host, vpn.host);
});

test("a volume that is a folder of a host stays on that host", async (t) => {
	const { h1, make } = await stage(t);
	await make("abc-other-1", "other", { HostConfig: { Binds: ["/x:/x"] } });
	const DriverOpts = { type: "none", o: "bind", device: "/srv/data" };
	await h1.volumes.creating({ Name: "abc_data", Driver: "", DriverOpts });
	await h1.docker.engine.createVolume({ Name: "abc_data", DriverOpts });
	await h1.services.volumes.refresh();
	const { host } = await make("abc-db-1", "db", {
		HostConfig: { Binds: ["abc_data:/data"] },
	});
	t.is(host, "h1");
});

test("a link may mean another service when its container is made anew", async (t) => {
	const { make } = await stage(t);
	await make("abc-db-1", "db");
	await make("abc-cache-1", "cache");
	const links = (...Links: string[]) => ({ HostConfig: { Links } });
	await make("abc-web-1", "web", links("abc-db-1:store"));
	const name = "0123456789ab_abc-web-1";
	const { body } = await make(name, "web", links("abc-cache-1:store"));
	t.is(body.Labels?.["arpanet.aliases"], "store:cache");
});

test("what Compose has as two services, and arpanet as one, does not take over from each other", async (t) => {
	const { make } = await stage(t);
	const HostConfig = { PortBindings: { "80/tcp": [{ HostPort: "80" }] } };
	const Labels = { "arpanet.service": "web" };
	const blue = await make("abc-blue-1", "blue", { HostConfig, Labels });
	const green = await make("abc-green-1", "green", { HostConfig, Labels });
	t.not(green.host, blue.host);
});

test("a container_name may look like a copy's name", async (t) => {
	const { make } = await stage(t);
	await make("abc-postgres-13", "db");
	const { body } = await make("abc-web-1", "web", {
		HostConfig: { Links: ["abc-postgres-13:store"] },
	});
	t.is(body.Labels?.["arpanet.aliases"], "store:db");
});

test("docker-compose 1.29 makes True and False of true and false", async (t) => {
	const { make } = await stage(t);
	const Labels = { "arpanet.exclusive": "True" };
	for (const i of [1, 2, 3]) await make(`abc_web_${i}`, "web", { Labels });
	await t.throwsAsync(make("abc_web_4", "web", { Labels }));
	await make("abc_api_1", "api", { Labels: { "arpanet.expose": "True" } });
	await t.throwsAsync(
		make("abc_off_1", "off", { Labels: { "arpanet.enabled": "False" } }),
		{ message: "passed through" },
	);
});

test("a port at one host's address is that host's", async (t) => {
	const { make } = await stage(t);
	const HostConfig = {
		PortBindings: { "80/tcp": [{ HostPort: "80", HostIp: "10.213.0.2" }] },
	};
	t.is((await make("abc-web-1", "web", { HostConfig })).host, "h2");
});

test("what is made from another's inspect goes by its own name, unless the user has named its service", async (t) => {
	const { h1 } = await stage(t);
	const serviceOf = async (name: string, Labels?: Record<string, string>) => {
		const { body } = await h1.create("abc", name, Labels ? { Labels } : {});
		return { labels: body.Labels, service: body.Labels?.["arpanet.service"] };
	};
	const first = await serviceOf("web");
	t.is(first.service, "web");
	t.is((await serviceOf("front", first.labels)).service, "front");
	const asked = await serviceOf("db-1", { "arpanet.service": "db" });
	t.is((await serviceOf("db-2", asked.labels)).service, "db");
});

test("a hostname is a name in DNS", async (t) => {
	const { h1, make } = await stage(t);
	await make("abc-mq-1", "mq", { Hostname: "rabbit1" });
	t.is((await h1.store.list("arpanet/aliases/abc/rabbit1/")).length, 1);
});

test("a link goes before a hostname, whichever is there first", async (t) => {
	const { h1, make } = await stage(t);
	const master = () => make("abc-master-1", "master", { Hostname: "mysql" });
	await master();
	await make("abc-proxy-1", "proxy");
	const Links = ["abc-proxy-1:mysql"];
	const { body } = await make("abc-app-1", "app", { HostConfig: { Links } });
	t.is(body.Labels?.["arpanet.aliases"], "mysql:proxy");
	const named = await h1.store.list<{ service: string; hostname?: true }>(
		"arpanet/aliases/abc/mysql/",
	);
	t.deepEqual(
		named.map(({ value }) => [value.service, value.hostname]).sort(),
		[
			["master", true],
			["proxy", undefined],
		],
	);
});

test("what is none of ours is kept out of our networks", async (t) => {
	const { engines, make } = await stage(t);
	const Name = "abc_default";
	const Labels = { "arpanet.network": "abc" };
	engines.h1?.networks.set(Name, { Name, Id: Name, Labels });
	await t.throwsAsync(
		make("abc-off-1", "off", {
			Labels: { "arpanet.enabled": "false" },
			HostConfig: { NetworkMode: "abc_default" },
		}),
		{ message: /is arpanet's/ },
	);
});

test("an image that is pinned by its digest goes by its id where it was not pulled", async (t) => {
	const { engines, make } = await stage(t);
	const Image = "redis@sha256:0000";
	engines.h1?.images.push(Image);
	const hosts = new Set<string>();
	for (const i of [1, 2, 3]) {
		const { host, body } = await make(`abc-web-${i}`, "web", { Image });
		t.is(body.Image, host === "h1" ? Image : `sha256:${Image}`);
		hosts.add(host);
	}
	t.is(hosts.size, 3);
});
