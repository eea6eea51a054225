import type { Facts } from "../plugin.ts";

/** What tells whether two containers are one copy that is made anew. */
export type Identity = { container: string } & Pick<
	Facts,
	"deployment" | "service" | "index" | "indexFrom"
>;

/**
 * Whether one of two containers takes the other's place. Compose makes a container anew beside the old one and puts the old id
 * before one of the two names; after another Compose (`abc-db-1` for `abc_db_1`) or with another `container_name` its number alone is the same.
 */
export function isSuccessor(a: Identity, b: Identity): boolean {
	const others = marks(b);
	return marks(a).some((mark) => others.includes(mark));
}

/** What a container and its successor have in common: the one, or the other. */
export function marks({
	container,
	deployment,
	service,
	index,
	indexFrom,
}: Identity): string[] {
	const name = withoutId(container);
	return service && index !== undefined && !indexFrom
		? [name, `${deployment} ${service} ${index}`]
		: [name];
}

/** By which a container is known that was renamed: by hand, and with Portainer, the new one is made under the name that it had. */
export function formerMark(was: string, deployment = ""): string {
	return `${deployment}/${was}`;
}

/** `abc_web_1` for `0123456789ab_abc_web_1`: Compose puts the old container's id before its name. */
export function withoutId(name: string): string {
	return name.replace(/^[0-9a-f]{12}_/, "");
}
