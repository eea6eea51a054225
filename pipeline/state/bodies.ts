import { randomUUID } from "node:crypto";
import type { ContainerCreate, EndpointSettings } from "../docker.ts";

/** Where stands what containers are made from that may be started elsewhere. */
export const BODIES = "arpanet/bodies/";

/**
 * What a container was made from that is to be started elsewhere when its host is lost, under
 * `arpanet/bodies/<name>/<id>`: its engine cannot be asked then. Apart from its record, which every look at all
 * containers reads.
 */
export interface Body {
	/** As the client sent it. */
	create: ContainerCreate;
	/** What it was connected with since, by the networks' names. */
	connected: Record<string, EndpointSettings>;
}

/** A key for the body of a container; no other ever has it, whatever the container is called later. */
export function newBodyKey(name: string): string {
	return `${BODIES}${name}/${randomUUID()}`;
}

/** Whether a key is that of a container's body. */
export function isBody(key: string): boolean {
	return key.startsWith(BODIES);
}
