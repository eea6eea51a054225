import test from "ava";
import fc from "fast-check";
import { BodyReader } from "../../gateway/body-reader.ts";
import {
	CHUNKED,
	field,
	headEnd,
	MAX_HEAD,
	Malformed,
	parseRequestHead,
	parseResponseHead,
	rewriteHead,
	UNTIL_CLOSE,
} from "../../gateway/http1.ts";

const requests: [
	text: string,
	wanted: Partial<ReturnType<typeof parseRequestHead>>,
][] = [
	[
		"GET /_ping HTTP/1.1\r\nHost: x\r\n",
		{ method: "GET", path: "/_ping", bodyLength: 0, keepAlive: true },
	],
	[
		"GET /v1.41/containers/json?all=1&limit=-1 HTTP/1.1\r\n",
		{
			path: "/v1.41/containers/json",
			target: "/v1.41/containers/json?all=1&limit=-1",
		},
	],
	[
		"GET /images/host//name/json HTTP/1.1\r\n",
		{ path: "/images/host//name/json" },
	],
	[
		"GET http://docker/containers/create?name=x HTTP/1.1\r\n",
		{ path: "/containers/create", target: "/containers/create?name=x" },
	],
	["GET http://docker HTTP/1.1\r\n", { path: "/", target: "/" }],
	["GET http://docker?a=/ HTTP/1.1\r\n", { path: "/", target: "/?a=/" }],
	["OPTIONS * HTTP/1.1\r\n", { path: "*" }],
	[
		"POST /build HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
		{ bodyLength: CHUNKED },
	],
	[
		"POST /build HTTP/1.1\r\ntransfer-encoding:Chunked \r\n",
		{ bodyLength: CHUNKED },
	],
	["POST /x HTTP/1.1\r\nContent-Length: 12\r\n", { bodyLength: 12 }],
	[
		"POST /x HTTP/1.1\r\ncontent-length:12\r\nCONTENT-LENGTH: 12\r\n",
		{ bodyLength: 12 },
	],
	["GET / HTTP/1.0\r\n", { keepAlive: false }],
	["GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n", { keepAlive: true }],
	["GET / HTTP/1.1\r\nConnection: close\r\n", { keepAlive: false }],
	["GET / HTTP/1.1\r\nX-Latin: \xe9\r\n", { keepAlive: true }],
];

for (const [text, wanted] of requests) {
	test(`a request is read: ${JSON.stringify(text)}`, (t) => {
		t.like(parseRequestHead(text), wanted);
	});
}

const malformed = [
	"GET / HTTP/2.0\r\n",
	"GET /\r\n",
	"GET  / HTTP/1.1\r\n",
	"GET / HTTP/1.1 \r\n",
	"G(T / HTTP/1.1\r\n",
	"CONNECT host:80 HTTP/1.1\r\n",
	"GET /\xa0\x00 HTTP/1.1\r\n",
	"GET / HTTP/1.1\r\nHost : x\r\n",
	"GET / HTTP/1.1\r\n folded\r\n",
	"GET / HTTP/1.1\r\nA: b\r\n c\r\n",
	"GET / HTTP/1.1\r\nA: b\nB: c\r\n",
	"GET / HTTP/1.1\r\nA: b\x00\r\n",
	"GET / HTTP/1.1\r\n: b\r\n",
	"GET / HTTP/1.1\r\nno colon\r\n",
	"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
	"POST / HTTP/1.1\r\nContent-Length: 1, 1\r\n",
	"POST / HTTP/1.1\r\nContent-Length: -1\r\n",
	"POST / HTTP/1.1\r\nContent-Length: 0x10\r\n",
	"POST / HTTP/1.1\r\nContent-Length: 99999999999999999\r\n",
	"POST / HTTP/1.1\r\nContent-Length:\r\n",
	"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
	"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
	"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
	"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n",
];

for (const text of malformed) {
	test(`no request: ${JSON.stringify(text)}`, (t) => {
		t.throws(() => parseRequestHead(text), { instanceOf: Malformed });
	});
}

