import test from "ava";
import { EnginePool, type UpstreamSink } from "../../gateway/upstream.ts";
import type { Tls } from "../../pipeline/tls.ts";
import { rawEngine } from "./helpers.ts";

const SINK: UpstreamSink = {
	upstreamData: () => "written",
	upstreamEnd: () => {},
	upstreamDrain: () => {},
	upstreamClosed: () => {},
};
/** More than a write lets a connection be idle, and less than the pool does. */
const LONG_MS = 6_000;

test("what cannot be sent again goes over no connection that was idle for long", async (t) => {
	const pool = new EnginePool(await rawEngine(t, () => {}));
	t.teardown(() => pool.close());
	const first = pool.take(SINK);
	await new Promise((done) => first.socket.once("connect", done));
	pool.release(first);

	t.is(pool.take(SINK, true), first, "one of a moment ago is as good as new");
	t.true(first.reused);
	pool.release(first);

	first.idleSince -= LONG_MS;
	t.is(pool.take(SINK), first, "a read is sent again, so any is good");
	pool.release(first);

	first.idleSince -= LONG_MS;
	const second = pool.take(SINK, true);
	t.teardown(() => second.socket.destroy());
	t.not(second, first);
	t.false(second.reused);
	t.true(first.socket.destroyed);
});

test("who accepts a connection and says nothing on it, though TLS is spoken there, is given up", async (t) => {
	const { port } = (await rawEngine(t, () => {})) as { port: number };
	const pool = new EnginePool({ host: "127.0.0.1", port, tls: {} as Tls });
	t.teardown(() => pool.close());
	const error = await new Promise<Error | undefined>((upstreamClosed) => {
		pool.take({ ...SINK, upstreamClosed });
	});
	t.is(error?.message, "no connection in 10 s");
});
