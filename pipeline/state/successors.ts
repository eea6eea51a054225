import type { Facts } from "../plugin.ts";

/** What tells whether two containers are one copy that is made anew. */
export type Identity = {
	container: string;
	/** The name that it had before it was renamed. */
	was?: string;
} & Pick<Facts, "deployment" | "service" | "index" | "indexFrom">;

/**
 * Whether one of two containers takes the other's place. Compose makes a container anew beside the old one and puts the old id
 * before one of the two names; after another Compose (`abc-db-1` for `abc_db_1`) or with another `container_name` its number alone is the same.
 * By hand, and with Portainer, the old one is renamed and the new one made under the name that it had.
 */
export function isSuccessor(a: Identity, b: Identity): boolean {
	const others = marks(b);
	return marks(a).some((mark) => others.includes(mark));
}

/** What a container and its successor have in common: the one, or the other. */
export function marks({
	container,
	was,
	deployment,
	service,
	index,
	indexFrom,
}: Identity): string[] {
	const names = [container, ...(was ? [was] : [])].map(withoutId);
	return service && index !== undefined && !indexFrom
		? [...names, `${deployment} ${service} ${index}`]
		: names;
}

/** `abc_web_1` for `0123456789ab_abc_web_1`: Compose puts the old container's id before its name. */
export function withoutId(name: string): string {
	return name.replace(/^[0-9a-f]{12}_/, "");
}
