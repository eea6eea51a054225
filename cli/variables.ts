import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { keyAndValue } from "../pipeline/docker.ts";
import { isObject } from "../pipeline/json.ts";

type Variables = Record<string, string | undefined>;

/** What is replaced in a text; what stands after the mark may have references in it, and these once more. */
const REFERENCE =
	/\$(?:(\$)|(\w+)|\{(\w+)(?:(:?)([-+?])((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*))?\})/g;

/** The variables in a folder's `.env`; none if it has no such file. */
export async function dotEnv(folder: string): Promise<Record<string, string>> {
	const text = await readFile(join(folder, ".env"), "utf8").catch(() => "");
	return Object.fromEntries(
		text
			.split("\n")
			.filter((line) => /^\s*[a-z_]\w*=/i.test(line))
			.map((line) => keyAndValue(line.trim()))
			.map(([name, value]) => [name, unquoted(value)]),
	);
}

/** A value without its quotes, or without the comment that follows it. */
function unquoted(value: string): string {
	const [, , quoted] = /^\s*(["'])(.*?)\1/.exec(value) ?? [];
	return quoted ?? value.replace(/(^|\s)#.*/, "").trim();
}

/** A Compose file's content with `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME:+instead}` and `$$` in its texts as what they stand for. */
export function expanded(value: unknown, variables: Variables): unknown {
	if (typeof value === "string") return expandedText(value, variables);
	if (Array.isArray(value)) {
		return value.map((each) => expanded(each, variables));
	}
	if (!isObject(value)) return value;
	return Object.fromEntries(
		Object.entries(value).map(([key, each]) => [
			key,
			expanded(each, variables),
		]),
	);
}

function expandedText(text: string, variables: Variables): string {
	return text.replaceAll(
		REFERENCE,
		(_, dollar, plain, braced, colon, mark, word) => {
			if (dollar) return "$";
			const found = variables[plain ?? braced];
			const missing = colon ? !found : found === undefined;
			if (mark === "+") return missing ? "" : expandedText(word, variables);
			if (!missing) return found ?? "";
			return mark === "-" ? expandedText(word, variables) : "";
		},
	);
}
