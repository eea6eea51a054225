import test from "ava";
import { readLabels } from "../../pipeline/facts.ts";
import { Pipeline } from "../../pipeline/pipeline.ts";
import { PROTOCOL_VERSION, UNANSWERED } from "../../pipeline/protocol.ts";
import { Removals } from "../../pipeline/state/removals.ts";
import { startConsul, type TestConsul } from "./consul.ts";
import { Allocator } from "./dhcp.ts";
import { silent } from "./doubles.ts";

let consul: TestConsul;
let host: Allocator;
let notes: Removals;

test.before(async () => {
	consul = await startConsul();
	host = new Allocator(consul.address);
	notes = new Removals(host.store);
});
test.after.always(async () => {
	host?.close();
	await consul?.stop();
});

/** The hooks of `docker rm`, and what Docker does between them. @param Code its answer @param Body what it says */
async function remove(name: string, Code: number, Body = ""): Promise<void> {
	const pipeline = new Pipeline(host, silent);
	const PowerstripProtocolVersion = PROTOCOL_VERSION;
	const ClientRequest = {
		Method: "DELETE",
		Request: `/containers/${name}?force=1`,
		Body: null,
	};
	const pre = { Type: "pre-hook", PowerstripProtocolVersion } as const;
	await pipeline.preHook({ ...pre, ClientRequest }, {});
	const found = await host.docker.engine.inspectContainer(name);
	if (Code === 204) host.docker.containers.delete(found?.Id ?? "");
	const ServerResponse = { ContentType: "text/plain", Body, Code };
	const post = { Type: "post-hook", PowerstripProtocolVersion } as const;
	await pipeline.postHook({ ...post, ClientRequest, ServerResponse }, {});
}

test.serial(
	"a removal that Docker refused is not taken for that of the next container of the name",
	async (t) => {
		const { body } = await host.create("notes", "notes_web_1");
		const id = host.docker.create("notes_web_1", body);
		await remove("notes_web_1", 409);
		t.deepEqual(await notes.list(), []);
		const renamed = host.docker.containers.get(id);
		if (renamed) renamed.Name = "/notes_old_1";
		await host.containers.renamed("notes_old_1");
		host.docker.create("notes_web_1", {}); // none of ours
		await remove("notes_web_1", 204);
		t.truthy(await host.services.containers.get("notes_old_1"));
	},
);

test.serial(
	"of two removals at once the one that Docker refuses leaves the other its note",
	async (t) => {
		const { body } = await host.create("notes", "notes_twice_1");
		host.docker.create("notes_twice_1", body);
		const said = "removal of container notes_twice_1 is already in progress";
		await remove("notes_twice_1", 409, said);
		t.truthy(await notes.find("notes_twice_1"));
		await remove("notes_twice_1", 204);
		t.is(await notes.find("notes_twice_1"), undefined);
	},
);

test.serial(
	"a removal stays noted while Docker has not answered",
	async (t) => {
		const { body } = await host.create("notes", "notes_db_1");
		host.docker.create("notes_db_1", body);
		await remove("notes_db_1", UNANSWERED);
		t.is((await notes.find("notes_db_1"))?.value.name, "notes_db_1");
	},
);

test.serial("of two notes of one name the last one counts", async (t) => {
	const facts = readLabels({});
	for (const order of ["ab", "ba"]) {
		for (const letter of order) {
			await notes.note(letter.repeat(64), { name: `web-${order}`, facts });
		}
		const found = await notes.find(`/web-${order}`);
		t.is(found && notes.id(found), order.slice(1).repeat(64));
	}
});
