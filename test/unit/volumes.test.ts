import { rm, writeFile } from "node:fs/promises";
import test, { type ExecutionContext } from "ava";
import type { ContainerCreate, VolumeCreate } from "../../pipeline/docker.ts";
import { type Reasons, reasonsKey } from "../../pipeline/state/containers.ts";
import type { VolumeRecord } from "../../pipeline/state/volumes.ts";
import { startConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { EngineDouble } from "./doubles.ts";

const PLUGINS = ["deployment-id", "placement", "volumes", "dhcp"];

/** Three hosts, as the first and the third of them see these. */
async function stage(t: ExecutionContext) {
	const consul = await startConsul();
	const engines: Record<string, EngineDouble> = {
		...{ h1: new EngineDouble(), h2: new EngineDouble() },
		h3: new EngineDouble(),
	};
	const on = (host: string) =>
		new Allocator(consul.address, {
			...{ host, engines, plugins: PLUGINS },
			configs: {
				placement: {
					...{ strategy: "spread", load: 1, overcommit: 0 },
					shared: ["/dev"],
				},
			},
		});
	const [h1, h3] = [on("h1"), on("h3")];
	t.teardown(async () => {
		h1.close();
		h3.close();
		await consul.stop();
		await Promise.all(Object.values(engines).map((each) => each.clean()));
	});
	await h1.announce(Object.keys(engines));
	await Promise.all([h1.follow(), h3.follow()]);
	return {
		...{ h1, h3 },
		engine: (host: string) => engines[host] as EngineDouble,
		/** `docker volume create` at the first host's gateway. */
		async volume(body: VolumeCreate) {
			await h1.volumes.creating(body);
			await h1.docker.engine.createVolume(body);
			await h1.services.volumes.refresh();
			return h1.docker.volumes.get(body.Name ?? "")?.Mountpoint ?? "";
		},
		/** Host of a container that uses the volume `data`. @throws HttpError */
		async place(name: string, by: Allocator, more: ContainerCreate = {}) {
			await by.services.volumes.refresh();
			const HostConfig = { Binds: ["data:/data"] };
			const { body } = await by.create("abc", name, { HostConfig, ...more });
			return body.Labels?.["arpanet.host"] ?? "";
		},
		async sweep() {
			await h1.services.volumes.refresh();
			await h1.reconcile.sweep([]);
		},
		async record() {
			const key = "arpanet/volumes/data";
			return (await h1.store.get<VolumeRecord>(key))?.value;
		},
	};
}

const not = (host: string) => ({ Env: [`constraint:node!=${host}`] });
const NOT_H1 = not("h1");
const REFUSED = { message: /: volume data is on h1/ };

test("an empty volume goes along with its first container, and the one left behind is removed", async (t) => {
	const { h1, volume, place, record, engine, sweep } = await stage(t);
	await volume({ Name: "data" });
	const host = await place("abc_web_1", h1, NOT_H1);
	t.not(host, "h1");
	t.deepEqual(await record(), { host, left: "h1" });
	await sweep();
	t.deepEqual(await record(), { host });
	t.false(engine("h1").volumes.has("data"));
	t.true(engine(host).volumes.has("data"));
});

for (const isMade of [true, false]) {
	test(`a new volume's first container runs ${isMade ? "where that was made" : "on the host that was asked"} although others have less to do: what shares it may mount that host's folders`, async (t) => {
		const { h1, h3, volume, place, record } = await stage(t);
		const [home, by] = isMade ? ["h1", h1] : ["h3", h3];
		for (let i = 0; i < 3; i++) {
			const Env = [`constraint:node==${home}`];
			await h1.create("abc", `abc_app_${i}`, { Env });
		}
		if (isMade) await volume({ Name: "data" });
		await h3.services.slots.refresh();
		t.is(await place("abc_web_1", h3), home);
		t.deepEqual(await record(), { host: home });
		const reasons = await h1.store.get<Reasons>(reasonsKey("abc_web_1"));
		t.is(reasons?.value.because.volumes, `data: new, so ${home} was preferred`);
		const Binds = ["data:/data", "/srv/nginx.conf:/etc/nginx.conf"];
		t.is(await place("abc_proxy_1", by, { HostConfig: { Binds } }), home);
	});
}

test("a container with volumes of its own runs on the host that was asked: others take them by volumes_from, and may mount that host's folders", async (t) => {
	const { h1, h3 } = await stage(t);
	for (let i = 0; i < 3; i++) {
		await h3.create("abc", `abc_app_${i}`, { Env: ["constraint:node==h1"] });
	}
	await h1.services.slots.refresh();
	const place = async (name: string, body: ContainerCreate) =>
		(await h1.create("abc", name, body)).body.Labels?.["arpanet.host"];
	t.is(await place("abc_data_1", { Volumes: { "/data": {} } }), "h1");
	// as Compose 2 and --mount tell of it
	const Mounts = [{ Type: "volume", Target: "/data" }];
	t.is(await place("abc_more_1", { HostConfig: { Mounts } }), "h1");
	const bare = { HostConfig: { Binds: ["/data"] } };
	t.is(await place("abc_bare_1", bare), "h1");
	const tmpfs = [{ Type: "tmpfs", Target: "/tmp" }];
	t.not(await place("abc_none_1", { HostConfig: { Mounts: tmpfs } }), "h1");
	const elsewhere = { ...bare, Env: ["constraint:node!=h1"] };
	t.not(await place("abc_bare_2", elsewhere), "h1"); // to Docker it is no folder of the host
	// as Compose 1 tells of a volume with a name, or a folder
	const HostConfig = { Binds: ["/dev/log:/dev/log"] };
	const mounted = { Volumes: { "/dev/log": {} }, HostConfig };
	t.not(await place("abc_web_1", mounted), "h1");
});

test("a container that is made anew with a volume more stays where it is, whatever host is asked", async (t) => {
	const { h1, place } = await stage(t);
	for (const name of ["abc_app_1", "abc_app_2", "abc_web_1"]) {
		await h1.create("abc", name, { Env: ["constraint:node==h2"] });
	}
	await h1.services.slots.refresh();
	t.is(await place("0123456789ab_abc_web_1", h1), "h2");
	const { body } = await h1.create("abc", "0123456789ab_abc_app_1", {
		Volumes: { "/data": {} },
	});
	t.is(body.Labels?.["arpanet.host"], "h2");
});

test("of a lost host's containers those with volumes of their own do not all go to the leader's", async (t) => {
	const { h1 } = await stage(t);
	const [name, Volumes] = ["abc_web_1", { "/data": {} }];
	const on = (host: string) => ({ Env: [`constraint:node==${host}`] });
	await h1.create("abc", name, { Volumes, ...on("h2") });
	await h1.create("abc", "abc_app_1", on("h1"));
	await h1.services.slots.refresh();
	const entry = await h1.services.containers.get(name);
	if (!entry) return t.fail();
	const body = await h1.containers.create({
		...{ name, headers: {}, onlyHost: undefined },
		body: { Volumes, Labels: { "arpanet.deployment": "abc" }, ...not("h2") },
		instead: { entry, connected: {}, operations: () => [] },
	});
	t.is(body?.Labels?.["arpanet.host"], "h3");
});

test("a volume that was filled past us stays at home: its host's gateway sees so at once, the others after its sweep", async (t) => {
	const { h1, h3, volume, place, record, sweep } = await stage(t);
	await writeFile(`${await volume({ Name: "data" })}/dump.sql`, "");
	await t.throwsAsync(place("abc_web_1", h1, NOT_H1), REFUSED);
	await sweep();
	t.deepEqual(await record(), { host: "h1" });
	await t.throwsAsync(place("abc_web_1", h3, NOT_H1), REFUSED);
	t.is(await place("abc_web_1", h3), "h1");
});

test("a volume that is left behind and not empty is never removed, nor one into which nobody can look", async (t) => {
	for (const spoil of [
		(folder: string) => writeFile(`${folder}/dump.sql`, ""),
		(folder: string) => rm(folder, { recursive: true }),
	]) {
		const { h3, volume, place, record, engine, sweep } = await stage(t);
		await spoil(await volume({ Name: "data" }));
		const host = await place("abc_web_1", h3, NOT_H1);
		t.deepEqual(await record(), { host, left: "h1" });
		await sweep();
		t.deepEqual(await record(), { host });
		t.true(engine("h1").volumes.has("data"));
	}
});

test("a volume that every host reaches over the network is bound to none, from its first container on", async (t) => {
	const { h1, volume, place, record } = await stage(t);
	const DriverOpts = { type: "nfs", o: "addr=10.0.0.9", device: ":/data" };
	await volume({ Name: "data", Driver: "local", DriverOpts });
	t.is(await record(), undefined);
	const Labels = { "arpanet.exclusive": "true", "arpanet.service": "web" };
	const hosts = [];
	for (const i of [1, 2, 3])
		hosts.push(await place(`abc_web_${i}`, h1, { Labels }));
	t.deepEqual(hosts.sort(), ["h1", "h2", "h3"]);
	t.is(await record(), undefined);
});
