import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import test from "ava";
import { Random } from "./random.ts";
import { work } from "./workload.ts";

const clients = test.macro({
	async exec(
		t,
		gateway: RequestListener,
		answered: boolean,
		unanswered: boolean,
	) {
		const server = createServer(gateway).listen(0, "127.0.0.1");
		await once(server, "listening");
		t.teardown(() => {
			server.close();
			server.closeAllConnections();
		});
		const { port } = server.address() as AddressInfo;
		const done = await work(
			{ gateway: () => `tcp://127.0.0.1:${port}` },
			new Random(1),
			AbortSignal.timeout(300),
			100,
		);
		t.is(done.answered > 0, answered);
		t.is(done.unanswered.length > 0, unanswered);
		for (const each of done.unanswered)
			t.regex(each, /^6: \w+ \/.+: no answer$/);
	},
	title: (title = "") => `what clients make of ${title}`,
});

test(
	"a gateway that answers",
	clients,
	(_, answer) => answer.writeHead(204).end(),
	true,
	false,
);
test(
	"a gateway that fails at everything",
	clients,
	(_, answer) => answer.writeHead(502).end(),
	false,
	false,
);
test(
	"a gateway that hangs up",
	clients,
	({ socket }) => socket.destroy(),
	false,
	false,
);
test("a gateway that never answers", clients, () => {}, false, true);
