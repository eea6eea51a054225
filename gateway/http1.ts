/**
 * HTTP/1.1 as far as a proxy needs it: where a head ends, what it says about its
 * body, and where that body ends. Bytes are never rewritten here; what is read
 * strictly is what decides where one message stops and the next begins.
 */

/** A body in chunks (`Head.bodyLength`). */
export const CHUNKED = -1;
/** A body that ends when the connection does (`Head.bodyLength`). */
export const UNTIL_CLOSE = -2;

/** Most bytes a head may have: what Go's server, and so the engine, takes. */
export const MAX_HEAD = 1 << 20;

const HEAD_END = Buffer.from("\r\n\r\n");
const REQUEST_LINE =
	/^([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e\x80-\xff]+) HTTP\/1\.([01])\r\n/;
const STATUS_LINE =
	/^HTTP\/1\.([01]) ([1-9]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?\r\n/;
const FIELD =
	/([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r\n/y;

/** The bytes are no HTTP/1.1 that can be told apart from the next message. */
export class Malformed extends Error {}

export interface Head {
	/** The head as it came, in latin1, without the empty line that ends it. */
	text: string;
	/** Bytes of the body, `CHUNKED` or `UNTIL_CLOSE`. */
	bodyLength: number;
	/** Whether the sender lets the connection serve another message. */
	keepAlive: boolean;
}

export interface RequestHead extends Head {
	method: string;
	/** As sent, but for an origin before it: `/v1.41/containers/json?all=1`. */
	target: string;
	/** The target without its query. */
	path: string;
}

export interface ResponseHead extends Head {
	status: number;
}

/**
 * @param searched bytes at the front that an earlier call has seen already
 * @returns the index just after the head's empty line, or -1 when it is not there yet
 * @throws Malformed the head is over `MAX_HEAD`
 */
export function headEnd(bytes: Buffer, from = 0, searched = 0): number {
	const at = bytes.indexOf(HEAD_END, Math.max(from, searched - 3));
	const size = (at < 0 ? bytes.length : at) - from;
	if (size > MAX_HEAD) {
		throw new Malformed(`the request's headers are over ${MAX_HEAD} bytes`);
	}
	return at < 0 ? -1 : at + HEAD_END.length;
}

/** Whether bytes that hold no whole head yet can still become a request. */
export function mayBecomeRequest(bytes: Buffer): boolean {
	const line = bytes.toString("latin1", 0, 8192).split("\r\n", 1)[0] ?? "";
	return /^[!#$%&'*+\-.^_`|~0-9A-Za-z]*( [\x21-\x7e\x80-\xff]*( [HTP/1.0]*)?)?\r?$/.test(
		line,
	);
}

/**
 * @param text a head in latin1, up to and with the CRLF of its last line
 * @throws Malformed
 */
export function parseRequestHead(text: string): RequestHead {
	const line = REQUEST_LINE.exec(text);
	if (!line) throw new Malformed("the request line is not HTTP/1.1");
	const [start, method = "", sent = "", minor] = line;
	const target = withoutOrigin(sent);
	const head = parseFields(text, start.length, minor === "1");
	return {
		text,
		method,
		target,
		path: target.split("?", 1)[0] as string,
		// a request without a length has no body
		bodyLength: head.bodyLength ?? 0,
		keepAlive: head.keepAlive,
	};
}

/**
 * @param text as for `parseRequestHead`
 * @param method of the request that this answers: the answer to HEAD has no body
 * @throws Malformed
 */
export function parseResponseHead(text: string, method: string): ResponseHead {
	const line = STATUS_LINE.exec(text);
	if (!line) throw new Malformed("the status line is not HTTP/1.1");
	const status = Number(line[2]);
	const head = parseFields(text, line[0].length, line[1] === "1");
	const bodyless =
		method === "HEAD" || status < 200 || status === 204 || status === 304;
	return {
		text,
		status,
		bodyLength: bodyless ? 0 : (head.bodyLength ?? UNTIL_CLOSE),
		keepAlive: head.keepAlive,
	};
}

/** Content-Length and Transfer-Encoding that disagree are how requests are smuggled: RFC 9112, 6.3. */
function parseFields(text: string, from: number, http11: boolean) {
	let length: number | undefined;
	let chunked = false;
	let keepAlive = http11;
	FIELD.lastIndex = from;
	while (FIELD.lastIndex < text.length) {
		const at = FIELD.lastIndex;
		const field = FIELD.exec(text);
		if (!field) throw new Malformed(`a header is malformed at byte ${at}`);
		const [, name = "", value = ""] = field;
		switch (name.length) {
			case 10: // Connection
				if (name.toLowerCase() !== "connection") break;
				if (/\bclose\b/i.test(value)) keepAlive = false;
				else if (/\bkeep-alive\b/i.test(value)) keepAlive = true;
				break;
			case 14: // Content-Length
				if (name.toLowerCase() !== "content-length") break;
				length = parseLength(value, length);
				break;
			case 17: // Transfer-Encoding
				if (name.toLowerCase() !== "transfer-encoding") break;
				if (chunked || !http11 || value.trim().toLowerCase() !== "chunked") {
					throw new Malformed(`Transfer-Encoding "${value}" is not understood`);
				}
				chunked = true;
		}
	}
	if (chunked && length !== undefined) {
		throw new Malformed("both Content-Length and Transfer-Encoding are given");
	}
	return { bodyLength: chunked ? CHUNKED : length, keepAlive };
}

function parseLength(value: string, before: number | undefined): number {
	const digits = value.trim();
	if (!/^\d{1,15}$/.test(digits)) {
		throw new Malformed(`Content-Length "${value}" is not a number`);
	}
	const length = Number(digits);
	if (before !== undefined && before !== length) {
		throw new Malformed("two Content-Lengths are given");
	}
	return length;
}

/** The engine takes absolute targets too, so hooks and the router must see through them. */
function withoutOrigin(target: string): string {
	if (target[0] === "/" || target === "*") return target;
	const origin = /^https?:\/\/[^/?#]+/i.exec(target);
	if (!origin) {
		throw new Malformed(`the request's target "${target}" is no path`);
	}
	const rest = target.slice(origin[0].length);
	return rest[0] === "/" ? rest : `/${rest}`;
}

/** The value of a head's first field of this name, any case; undefined when it has none. */
export function field(head: Head, name: string): string | undefined {
	return new RegExp(`^${name}:(.*)\\r$`, "im").exec(head.text)?.[1]?.trim();
}

/** The type of a head's body, in small letters and without parameters; undefined when it says none. */
export function mediaType(head: Head): string | undefined {
	return field(head, "content-type")?.split(";", 1)[0]?.trim().toLowerCase();
}

/**
 * The same head about another body: other fields keep their case and place.
 *
 * @param startLine without its CRLF; undefined keeps the one it has
 * @param bodyLength undefined: no body, and nothing is said about one
 * @param fields further fields to replace, by name as they shall be written
 * @returns bytes ready to send, the empty line with them
 */
export function rewriteHead(
	head: Head,
	startLine: string | undefined,
	bodyLength: number | undefined,
	fields: Record<string, string> = {},
): Buffer {
	const [first, ...lines] = head.text.slice(0, -2).split("\r\n");
	const wanted: Record<string, string> = { ...fields };
	if (bodyLength !== undefined) wanted["Content-Length"] = String(bodyLength);
	const out = [startLine ?? first];
	for (const line of lines) {
		const name = line.slice(0, line.indexOf(":")).toLowerCase();
		const key = Object.keys(wanted).find((key) => key.toLowerCase() === name);
		if (key) {
			out.push(`${line.slice(0, name.length)}: ${wanted[key]}`);
			delete wanted[key];
		} else if (!ABOUT_THE_BODY.has(name)) out.push(line);
	}
	for (const key in wanted) out.push(`${key}: ${wanted[key]}`);
	return Buffer.from(`${out.join("\r\n")}\r\n\r\n`, "latin1");
}

/** `expect` with them: who has the body already need not ask to send it. */
const ABOUT_THE_BODY = new Set([
	"content-length",
	"transfer-encoding",
	"trailer",
	"expect",
]);
