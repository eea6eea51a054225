/** Bytes that may be read before their memory is collected: what a collection costs is little beside reading them. */
const YOUNG = 8 * 2 ** 20;

let read = 0;

/**
 * Tells of bytes that a client has sent and that nobody needs once they are written. Node reads each piece into memory
 * of its own; V8 counts that against the whole heap and, every so many megabytes, walks all that lives to find it,
 * which took half of the processor time of an upload. A look at what is young finds the same.
 * It is there only under `--expose-gc`, with which the arpanet command runs itself.
 */
export function readAndWritten(bytes: number): void {
	read += bytes;
	if (read < YOUNG) return;
	read = 0;
	globalThis.gc?.({ type: "minor", execution: "sync" });
}
