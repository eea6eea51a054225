import test, { type ExecutionContext } from "ava";
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
	const plugins = "deployment-id placement dhcp network dns-search";
	const host = new Allocator(consul.address, { plugins: plugins.split(" ") });
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
		HostConfig: { NetworkMode: own, DnsSearch },
		NetworkingConfig: { EndpointsConfig: { [own]: {} } },
	});
	return body.HostConfig?.DnsSearch ?? [];
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
