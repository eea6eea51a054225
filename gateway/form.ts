import { BodyReader } from "./body-reader.ts";
import type { Incoming } from "./connection.ts";
import {
	mediaType,
	parseRequestHead,
	type RequestHead,
	rewriteHead,
} from "./http1.ts";

/** Whether a request may say in its body what else stands in a query: the engine reads both (Go, net/http, `ParseForm`). */
export function isForm(head: RequestHead): boolean {
	return (
		head.bodyLength !== 0 &&
		/^(POST|PUT|PATCH)$/.test(head.method) &&
		mediaType(head) === "application/x-www-form-urlencoded"
	);
}

/**
 * The same request with its form in the query, where hooks and the router see it. The form comes first, since it counts first.
 * @param form the body of `incoming`
 */
export function withForm(incoming: Incoming, form: Buffer): Incoming {
	const { method, path, target, text } = incoming.head;
	const query = target.slice(path.length + 1);
	const said = form.toString("latin1").replace(/[^!-~]|#/g, encodeByte);
	const all = [said, query].filter(Boolean).join("&");
	const version = text.slice(0, text.indexOf("\r\n")).slice(-8);
	const line = `${method} ${path}${all && `?${all}`} ${version}`;
	const sent = rewriteHead(incoming.head, line, 0);
	return {
		head: parseRequestHead(sent.toString("latin1", 0, sent.length - 2)),
		sent,
		headSize: sent.length,
		body: new BodyReader(0),
		early: incoming.early,
	};
}

function encodeByte(char: string): string {
	return `%${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
}