const responses: [
	method: string,
	text: string,
	status: number,
	bodyLength: number,
][] = [
	["GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 200, 2],
	["HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", 200, 0],
	["POST", "HTTP/1.1 204 No Content\r\n", 204, 0],
	["POST", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n", 304, 0],
	["POST", "HTTP/1.1 101 UPGRADED\r\nUpgrade: tcp\r\n", 101, 0],
	["GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", 200, CHUNKED],
	["GET", "HTTP/1.0 200 OK\r\n", 200, UNTIL_CLOSE],
	[
		"POST",
		"HTTP/1.1 200\r\nContent-Type: application/vnd.docker.raw-stream\r\n",
		200,
		UNTIL_CLOSE,
	],
];

for (const [method, text, status, bodyLength] of responses) {
	test(`an answer to ${method} is read: ${JSON.stringify(text)}`, (t) => {
		t.like(parseResponseHead(text, method), { status, bodyLength });
	});
}

test("a head ends after its empty line, also when that comes in two pieces", (t) => {
	t.is(headEnd(Buffer.from("GET / HTTP/1.1\r\n\r\nrest")), 18);
	t.is(headEnd(Buffer.from("GET / HTTP/1.1\r\n\r")), -1);
	t.is(headEnd(Buffer.from("GET / HTTP/1.1\r\n\r\n"), 0, 17), 18);
	t.throws(() => headEnd(Buffer.alloc(MAX_HEAD + 1, "a")), {
		instanceOf: Malformed,
	});
});

test("a header is found by any case, and only by its whole name", (t) => {
	const head = parseRequestHead(
		"GET / HTTP/1.1\r\nX-Content-Type: no\r\ncontent-TYPE:  a/b \r\nEmpty:\r\n",
	);
	t.is(field(head, "content-type"), "a/b");
	t.is(field(head, "empty"), "");
	t.is(field(head, "type"), undefined);
});

test("a rewritten head keeps the other fields, their case and their order", (t) => {
	const head = parseRequestHead(
		"POST /a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nX-B: 1\r\nTrailer: T\r\nx-b: 2\r\n",
	);
	t.is(
		rewriteHead(head, "POST /a?b HTTP/1.1", 5).toString(),
		"POST /a?b HTTP/1.1\r\nhost: x\r\nX-B: 1\r\nx-b: 2\r\nContent-Length: 5\r\n\r\n",
	);
	const answer = parseResponseHead(
		"HTTP/1.1 200 OK\r\nServer: D\r\ncontent-length: 3\r\ncontent-type: a\r\n",
		"GET",
	);
	t.is(
		rewriteHead(answer, undefined, 1, { "Content-Type": "b" }).toString(),
		"HTTP/1.1 200 OK\r\nServer: D\r\ncontent-length: 1\r\ncontent-type: b\r\n\r\n",
	);
});

test("a body ends where it says, whatever pieces it comes in", (t) => {
	fc.assert(
		fc.property(
			fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 })),
			fc.boolean(),
			fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }),
			(pieces, chunked, cuts) => {
				const payload = Buffer.concat(pieces);
				const wire = chunked
					? Buffer.concat([
							...pieces.flatMap((piece) => [
								Buffer.from(`${piece.length.toString(16)};x="y"\r\n`),
								piece,
								Buffer.from("\r\n"),
							]),
							Buffer.from("0\r\nTrailer: x\r\n\r\n"),
						])
					: payload;
				const bytes = Buffer.concat([wire, Buffer.from("NEXT")]);
				const reader = new BodyReader(chunked ? CHUNKED : payload.length);
				const read: Buffer[] = [];
				let at = 0;
				for (let cut = 0; !reader.done; cut++) {
					const piece = bytes.subarray(at, at + (cuts[cut % cuts.length] ?? 1));
					at += reader.read(piece, 0, read);
				}
				return at === wire.length && Buffer.concat(read).equals(payload);
			},
		),
	);
	t.pass();
});

for (const wire of [
	"x\r\n",
	"\r\n",
	"5\nhello",
	"5\r\nhelloX",
	"5\r\nhello\r\n\r\n",
	"fffffffffffffff\r\n",
	"-1\r\n",
	"0\r\nA\nb",
	`1${";".repeat(20_000)}`,
]) {
	test(`no chunk: ${JSON.stringify(wire.slice(0, 20))}`, (t) => {
		t.throws(() => new BodyReader(CHUNKED).read(Buffer.from(wire), 0), {
			instanceOf: Malformed,
		});
	});
}
