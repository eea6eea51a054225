import test, { type ExecutionContext } from "ava";
import type { ContainerCreate } from "../../pipeline/docker.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";

let consul: TestConsul;

test.before(async () => {
	consul = await startConsul();
});
test.after.always(() => consul?.stop());

/** What a container in `default` searches, whose deployment has further networks. */
async function searchOf(
	t: ExecutionContext,
	deployment: string,
	further: string[],
	DnsSearch: string[] = [],
): Promise<string[]> {
	const made = await settingsOf(t, deployment, further, { DnsSearch });
	return made?.DnsSearch ?? [];
}

async function settingsOf(
	t: ExecutionContext,
	deployment: string,
	further: string[],
	asked: ContainerCreate["HostConfig"],
	servers: string[] = [],
): Promise<ContainerCreate["HostConfig"]> {
	const plugins = "deployment-id placement dhcp network dns-search";
	const host = new Allocator(consul.address, {
		plugins: plugins.split(" "),
		configs: { "dns-search": { domain: "service.consul", servers } },
	});
	t.teardown(() => host.close());
	for (const network of ["default", ...further]) {
		const Labels = {
			"com.docker.compose.project": deployment,
			"com.docker.compose.network": network,
		};
		await host.networks.create(
			{ Name: `${deployment}_${network}`, Labels },
			{},
		);
	}
	const own = `${deployment}_default`;
	const { body } = await host.create(deployment, undefined, {
		HostConfig: { ...asked, NetworkMode: own },
		NetworkingConfig: { EndpointsConfig: { [own]: {} } },
	});
	return body.HostConfig;
}

test.serial(
	"a deployment's networks are searched before what the user asks for",
	async (t) => {
		t.deepEqual(await searchOf(t, "abc", ["back"], ["example.com"]), [
			"abc.service.consul",
			"abc-back.service.consul",
			"example.com",
		]);
	},
);

test.serial(
	"a search list has room in the line that musl reads, however many networks there are",
	async (t) => {
		for (let length = 1; length <= 20; length += 3) {
			const further = Array.from({ length: 12 }, (_, i) =>
				`n${i}`.padEnd(length, "x"),
			);
			const asked = "example.com";
			const found = await searchOf(t, `shop${length}`, further, [asked]);
			t.true(`search ${found.join(" ")}\n`.length <= 255);
			t.is(found[0], `shop${length}.service.consul`);
			t.true(found.includes(asked));
			t.true(found.length > 5);
		}
	},
);

test.serial(
	"a container that is made from another's inspect asks the servers that it would ask without",
	async (t) => {
		const Dns = ["192.0.2.53"];
		const first = await settingsOf(t, "again", [], { Dns });
		t.true((first?.Dns?.length ?? 0) > 1);
		t.deepEqual(await settingsOf(t, "again", [], first), first);
	},
);

test.serial(
	"a host's address that the user names as server is asked, and no other in its place",
	async (t) => {
		const Dns = ["10.213.0.1"];
		const alone = await settingsOf(t, "mine", [], { Dns });
		t.deepEqual(alone?.Dns, Dns);
		const servers = ["192.0.2.53"];
		const beside = await settingsOf(t, "beside", [], { Dns }, servers);
		t.deepEqual(beside?.Dns, [...servers, ...Dns]);
	},
);
